import io
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, Request
from flask.testing import FlaskClient
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.test import EnvironBuilder

from brainscan import ImageFile, Problem
from tumorapp.uploads import ScanRequest, read_files

Form = Callable[..., dict[str, Any]]


def received(**sent: Any) -> Request:
    return ScanRequest(EnvironBuilder(method="POST", **sent).get_environ())


def test_the_parts_named_image_in_their_order(form: Form) -> None:
    request = received(
        **form(
            ("image", "b.jpg", b"1"),
            ("other", "c.jpg", b"2"),
            ("model", None, b"binary-cnn"),
            ("image", "a.jpg", b"3"),
            ("image", "b.jpg", b"4"),
        )
    )
    assert read_files(request, 3) == [
        ImageFile("b.jpg", b"1"),
        ImageFile("a.jpg", b"3"),
        ImageFile("b.jpg", b"4"),
    ]


@pytest.mark.parametrize(
    ("sent", "name"),
    [(r"a\b.jpg", r"a\b.jpg"), (r"a\\b.jpg", r"a\b.jpg"), (r"a\"b\c.jpg", r'a"b\c.jpg')],
)
def test_a_backslash_stays_in_a_name(sent: str, name: str) -> None:
    head = f'Content-Disposition: form-data; name="image"; filename="{sent}"'
    body = f"--b\r\n{head}\r\n\r\n1\r\n--b--\r\n"
    request = received(data=body, content_type="multipart/form-data; boundary=b")
    assert read_files(request, 1) == [ImageFile(name, b"1")]


@pytest.mark.parametrize("field", ["image[]", "file"])
def test_other_names_of_the_field(form: Form, field: str) -> None:
    request = received(**form((field, "a.jpg", b"1"), (field, "b.jpg", b"2")))
    assert read_files(request, 2) == [ImageFile("a.jpg", b"1"), ImageFile("b.jpg", b"2")]
    with pytest.raises(Problem, match=r"field (image\[\]|file) holds text"):
        read_files(received(data={field: "a.jpg"}), 1)


class TestJson:
    def test_base_64_and_data_urls(self) -> None:
        sent = [
            {"name": "a\u202e.png", "data": "MTI="},
            {"data": "data:image/png;base64,MTI="},
            {"name": "c.jpg", "data": "DATA:;BASE64,M\nTI=\r\n", "type": "image/jpeg"},
        ]
        request = received(json={"images": sent, "model": "m", "heatmap": True, "strict": None})
        names = [file.name for file in read_files(request, 3)]
        assert names == ["a\ufffd.png", "image 2", "c.jpg"]
        assert {file.data for file in read_files(request, 3)} == {b"12"}
        assert request.values.to_dict() == {"model": "m", "heatmap": "true"}

    @pytest.mark.parametrize(
        "data", ["M", "MTI", "http://a.example/b.png", "data:image/png,MTI=", "é", "M-_="]
    )
    def test_what_is_not_base_64(self, data: str) -> None:
        request = received(json={"images": [{"data": "MTI="}, {"name": "b.png", "data": data}]})
        with pytest.raises(Problem, match=r"b\.png: The data is not base64") as caught:
            read_files(request, 2)
        assert caught.value.status == 400

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"\xff\xd8\xff",
            b"[]",
            b"{}",
            b'{"images": []}',
            b'{"images": "MTI="}',
            b'{"images": ["MTI="]}',
            b'{"images": [{"name": "a"}]}',
            b'{"images": [{"data": 5}]}',
            b'{"images": [{"data": "MTI="}], "model": "\\ud800"}',
            b'{"images": ' + b"[" * 100_000,
            b'{"images": [{"data": "MTI="}], "x": ' + b"[" * 100_000,
        ],
    )
    def test_what_holds_no_images(self, body: bytes) -> None:
        request = received(data=body, content_type="application/json")
        with pytest.raises(Problem, match=r"The JSON cannot be read: .*\. Accepted: \{") as caught:
            read_files(request, 1)
        assert caught.value.status == 400

    def test_too_many(self, client: FlaskClient) -> None:
        sent = {"images": [{"data": "MTI="}] * 17}
        assert client.post("/api/predict", json=sent).get_json()["code"] == "too-many-images"
        many = b'{"images": [{"data": "MTI="}]' + b"".join(b',"%d":0' % n for n in range(10**5))
        answer = client.post("/api/predict", data=many + b"}", content_type="application/json")
        assert answer.status_code == 413

    def test_a_data_url_over_the_limit(self, client: FlaskClient) -> None:
        body = b'{"images": [{"data": "data:image/png;base64,' + b"A" * 30 * 2**20 + b'"}]}'
        sent = {"input_stream": io.BytesIO(body), "content_type": "application/json"}
        whole = client.post("/api/predict", **sent, content_length=len(body))
        sent["input_stream"].seek(0)
        chunked = client.post(
            "/api/predict", **sent, environ_overrides={"wsgi.input_terminated": True}
        )
        for answer in (whole, chunked):
            assert answer.status_code == 413
            assert "at most 20 MB" in answer.get_json()["detail"]


