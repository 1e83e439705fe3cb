"""The log's lines: their form, the request each belongs to, and what is never in them."""

import http.client
import json
import logging
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tumorapp import create_app
from tumorapp.logs import RequestFilter, choose_formatter

PROJECT = Path(__file__).parents[2]

Form = Callable[..., dict[str, Any]]
Serve = Callable[..., AbstractContextManager[Any]]


def test_an_id_is_made_for_each_request(client: FlaskClient) -> None:
    ids = {client.get(path).headers["X-Request-ID"] for path in ("/healthz", "/", "/nothing")}
    assert len(ids) == 3
    assert all(re.fullmatch(r"[0-9a-f]{32}", one) for one in ids)


@pytest.mark.parametrize("given", ["abc-1", "A.b_c", "x" * 64])
def test_a_plain_id_is_kept(client: FlaskClient, given: str) -> None:
    answer = client.get("/healthz", headers={"X-Request-ID": given})
    assert answer.headers.getlist("X-Request-ID") == [given]


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", '"}', "ä", "a,b", "<script>"])
def test_another_is_replaced(client: FlaskClient, given: str) -> None:
    answer = client.get("/healthz", headers={"X-Request-ID": given})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-ID"])


@pytest.mark.parametrize("name", ["text", "json"])
def test_an_unforeseen_error_is_told_with_its_request_and_route(app: Flask, name: str) -> None:
    lines = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Lines()
    handler.setFormatter(choose_formatter(name))
    handler.addFilter(RequestFilter())
    settings = {"MODELS_DIR": app.config["MODELS_DIR"], "PROPAGATE_EXCEPTIONS": False}
    failing = create_app(settings)
    failing.add_url_rule("/fail/<text>", "fail", lambda text: str(1 / 0))
    failing.logger.addHandler(handler)
    try:
        answer = failing.test_client().get(
            "/fail/secret?q=secret", headers={"X-Request-ID": "id-1"}
        )
    finally:
        failing.logger.removeHandler(handler)
    assert answer.status_code == 500
    assert answer.headers["X-Request-ID"] == "id-1"
    [line] = lines
    assert "secret" not in line
    if name == "text":
        assert "[ERROR] Unforeseen error at /fail/<text>. [id-1]\nTraceback" in line
        return
    fields = json.loads(line)
    assert fields["message"] == "Unforeseen error at /fail/<text>."
    assert (fields["level"], fields["logger"], fields["request_id"]) == (
        "ERROR",
        "tumorapp",
        "id-1",
    )
    assert fields["exception"].endswith("ZeroDivisionError: division by zero")


def send_secrets(service: Any, scan: bytes, form: Form) -> None:
    """Send what must never be seen in a log, wherever a client can write."""
    sent = form(("image", "secret.jpg", b"secret pixels"), ("image", "secret2.jpg", scan))
    headers = {"Content-Type": sent["content_type"], "User-Agent": "secret", "Referer": "secret"}
    assert service.ask("/api/predict", sent["data"], headers).status_code == 422
    odd_id = {"X-Request-ID": "secret id"}
    assert service.ask("/secret?secret=secret", headers=odd_id).status_code == 404
    host, port = service.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.request("SECRET", "/secret")
    assert connection.getresponse().status == 404
    connection.close()
    with socket.create_connection((host, int(port)), timeout=30) as raw:
        raw.sendall(b"secret nonsense\r\n\r\n")
        raw.recv(1000)


@pytest.mark.slow
def test_gunicorn_writes_json(
    app: Flask,
    tmp_path: Path,
    scan: bytes,
    draw_scan: Callable[..., bytes],
    form: Form,
    serve: Serve,
) -> None:
    fax = bytearray(draw_scan("TIFF", mode="1", compression="group4"))
    fax[len(fax) // 2 :] = bytes(range(256)) * 100  # libtiff has something to say of each row
    with serve(app.config["MODELS_DIR"], tmp_path, TUMORAPP_LOG_FORMAT="json") as service:
        headers = {"Content-Type": "image/jpeg", "X-Request-ID": "mine-1"}
        assert (
            service.ask("/api/predict", bytes(fax), {"Content-Type": "image/tiff"}).status_code
            == 422
        )
        answer = service.ask("/api/predict?heatmap=1", scan, headers)
        assert (answer.status_code, answer.headers["X-Request-ID"]) == (200, "mine-1")
        made = service.ask("/api/models").headers["X-Request-ID"]
        send_secrets(service, scan, form)
    texts = service.output.read_text() + service.errors.read_text()
    assert "secret" not in texts.lower()
    lines = [json.loads(line) for line in texts.splitlines()]
    for line in lines:
        assert {"time", "level", "logger", "message"} <= line.keys()
        time = datetime.fromisoformat(line["time"])
        assert time.tzinfo is UTC
        assert abs((datetime.now(UTC) - time).total_seconds()) < 300
    messages = [line["message"] for line in lines]
    assert "Serving mobilenet-v2/1." in messages
    assert "Invalid request from …" in messages
    requests = {line["request_id"]: line for line in lines if line["logger"] == "gunicorn.access"}
    line = requests["mine-1"]
    assert 0 < line.pop("milliseconds") < 30_000
    assert line.pop("message").startswith("POST /api/predict 200 mobilenet-v2/1 in ")
    assert line == {
        "time": line["time"],
        "level": "INFO",
        "logger": "gunicorn.access",
        "request_id": "mine-1",
        "method": "POST",
        "route": "/api/predict",
        "status": 200,
        "model": "mobilenet-v2/1",
        "images": 1,
    }
    assert requests[made]["route"] == "/api/models"
    others = [(line["method"], line["route"], line["status"]) for line in requests.values()]
    assert ("OTHER", "unmatched", 404) in others


@pytest.mark.slow
def test_gunicorn_writes_text(
    app: Flask, tmp_path: Path, scan: bytes, form: Form, serve: Serve
) -> None:
    options = {"GUNICORN_CMD_ARGS": "--access-logfile -"}
    with serve(app.config["MODELS_DIR"], tmp_path, **options) as service:
        service.ask("/api/models", headers={"X-Request-ID": "mine-2"})
        send_secrets(service, scan, form)
    texts = service.output.read_text() + service.errors.read_text()
    assert "secret" not in texts.lower()
    wanted = r"^\[.*\] \[\d+\] \[INFO\] GET /api/models 200 in [\d.]+ ms \[mine-2\]$"
    assert re.search(wanted, texts, re.MULTILINE), texts


# Writes to standard error as C libraries and Python do, in a process that keeps it for its log.
_NOISE = """
import logging, os, sys, threading, warnings
from tumorapp.logs import choose_formatter, keep_standard_error
handler = logging.StreamHandler()
handler.setFormatter(choose_formatter("json"))
for name in ("tumorapp", "py.warnings"):
    logging.getLogger(name).addHandler(handler)
keep_standard_error([handler])
os.write(2, b"Fax3Decode1D: Bad code word at line 1 of strip 0 (x 0).")
warnings.warn("old")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
logging.getLogger("tumorapp").error("Last.")
"""


def test_every_line_is_json_whoever_writes_to_standard_error() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _NOISE], capture_output=True, check=True, cwd=PROJECT
    )
    warned, ended, last = [json.loads(line) for line in done.stderr.splitlines()]
    assert "UserWarning: old" in warned["message"]
    assert ended["message"] == "A thread has ended."
    assert ended["exception"].endswith("ZeroDivisionError: division by zero")
    assert last["message"] == "Last."
