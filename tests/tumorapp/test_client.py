"""The client, against a real gunicorn; against a small server where that must be busy or odd."""

import inspect
import io
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.volumes import pack, write_slices
from tumorapp.client import (
    Answer,
    Client,
    Failure,
    Prediction,
    ProblemError,
    UnreachableError,
)


@pytest.fixture(scope="module")
def client(service: Any) -> Iterator[Client]:
    with Client(service.url + "/") as client:
        yield client


@pytest.mark.slow
def test_one_scan_however_it_is_given(client: Client, scan: bytes, tmp_path: Path) -> None:
    file = tmp_path / "scan.jpg"
    file.write_bytes(scan)
    with file.open("rb") as opened:
        answers = [client.predict(one) for one in (scan, file, str(file), opened, io.BytesIO(scan))]
    found = [answer.predictions[0] for answer in answers]
    names = ["image 1", "scan.jpg", "scan.jpg", "scan.jpg", "image 1"]
    assert [one.filename for one in found] == names
    assert len({one.confidence for one in found}) == 1
    assert found[0].probabilities[found[0].label] == found[0].confidence
    assert found[0].tumor == (found[0].label != "notumor")
    assert found[0].verdict == ("tumor" if found[0].tumor else "no-tumor")
    assert (found[0].uncertain, found[0].in_distribution) == (False, None)
    assert found[0].lesion is None
    assert found[0].warnings == ()
    assert found[0].heatmap is None
    assert (answers[0].model, answers[0].version) == ("mobilenet-v2", "1")


@pytest.mark.slow
def test_several_scans_by_a_named_model_with_heat_maps(
    client: Client, draw_scan: Callable[..., bytes]
) -> None:
    scans = [draw_scan("PNG"), draw_scan("TIFF", spot=0.4)]
    answer = client.predict(iter(scans), model="binary-cnn", heatmap=True)
    assert answer.model == "binary-cnn"
    assert [found.filename for found in answer.predictions] == ["image 1", "image 2"]
    for found in answer.predictions:
        assert found.heatmap is not None
        assert found.heatmap.startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_series_and_a_zip(client: Client, scan: bytes) -> None:
    slices = write_slices([2, 1])
    [whole] = client.predict(slices, heatmap=True).predictions
    assert [one.position_mm for one in whole.slices] == [1, 2]
    assert [one.filename for one in whole.slices] == ["image 2", "image 1"]
    assert whole.strongest in (0, 1)
    assert whole.slices[0].heatmap is not None
    entries = zip(("a/1", "a/2", "s.jpg", "bad"), (*slices, scan, b"?"), strict=True)
    series, picture, bad = client.predict_archive(pack(*entries)).predictions
    assert isinstance(series, Prediction)
    assert isinstance(picture, Prediction)
    assert isinstance(bad, Failure)
    assert (series.filename, picture.slices, bad.code) == ("a", (), "not-an-image")


@pytest.mark.slow
def test_models(client: Client) -> None:
    assert client.ready()
    binary, default = client.models()
    assert (binary.name, binary.version, binary.default) == ("binary-cnn", "1", False)
    assert binary.classes == ("healthy", "tumor")
    assert (default.name, default.default, default.heatmap) == ("mobilenet-v2", True, True)
    assert default.description["measurement"]["protocol"] == "grouped"


@pytest.mark.slow
def test_a_refusal_says_all_that_the_service_said(client: Client, scan: bytes) -> None:
    with pytest.raises(ProblemError, match="There is no model named 'vgg'") as caught:
        client.predict(scan, model="vgg")
    error = caught.value
    assert (error.status, error.code) == (404, "unknown-model")
    assert error.accepted == ("binary-cnn", "mobilenet-v2")
    assert error.detail == str(error)
    assert len(error.request_id) == 32
    with pytest.raises(ProblemError) as caught:
        client.predict([scan, b"no image"])
    assert caught.value.code == "not-an-image"
    assert caught.value.detail.startswith("image 2: ")
    with pytest.raises(ProblemError, match="no file in a field named image"):
        client.predict([])


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:9", "Connection refused"),
        ("127.0.0.1:8234", "No connection adapters were found for '127.0.0.1:8234/"),
        ("http://scans.example:99999", "Failed to parse"),
    ],
)
def test_nobody_there(url: str, reason: str) -> None:
    with Client(f"{url}/", retries=0) as client:
        assert not client.ready()
        told = f"No answer came from {url}: .*{reason}.* begins with http:// or https://"
        with pytest.raises(UnreachableError, match=told):
            client.predict(b"scan")


def test_no_error_shows_a_login() -> None:
    with (
        Client("http://ward-3:secret@127.0.0.1:9", retries=0) as client,
        pytest.raises(UnreachableError, match=r"http://127\.0\.0\.1:9: ") as caught,
    ):
        client.models()
    assert "secret" not in str(caught.value)


def test_a_service_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with (
            Client(url, retries=0, timeout=0.2) as client,
            pytest.raises(UnreachableError, match=f"{url}: timed out. Check"),
        ):
            client.models()


