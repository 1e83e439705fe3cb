"""What a job is made of: archives and forms that are refused, and what is never unpacked."""

import io
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from brainscan import ImageFile, ScanError
from tests.tumorapp.jobs import list_uploads
from tests.volumes import pack
from tumorapp.jobs.job import Scan
from tumorapp.jobs.material import Limits, MaterialReader
from tumorapp.jobs.runner import Jobs

Form = Callable[..., dict[str, Any]]
LIMITS = Limits(bytes=2**20, images=10, image_bytes=2**19)
ONE = pack(("a.jpg", b"x"))


@pytest.fixture
def client(jobs_app: Flask) -> FlaskClient:
    return jobs_app.test_client()


def patch(archive: bytes, offset: int, value: bytes) -> bytes:
    """Change the first entry of an archive's directory at an offset."""
    start = archive.index(b"PK\x01\x02") + offset
    return archive[:start] + value + archive[start + len(value) :]


@pytest.mark.parametrize(
    ("archive", "status", "code"),
    [
        (b"", 422, "unreadable-archive"),
        (pack(("folder/", b""), (".hidden", b"x")), 422, "empty-archive"),
        (patch(ONE, 8, b"\x01"), 422, "encrypted-archive"),
        (pack(("a.jpg", b"x"), method=zipfile.ZIP_LZMA), 422, "unsupported-archive"),
        (pack(*((f"{n}.jpg", b"x") for n in range(11))), 413, "job-too-large"),
        (patch(ONE, 24, struct.pack("<I", 2**31)), 413, "job-too-large"),
        (pack(*((f"{n}/", b"") for n in range(2000))), 413, "job-too-large"),
        (bytes(2**20 + 1), 413, "job-too-large"),
    ],
    ids=range(8),
)
def test_archives_that_are_refused(
    client: FlaskClient, jobs: Jobs, archive: bytes, status: int, code: str
) -> None:
    response = client.post("/api/jobs", data=archive, content_type="application/zip")
    assert response.status_code == status
    assert response.mimetype == "application/problem+json"
    assert response.get_json()["code"] == code
    assert list_uploads(jobs) == set()


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([], 400),
        ([("archive", "a.zip", ONE), ("image", "b.jpg", b"x")], 400),
        ([("image", "a.jpg", b"x"), ("heatmap", None, b"1")], 400),
        ([("image", "a.jpg", b"x"), ("colour", None, b"red")], 400),
        ([("image", "a.jpg", b"x"), ("model", None, b"vgg")], 404),
        ([("image", "a.jpg", b"x")] * 11, 413),
        ([("image", "a.jpg", bytes(2**20))], 413),
    ],
)
def test_forms_that_are_refused(
    client: FlaskClient, jobs: Jobs, form: Form, parts: Any, status: int
) -> None:
    response = client.post("/api/jobs", **form(*parts))
    assert response.status_code == status, response.get_data(as_text=True)
    assert list_uploads(jobs) == set()


def test_bodies_of_another_type_are_refused(client: FlaskClient) -> None:
    response = client.post("/api/jobs", data=b"x", content_type="image/jpeg")
    assert (response.status_code, response.get_json()["code"]) == (415, "unsupported-body")


def test_an_entry_larger_than_an_image_may_be_is_never_unpacked() -> None:
    file = io.BytesIO(pack(("a.bmp", bytes(2**19 + 1)), ("b.bmp", bytes(100))))
    reader = MaterialReader(file, archive=True, limits=LIMITS)
    large = reader.read(Scan("a.bmp", 0, 2**19 + 1))
    assert isinstance(large, ScanError)
    assert "is 0.5 MB" in str(large)
    small = reader.read(Scan("b.bmp", 1, 100))
    assert isinstance(small, ImageFile)
    assert small.data == bytes(100)
