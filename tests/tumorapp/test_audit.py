"""The audit log: what is in it, and what happens where it cannot be written."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from tumorapp import create_app
from tumorapp.audit import AuditLog
from tumorapp.errors import ConfigurationError

Form = Callable[..., dict[str, Any]]
Serve = Callable[..., AbstractContextManager[Any]]


def read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def audited(app: Flask, tmp_path: Path) -> Callable[..., Flask]:
    """Give an application with an audit log: `audited(file, **other settings)`."""

    def create(file: Path, **settings: object) -> Flask:
        own = {"MODELS_DIR": app.config["MODELS_DIR"], "JOBS_DIR": tmp_path / "jobs"}
        return create_app({**own, "AUDIT_LOG": file, **settings})

    return create


def test_every_route_that_predicts(
    audited: Callable[..., Flask], tmp_path: Path, scan: bytes, form: Form
) -> None:
    file = tmp_path / "audit.jsonl"
    client = audited(file).test_client()
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES"}
    tensor["data"] = [base64.b64encode(scan).decode()]
    one = form(("image", "secret.jpg", scan))
    requests: list[tuple[str, dict[str, Any], int]] = [
        ("/api/predict", form(("image", "a.jpg", scan), ("image", "b.jpg", scan)), 2),
        ("/api/report", one, 1),
        ("/v2/models/binary-cnn/infer", {"json": {"inputs": [tensor]}}, 1),
        ("/", one, 1),
        ("/parts", one, 1),
        ("/compare", one, 2),  # a line for each model
        ("/many", one, 1),
        ("/how", one, 1),
        ("/report", one, 1),
        ("/counterfactual/parts", one, 1),
    ]
    for path, sent, count in requests:
        before = len(read_lines(file)) if file.exists() else 0
        answer = client.post(path, **sent, headers={"X-Request-ID": "mine", "Accept": "text/html"})
        assert answer.status_code == 200, path
        answer.close()
        lines = read_lines(file)[before:]
        assert len(lines) == count, path
        for line in lines:
            assert line["sha256"] == hashlib.sha256(scan).hexdigest(), path
            assert (line["request_id"], line["key"], line["version"]) == ("mine", None, "1")
            assert line["label"] in line["probabilities"]
    assert {line["model"] for line in read_lines(file)} == {"binary-cnn", "mobilenet-v2"}
    assert "secret" not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_job_has_the_request_and_key_that_sent_it(
    audited: Callable[..., Flask], tmp_path: Path, scan: bytes, form: Form
) -> None:
    from tumorapp.keys import KeyFile

    keys, file = tmp_path / "keys.json", tmp_path / "audit.jsonl"
    secret = KeyFile(keys).add("ward-3")
    app = audited(file, API_KEYS="on", KEYS_FILE=keys, PAGES="off")
    headers = {"X-Request-ID": "sent-1", "X-API-Key": secret}
    sent = form(("image", "a.jpg", scan), ("image", "b.jpg", b"no image"))
    assert app.test_client().post("/api/jobs", **sent, headers=headers).status_code == 202
    deadline = time.monotonic() + 30
    while not file.stat().st_size and time.monotonic() < deadline:
        time.sleep(0.05)
    app.extensions["jobs"].close()
    [line] = read_lines(file)
    assert (line["request_id"], line["key"]) == ("sent-1", "ward-3")
    assert secret not in file.read_text()


def test_a_log_that_cannot_be_written_at_the_start(
    audited: Callable[..., Flask], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "missing" / "audit.jsonl"
    audited(file)
    assert f"The audit log {file} cannot be written: No such file or directory" in caplog.messages
    with pytest.raises(ConfigurationError, match=r"TUMORAPP_AUDIT_LOG.*TUMORAPP_AUDIT_REQUIRED"):
        audited(file, AUDIT_REQUIRED="on")


@pytest.mark.parametrize("required", ["on", "off"])
def test_a_log_that_fails_later(
    audited: Callable[..., Flask],
    tmp_path: Path,
    scan: bytes,
    required: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    app = audited(folder / "audit.jsonl", AUDIT_REQUIRED=required)
    (folder / "audit.jsonl").unlink()
    folder.rename(tmp_path / "gone")
    client = app.test_client()

    def predict() -> Any:
        return client.post("/api/predict", data=scan, content_type="image/jpeg")

    for _ in range(2):
        answer = predict()
        assert answer.status_code == (503 if required == "on" else 200)
        assert answer.json is not None
        assert answer.json.get("code") == ("audit-unavailable" if required == "on" else None)
    assert sum("audit log" in message for message in caplog.messages) == 1
    (tmp_path / "gone").rename(folder)
    assert predict().status_code == 200
    assert len(read_lines(folder / "audit.jsonl")) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(audited: Callable[..., Flask], tmp_path: Path, scan: bytes) -> None:
    file = tmp_path / "audit.jsonl"
    client = audited(file, AUDIT_REQUIRED="on").test_client()
    file.unlink()
    file.symlink_to("/dev/full")
    answer = client.post("/api/predict", data=scan, content_type="image/jpeg")
    assert (answer.status_code, answer.json and answer.json["code"]) == (503, "audit-unavailable")


def test_what_a_full_disk_cut_stands_alone(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    file.write_bytes(b'{"time": "2026')
    AuditLog(file, required=True)._append(b"{}\n")
    assert file.read_bytes() == b'{"time": "2026\n{}\n'


@pytest.mark.slow
def test_workers_lose_no_line_while_the_file_is_moved(
    app: Flask, tmp_path: Path, scan: bytes, serve: Serve
) -> None:
    folder, sent = tmp_path / "logs", 120
    folder.mkdir()
    file = folder / "audit.jsonl"
    variables = {"WEB_CONCURRENCY": "2", "TUMORAPP_AUDIT_LOG": str(file)}
    with serve(app.config["MODELS_DIR"], tmp_path, **variables) as service:

        def predict(first: int) -> None:
            for number in range(first, sent, 4):
                headers = {"Content-Type": "image/jpeg", "X-Request-ID": f"id-{number}"}
                assert service.ask("/api/predict", scan, headers).status_code == 200

        threads = [threading.Thread(target=predict, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        moved = 0
        while any(thread.is_alive() for thread in threads):
            if file.exists():
                file.rename(folder / f"audit.jsonl.{moved}")
                moved += 1
            time.sleep(0.05)
    lines = [line for path in folder.iterdir() for line in read_lines(path)]
    assert moved > 1
    assert sorted(line["request_id"] for line in lines) == sorted(f"id-{n}" for n in range(sent))
