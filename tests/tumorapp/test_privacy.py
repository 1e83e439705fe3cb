"""Nothing of a DICOM header leaves the application: in no answer, report, table, log or metric."""

import base64
import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydicom import uid
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pypdf import PdfReader

from brainscan.scan import dicom_header
from tests.identifiers import FOUND_IN_BYTES, SECRET, fill
from tests.volumes import write_dicom
from tumorapp import create_app

Form = Callable[..., dict[str, Any]]

# What the reader looks at, where an identifier may have come into the wrong place.
READ = [keyword_for_tag(tag) for tag in dicom_header._WANTED]


def write(keyword: str = "", value: str = SECRET) -> bytes:
    """Write an MR slice with identifiers wherever they may be, and in one more place."""
    file = pydicom.dcmread(io.BytesIO(write_dicom()))
    fill(file)
    if keyword:
        file.add_new(tag_for_keyword(keyword) or 0, "LO", value)
    file.file_meta.SourceApplicationEntityTitle = SECRET
    written = io.BytesIO()
    file.save_as(written)
    return SECRET.encode().ljust(128) + written.getvalue()[128:]


@pytest.fixture(scope="module")
def files() -> list[tuple[str, bytes]]:
    """One file that is read, and others that have an identifier where the reader looks."""
    plain = uid.ExplicitVRLittleEndian.encode()
    return [
        ("good.dcm", write()),
        *((f"{keyword}.dcm", write(keyword)) for keyword in READ),
        ("knee.dcm", write("BodyPartExamined", f"KNEE {SECRET}")),
        ("length.dcm", write("Modality", f"{SECRET} JR").replace(b"\x08\0`\0LO", b"\x08\0`\0FD")),
        ("syntax.dcm", write().replace(plain, b"1.2.3.4711".ljust(len(plain), b"9"))),
        ("cut.dcm", write()[:-100]),
    ]


@pytest.fixture
def app(app: Flask, tmp_path: Path) -> Iterator[Flask]:
    settings = {"AUDIT_LOG": tmp_path / "audit.jsonl", "JOBS_DIR": tmp_path / "jobs"}
    own = create_app({"MODELS_DIR": app.config["MODELS_DIR"], **settings})
    yield own
    own.extensions["jobs"].close()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that any logger passes on, down to the least of it."""
    written = io.StringIO()
    handler, root = logging.StreamHandler(written), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield written
    root.setLevel(level)
    root.removeHandler(handler)


def post_everywhere(client: FlaskClient, form: Form, name: str, data: bytes) -> Iterator[bytes]:
    """Send a file by every way, and give what comes back."""
    one = form(("image", name, data))
    coded = base64.b64encode(data).decode()
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [coded]}
    for path, sent in (
        ("/api/predict?heatmap=1", one),
        ("/api/predict", {"data": data, "content_type": "application/dicom"}),
        ("/api/predict", {"json": {"images": [{"name": name, "data": coded}]}}),
        ("/v2/models/binary-cnn/infer", {"json": {"inputs": [tensor]}}),
        *((path, one) for path in ("/", "/parts", "/compare", "/compare/parts", "/many", "/how")),
        *((path, one) for path in ("/counterfactual/parts", "/api/report", "/report")),
    ):
        answer = client.post(path, **sent, headers={"Accept": "text/html"})
        yield f"{path} {answer.headers}".encode()
        yield answer.data
        if answer.mimetype == "application/pdf":
            reader = PdfReader(io.BytesIO(answer.data))
            yield f"{reader.metadata} {reader.pages[0].extract_text()}".encode()


def run_job(client: FlaskClient, form: Form, files: list[tuple[str, bytes]]) -> Iterator[bytes]:
    """Let a job predict the files, and give every form of what it says."""
    job = client.post("/api/jobs", **form(*(("image", *file) for file in files)))
    yield job.data
    for kind in ("ndjson", "csv", "json"):  # the first ends when the job does
        yield client.get(f"{job.json['links']['results']}?format={kind}").data
    yield client.get(job.json["links"]["self"]).data


def test_nothing_of_a_header_leaves_the_application(
    app: Flask,
    form: Form,
    files: list[tuple[str, bytes]],
    log: io.StringIO,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    client, folder = app.test_client(), tmp_path / "scans"
    folder.mkdir()
    for name, data in files:
        (folder / name).write_bytes(data)
    found = [part for file in files[:2] for part in post_everywhere(client, form, *file)]
    found += [client.post("/many", **form(("image", *file))).data for file in files]
    found += run_job(client, form, files)
    table = tmp_path / "predictions.csv"
    result = app.test_cli_runner().invoke(args=["predict", str(folder), "--out", str(table)])
    found += [result.output.encode(), client.get("/metrics").data, log.getvalue().encode()]
    found += [text.encode() for text in capfd.readouterr()]
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and folder not in path.parents]
    found += [str(path).encode() + path.read_bytes() for path in kept]
    assert {"audit.jsonl", "predictions.csv"} <= {path.name for path in kept}
    assert b"good.dcm" in b"".join(found)
    for value in FOUND_IN_BYTES:
        assert not [part[:2000] for part in found if value.lower() in part.lower()]