def test_a_file_that_is_not_there() -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(FileNotFoundError):
        client.predict("missing.jpg")


ANSWER = {"model": "m", "version": "3", "predictions": []}
BUSY = {"title": "Too many requests", "detail": "Come back later.", "status": 429}


@contextmanager
def answer_in_turn(
    *answers: tuple[int, dict[str, str], bytes],
) -> Iterator[tuple[str, list[bytes]]]:
    """Answer requests with these; status 0 hangs up. Gives the address and the bodies received."""
    turns, received = iter(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            status, headers, body = next(turns)
            if not status:
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", received
        finally:
            server.shutdown()
            thread.join()


def test_a_lesion_and_what_is_asked_for(scan: bytes) -> None:
    outline = [[[0.4, 0.4], [0.5, 0.4], [0.5, 0.5]], [[0.1, 0.1], [0.2, 0.1], [0.2, 0.2]]]
    prediction = {
        "filename": "image 1",
        "verdict": "tumor",
        "label": "glioma",
        "tumor": True,
        "tumor_probability": 0.97,
        "confidence": 0.95,
        "uncertain": False,
        "in_distribution": True,
        "probabilities": {"glioma": 0.95},
        "lesion": {"peak": [0.45, 0.45], "outline": outline, "area": 0.02, "score": 0.9},
        "header": {"plane": "axial"},
        "warnings": [],
    }
    answer = {**ANSWER, "predictions": [prediction]}
    turn = (200, {}, json.dumps(answer).encode())
    with answer_in_turn(turn) as (url, received), Client(url) as client:
        [found] = client.predict(scan, strict=True).predictions
    assert b'name="strict"' in received[0]
    assert b'name="heatmap"' not in received[0]
    assert (found.verdict, found.in_distribution) == ("tumor", True)
    assert found.lesion is not None
    assert found.lesion.peak == (0.45, 0.45)
    assert found.lesion.outline[1][2] == (0.2, 0.2)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_asked_again_when_it_says(
    status: int, scan: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", waited.append)
    busy = (status, {"Retry-After": "1"}, json.dumps(BUSY).encode())
    turns = busy, (200, {}, json.dumps(ANSWER).encode())
    with answer_in_turn(*turns) as (url, received), Client(url) as client:
        assert client.predict(scan) == Answer("m", "3", ())
    assert waited == [1]
    assert len(received) == 2
    assert all(scan in body for body in received)


def test_a_broken_connection_is_tried_again(scan: bytes) -> None:
    turns = (0, {}, b""), (200, {}, json.dumps(ANSWER).encode())
    with answer_in_turn(*turns) as (url, received), Client(url) as client:
        assert client.predict(scan).model == "m"
    assert len(received) == 2


def test_retries_end(scan: bytes) -> None:
    busy = (503, {"X-Request-ID": "id-1"}, json.dumps({**BUSY, "status": 503}).encode())
    with (
        answer_in_turn(*[busy] * 3) as (url, received),
        Client(url, retries=2) as client,
        pytest.raises(ProblemError, match="Come back later") as caught,
    ):
        client.predict(scan)
    assert len(received) == 3
    assert (caught.value.status, caught.value.request_id) == (503, "id-1")


def test_an_error_that_no_retry_mends_is_not_tried_again(scan: bytes) -> None:
    with (
        answer_in_turn((500, {}, b"<h1>Oh</h1>")) as (url, received),
        Client(url) as client,
        pytest.raises(ProblemError, match="Internal Server Error"),
    ):
        client.predict(scan)
    assert len(received) == 1


def test_a_proxy_that_refuses_is_told_as_such(scan: bytes) -> None:
    page = b"<html><h1>413 Request Entity Too Large</h1><hr>nginx</html>"
    turns = (413, {"Content-Type": "text/html"}, page), (401, {"Content-Type": "text/html"}, page)
    with answer_in_turn(*turns) as (url, _), Client(url) as client:
        with pytest.raises(ProblemError, match=r"A proxy .* too large .2\.0 MB") as caught:
            client.predict(bytes(2 * 2**20))
        assert (caught.value.status, caught.value.code) == (413, "")
        assert "client_max_body_size" in str(caught.value)
        with pytest.raises(
            ProblemError, match="from a proxy in front of TumorApp, or from another server: 401"
        ):
            client.predict(scan)


@pytest.mark.parametrize("body", [b"<h1>Hello</h1>", b"[]", b"{}"])
def test_another_kind_of_server(body: bytes, scan: bytes) -> None:
    with (
        answer_in_turn((200, {}, body)) as (url, _),
        Client(url) as client,
        pytest.raises(UnreachableError, match="is not TumorApp's JSON"),
    ):
        client.predict(scan)


def test_it_runs_alone(tmp_path: Path) -> None:
    """As its first lines promise: the file may be copied to wherever it is needed."""
    source = inspect.getsource(sys.modules[Client.__module__])
    (tmp_path / "client.py").write_text(source, encoding="utf-8")
    program = "from client import Client; print(Client('http://127.0.0.1:9', retries=0).ready())"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
