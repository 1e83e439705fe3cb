import io
import logging
from collections.abc import Callable
from typing import Any

import pytest
import werkzeug.exceptions
from flask import Flask, Response, abort, redirect
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse

from brainscan.scan.formats import list_media_types
from tumorapp import create_app, problems

Form = Callable[..., dict[str, Any]]

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def problem(response: TestResponse, status: int) -> dict[str, Any]:
    """Check that a response is a whole problem and give it."""
    assert response.status_code == status, response.get_data(as_text=True)
    assert response.mimetype == "application/problem+json"
    found = response.get_json(force=True)
    assert found["status"] == status
    assert found["type"] == f"urn:problem-type:tumorapp:{found['code']}"
    assert found["title"]
    assert found["detail"]
    assert "Traceback" not in found["detail"]
    return found


def save(picture: Image.Image, file_format: str = "PNG") -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format)
    return file.getvalue()


def unreadable(scan: bytes) -> dict[str, tuple[bytes, str]]:
    """Give files that are not scans, and the code of what is said of each."""
    return {
        "empty": (b"", "empty-file"),
        "signature-only": (b"\xff\xd8\xff", "damaged-image"),
        "text": (b"glioma, certainly", "not-an-image"),
        "truncated": (scan[: len(scan) // 2], "damaged-image"),
        "one-pixel": (save(Image.new("L", (1, 1), 9)), "image-too-small"),
        "black": (save(Image.new("L", (200, 200), 0)), "blank-image"),
        "gif": (save(Image.new("L", (200, 200), 0), "GIF"), "format-not-read"),
    }


@pytest.mark.parametrize("kind", unreadable(b""))
@pytest.mark.parametrize("as_body", [False, True], ids=["form", "body"])
def test_a_file_that_is_no_scan(client: FlaskClient, scan: bytes, kind: str, as_body: bool) -> None:
    data, code = unreadable(scan)[kind]
    sent: dict[str, Any] = {"data": {"image": FileStorage(io.BytesIO(data), "bad.jpg")}}
    if as_body:
        sent = {"data": data, "content_type": "image/jpeg"}
    found = problem(client.post("/api/predict", **sent), 422)
    assert found["code"] == code
    assert found["detail"].startswith("body: " if as_body else "bad.jpg: ")
    if code in ("empty-file", "not-an-image", "format-not-read"):
        assert found["accepted"] == list(list_media_types())


def test_a_decompression_bomb(client: FlaskClient) -> None:
    bomb = save(Image.new("1", (20_000, 20_000)))
    assert len(bomb) < 200_000
    found = problem(client.post("/api/predict", data=bomb, content_type="image/png"), 413)
    assert found["code"] == "image-too-large"
    assert found["detail"] == (
        "body: The image has 20,000 × 20,000 pixels. Accepted: at most 50,000,000 in all. Send a "
        "smaller copy."
    )


def test_a_request_over_the_size_limit(
    app: Flask, draw_scan: Callable[..., bytes], form: Form
) -> None:
    limits = {"MAX_PIXELS": 10_000, "MAX_UPLOAD_MB": 1}
    client = create_app({"MODELS_DIR": app.config["MODELS_DIR"], **limits}).test_client()
    data = draw_scan("PNG", width=101, height=100)
    found = problem(client.post("/api/predict", data=data, content_type="image/png"), 413)
    assert "101 × 100 pixels. Accepted: at most 10,000 " in found["detail"]
    body = {"data": bytes(2**20 + 1), "content_type": "image/jpeg"}
    for sent in (form(("image", "big.jpg", bytes(2**20))), body):
        found = problem(client.post("/api/predict", **sent), 413)
        assert found["code"] == "request-too-large"
        assert found["accepted"] == ["at most 1 MB", "images: at most 16"]


def test_too_many_images(client: FlaskClient, scan: bytes, form: Form) -> None:
    parts = [("image", f"{index}.jpg", scan) for index in range(17)]
    found = problem(client.post("/api/predict", **form(*parts)), 413)
    assert found["code"] == "too-many-images"
    assert "17" in found["detail"]
    assert found["accepted"] == ["images: at most 16"]


@pytest.mark.parametrize(
    "parts",
    [
        [(f"field{index}", None, b"x") for index in range(10_000)],
        [("image", "x.jpg", b"x")] * 10_000,
        [("model", None, b"x" * 600_000)],
    ],
    ids=["fields", "files", "long-text"],
)
def test_a_form_of_too_much(
    client: FlaskClient, parts: list[tuple[str, str | None, bytes]], form: Form
) -> None:
    found = problem(client.post("/api/predict", **form(*parts)), 413)
    assert found["code"] == "request-too-large"


@pytest.mark.parametrize(
    "name",
    [
        "\N{BRAIN}\N{ZERO WIDTH JOINER}.jpg",
        "<script>alert(1)</script>.jpg",
        "../../../etc/passwd",
        "x" * 10_000,
        "\x00.jpg",
        "%00%0d%0a",
    ],
)
def test_odd_file_names(client: FlaskClient, scan: bytes, form: Form, name: str) -> None:
    good = client.post("/api/predict", **form(("image", name, scan)))
    bad = client.post("/api/predict", **form(("image", name, b"x")))
    assert good.status_code in (200, 400)
    assert good.mimetype in ("application/json", "application/problem+json")
    problem(bad, 422 if good.status_code == 200 else 400)


def test_an_unknown_model(client: FlaskClient, scan: bytes) -> None:
    found = problem(
        client.post("/api/predict?model=../../etc", data=scan, content_type="image/jpeg"), 404
    )
    assert found["code"] == "unknown-model"
    assert "'../../etc'" in found["detail"]
    assert found["accepted"] == ["binary-cnn", "mobilenet-v2"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ("heatmap=maybe", "invalid-option"),
        ("heatmap=", "invalid-option"),
        (f"model={'m' * 101}", "invalid-option"),
        ("heatmap=1&heatmap=0", "repeated-option"),
        ("heatmaps=1", "unknown-option"),
    ],
)
@pytest.mark.parametrize("in_form", [False, True])
def test_a_bad_option(
    client: FlaskClient, scan: bytes, form: Form, options: str, code: str, in_form: bool
) -> None:
    sent: dict[str, Any] = {"data": scan, "content_type": "image/jpeg"}
    if in_form:
        pairs = [pair.split("=") for pair in options.split("&")]
        parts = [(name, None, value.encode()) for name, value in pairs]
        sent, options = form(("image", "a.jpg", scan), *parts), ""
    found = problem(client.post(f"/api/predict?{options}", **sent), 400)
    assert found["code"] == code
    assert [text.partition(":")[0] for text in found["accepted"]] == ["model", "heatmap", "strict"]


@pytest.mark.parametrize(
    ("sent", "code", "word"),
    [
        ({}, "missing-image", "Fields received: none"),
        ({"data": {"model": "binary-cnn"}}, "missing-image", "Fields received: model"),
        ({"data": {"scan": (io.BytesIO(b"x"), "x.jpg")}}, "missing-image", "received: scan"),
        ({"data": {"image": "/home/me/scan.jpg"}}, "image-is-text", ""),
        ({"data": {"image": (io.BytesIO(b""), "")}}, "no-file-chosen", ""),
        ({"data": b"x", "content_type": "multipart/form-data"}, "no-boundary", ""),
        ({"data": b"x", "content_type": "multipart/form-data; boundary=y"}, "missing-image", ""),
    ],
    ids=["nothing", "only-a-model", "other-name", "text", "no-choice", "no-boundary", "no-parts"],
)
def test_a_missing_image(client: FlaskClient, sent: Any, code: str, word: str) -> None:
    found = problem(client.post("/api/predict", **sent), 400)
    assert found["code"] == code
    assert word in found["detail"]
    assert "image" in found["accepted"][0]


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", None])
@pytest.mark.parametrize("times", [1, 100], ids=["small", "large"])
def test_an_image_sent_without_its_type(
    client: FlaskClient, scan: bytes, kind: str | None, times: int
) -> None:
    data = scan * times
    response = client.post("/api/predict", data=data, content_type=kind)
    found = problem(response, 415)
    assert found["code"] == "untyped-body"
    assert f"{len(data):,} bytes of {f'type {kind}' if kind else 'no type'}" in found["detail"]
    assert "-H 'Content-Type: image/jpeg'" in found["detail"]


@pytest.mark.parametrize("kind", ["text/plain", "nonsense"])
def test_a_body_of_another_type(client: FlaskClient, scan: bytes, kind: str) -> None:
    found = problem(client.post("/api/predict", data=scan, content_type=kind), 415)
    assert found["code"] == "unsupported-body"
    assert kind in found["detail"]


@pytest.mark.parametrize("method", ["GET", "DELETE", "NONSENSE"])
def test_a_wrong_method(client: FlaskClient, method: str) -> None:
    response = client.open("/api/predict", method=method)
    found = problem(response, 405)
    assert response.allow == {"POST", "OPTIONS"}
    assert found["code"] == "method-not-allowed"
    assert found["accepted"] == ["OPTIONS", "POST"]


@pytest.mark.parametrize("path", ["/api", "/api/predict/", "/nothing", "/%00", "/%ff"])
def test_an_unknown_path(client: FlaskClient, path: str) -> None:
    assert problem(client.get(path), 404)["code"] == "not-found"


@pytest.mark.parametrize("status", [400, 406, 418, 429, 500, 504])
def test_every_status_has_one_shape(app: Flask, status: int) -> None:
    known = werkzeug.exceptions.default_exceptions
    with app.test_request_context("/api/x"):
        error = known[status]() if status in known else werkzeug.exceptions.HTTPException()
        error.code = status
        found = problems.answer_problem(error)
    assert isinstance(found, Response)
    problem(TestResponse(found.response, found.status, found.headers, None), status)


def failing_app(app: Flask) -> Flask:
    """Give an application that shares the models and has views that fail."""
    failing = create_app({"MODELS_DIR": app.config["MODELS_DIR"], "PROPAGATE_EXCEPTIONS": False})
    failing.add_url_rule("/crash", "crash", view_func=lambda: 1 / 0)
    failing.add_url_rule("/api/crash", "api_crash", view_func=lambda: 1 / 0)
    failing.add_url_rule("/moved", "moved", view_func=lambda: abort(redirect("/")))
    return failing


def test_an_unforeseen_error_is_logged_and_says_nothing_of_the_inside(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    client = failing_app(app).test_client()
    with caplog.at_level(logging.ERROR):
        found = problem(client.get("/api/crash"), 500)
    assert "division" not in str(found)
    assert any(
        record.exc_info and record.exc_info[0] is ZeroDivisionError for record in caplog.records
    )
    page = client.get("/crash", headers={"Accept": BROWSER})
    assert page.status_code == 500
    assert page.mimetype == "text/html"
    assert "division" not in page.get_data(as_text=True)


def test_what_is_not_a_problem(app: Flask) -> None:
    client = failing_app(app).test_client()
    moved = client.get("/moved")
    assert (moved.status_code, moved.location) == (302, "/")
    assert client.head("/api/models").status_code == 200
    assert client.options("/api/predict").allow == {"POST", "OPTIONS"}


@pytest.mark.parametrize(
    ("path", "accept", "expected"),
    [
        ("/nothing", BROWSER, "text/html"),
        ("/nothing", "*/*", "application/problem+json"),
        ("/nothing", "application/json", "application/problem+json"),
        ("/nothing", "text/html, application/json;q=0.5", "text/html"),
        ("/nothing", "", "application/problem+json"),
        ("/api/nothing", BROWSER, "application/problem+json"),
    ],
)
def test_people_get_a_page_and_programs_get_json(
    client: FlaskClient, path: str, accept: str, expected: str
) -> None:
    response = client.get(path, headers={"Accept": accept})
    assert response.status_code == 404
    assert response.mimetype == expected


@pytest.mark.parametrize("accept", [BROWSER, "*/*"])
@pytest.mark.parametrize("path", ["/", "/nothing", "/api/models"])
@pytest.mark.parametrize("host", ["x" * 300, "[::1", "\xff"])
def test_a_host_that_is_none(client: FlaskClient, host: str, path: str, accept: str) -> None:
    response = client.get(path, environ_overrides={"HTTP_HOST": host, "HTTP_ACCEPT": accept})
    assert response.status_code in (200, 400, 404)


def test_a_page_escapes_what_it_repeats(client: FlaskClient) -> None:
    response = client.get("/<script>alert(1)</script>", headers={"Accept": BROWSER})
    assert b"<script>alert" not in response.data
    assert b"&lt;script&gt;" in response.data
