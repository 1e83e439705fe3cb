import io
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, Request, Response
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.test import EnvironBuilder

from brainscan import ImageFile, Problem
from tumorapp.uploads import DISCARDED_TIMES, ScanRequest, discard_rest, read_files

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


class EndlessBody(io.RawIOBase):
    """A body that never ends, and counts what is read of it."""

    def __init__(self) -> None:
        self.taken = 0

    def read(self, size: int = -1) -> bytes:
        self.taken += size
        return bytes(size)


class LostBody(io.RawIOBase):
    """A body whose sender has gone."""

    def read(self, size: int = -1) -> bytes:
        raise ConnectionResetError


@pytest.mark.parametrize(("status", "ends"), [(413, True), (413, False), (422, True)])
def test_the_rest_of_a_refused_body_is_read_within_bounds(
    app: Flask, status: int, ends: bool
) -> None:
    body = EndlessBody()
    environ = EnvironBuilder(method="POST").get_environ() | {"wsgi.input": body}
    if ends:
        environ["wsgi.input_terminated"] = True
    with app.request_context(environ):
        assert discard_rest(Response(status=status)).status_code == status
    expected = DISCARDED_TIMES * 20 * 2**20 if (status, ends) == (413, True) else 0
    assert body.taken == expected


def test_a_sender_that_has_gone_is_no_error(app: Flask) -> None:
    environ = EnvironBuilder(method="POST").get_environ()
    environ |= {"wsgi.input": LostBody(), "wsgi.input_terminated": True}
    with app.request_context(environ):
        assert discard_rest(Response(status=413)).status_code == 413