def test_a_part_without_a_name_gets_one(form: Form) -> None:
    request = received(**form(("image", "a.jpg", b"1"), ("image", "", b"2")))
    assert [file.name for file in read_files(request, 2)] == ["a.jpg", "image 2"]


def test_a_name_shows_what_it_hides(form: Form) -> None:
    names = {
        "a\x1b[31m.png": "a\ufffd[31m.png",
        "scan\u202egnp.exe": "scan\ufffdgnp.exe",
        "\u2067x\u2069\u200f\u2028\x85.png": "\ufffdx\ufffd\ufffd\ufffd\ufffd.png",
        "\u05e9\u05dc\u05d5\u05dd \u06cc\u06a9\u200c\u062f\u0648.png": None,  # Hebrew, Persian
    }
    request = received(**form(*(("image", name, b"1") for name in names)))
    found = [file.name for file in read_files(request, len(names))]
    assert found == [shown or name for name, shown in names.items()]


@pytest.mark.parametrize(
    "content_type", ["IMAGE/PNG", "image/x-unknown; q=1", "application/octet-stream"]
)
def test_a_raw_body(content_type: str) -> None:
    request = received(data=b"pixels", content_type=content_type)
    assert read_files(request, 1) == [ImageFile("body", b"pixels")]


def test_a_part_without_a_field_name() -> None:
    body = b"--b\r\nContent-Disposition: form-data; filename=x\r\n\r\nx\r\n--b--\r\n"
    request = received(data=body, content_type="multipart/form-data; boundary=b")
    with pytest.raises(Problem, match="no file in a field named image"):
        read_files(request, 1)


def test_a_body_in_chunks_that_is_too_long_is_not_cut_silently(app: Flask) -> None:
    # As a server that marks the end of a body gives it; there is no Content-Length.
    environ = EnvironBuilder(method="POST", content_type="image/jpeg").get_environ()
    environ |= {"wsgi.input": io.BytesIO(bytes(21 * 2**20)), "wsgi.input_terminated": True}
    with app.app_context(), pytest.raises(RequestEntityTooLarge):
        read_files(ScanRequest(environ), 1)


class UnreadBody(io.BytesIO):
    """A body that must not be read."""

    def readinto(self, _: Any) -> int:
        pytest.fail("The body was read.")


FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("text", [b"a&" * 2**17, b"%41" * 2**16], ids=["many", "long"])
@pytest.mark.parametrize("path", ["/", "/how", "/many", "/api/predict", "/api/report"])
@pytest.mark.parametrize("accept", ["*/*", "text/html"])
def test_a_form_of_text_is_bounded(
    client: FlaskClient, path: str, text: bytes, accept: str
) -> None:
    answer = client.post(path, data=text, content_type=FORM, headers={"Accept": accept})
    assert answer.status_code == 413
    # In chunks, without a length.
    answer = client.post(
        path,
        input_stream=io.BytesIO(text),
        content_type=FORM,
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert answer.status_code == 413


def test_a_form_of_text_that_is_too_long_is_not_read(client: FlaskClient) -> None:
    answer = client.post("/", input_stream=UnreadBody(bytes(2**20)), content_type=FORM)
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", path) for path in ("/", "/how", "/api/predict", "/metrics", "/static/page.css")),
        *(("HEAD", path) for path in ("/", "/how")),
        *(("POST", path) for path in ("/nothing", "/api/models", "/api/jobs", "/models")),
        ("DELETE", "/api/jobs/1"),
        ("PUT", "/api/predict"),
    ],
)
def test_what_takes_no_form_reads_none(client: FlaskClient, method: str, path: str) -> None:
    sent = {"input_stream": UnreadBody(b"a=b"), "content_type": FORM}
    with client.open(path, method=method, **sent) as answer:
        assert answer.status_code < 500
