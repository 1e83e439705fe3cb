"""The service as it runs: gunicorn, with its own settings, on a port of its own."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.tumorapp.servers import find_port

PROJECT = Path(__file__).parents[2]
SECONDS_TO_START = 30
IMAGE = {"Content-Type": "image/jpeg"}
LIMIT = 2**20  # bytes of a request, as the server below is told

pytestmark = pytest.mark.slow

Form = Callable[..., dict[str, Any]]


Serve = Callable[..., AbstractContextManager[Any]]


def send_raw(server: Any, data: bytes) -> bytes:
    """Send bytes as they are, and give whatever comes back until the connection closes."""
    received = b""
    with server.connect(b"") as connection, contextlib.suppress(OSError):
        with contextlib.suppress(OSError):  # refused before all of it was sent
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        while chunk := connection.recv(2**16):
            received += chunk
    return received


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, publish_model: Callable[..., Path], serve: Serve
) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("gunicorn")
    for name in ("binary-cnn", "mobilenet-v2"):
        publish_model(folder / "models", name)
    with serve(folder / "models", folder, TUMORAPP_MAX_UPLOAD_MB=str(LIMIT // 2**20)) as running:
        yield running
    assert running.process.returncode == 0, running.log
    assert running.log.count("Booting worker") == 1, running.log  # none died and was replaced
    assert "Traceback" not in running.log, running.log
    serving = r"^\[.*\] \[\d+\] \[INFO\] Serving mobilenet-v2/1\.$"
    assert re.search(serving, running.log, re.MULTILINE), running.log
    assert f"TumorApp is ready: {running.url}  (Ctrl-C stops it)" in running.log


@pytest.fixture(autouse=True)
def goes_on(server: Any, scan: bytes) -> Iterator[None]:
    """Whatever a test did to it, the service answers afterwards."""
    yield
    assert server.predict(scan)[0] == 200


def test_it_predicts(server: Any, scan: bytes, form: Form) -> None:
    sent = form(("image", "scan.jpg", scan), ("heatmap", None, b"1"))
    headers = {"Content-Type": sent["content_type"]}
    status, kind, body = server.request("POST", "/api/predict", sent["data"], headers)
    assert (status, kind) == (200, "application/json")
    answer = json.loads(body)
    assert answer["model"] == "mobilenet-v2"
    assert answer["predictions"][0]["heatmap"].startswith("data:image/png;base64,")


def test_it_shows_the_page(server: Any) -> None:
    assert server.request("GET", "/", headers={"Accept": "text/html"})[:2] == (200, "text/html")


def test_many_clients_at_once(server: Any, draw_scan: Callable[..., bytes]) -> None:
    scans = [draw_scan("PNG", spot=0.4 + index * 0.02) for index in range(8)]
    alone = [server.predict(scan)[1] for scan in scans]
    with ThreadPoolExecutor(8) as clients:
        together = list(clients.map(server.predict, scans * 6))
    for index, (status, found) in enumerate(together):
        assert status == 200
        expected = alone[index % len(scans)]["predictions"][0]["probabilities"]
        assert found["predictions"][0]["probabilities"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("size", [LIMIT + 1, 5 * LIMIT], ids=["by-a-byte", "by-far"])
@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "chunked"])
@pytest.mark.parametrize("path", ["/api/predict", "/"])
def test_a_body_over_the_limit_is_answered_while_it_is_sent(
    server: Any, size: int, chunked: bool, path: str
) -> None:
    headers = {"Content-Type": "image/jpeg"}
    body: Any = bytes(size)
    if chunked:
        body = iter([body[start : start + 2**16] for start in range(0, size, 2**16)])
    status, kind, answer = server.request("POST", path, body, headers)
    assert (status, kind) == (413, "application/problem+json")
    assert "1 MB" in json.loads(answer)["detail"]


@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "chunked"])
def test_an_answer_tells_whether_its_connection_goes_on(server: Any, chunked: bool) -> None:
    """It ends only if much of a body was left unread."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for size, status in ((LIMIT // 2, 422), (LIMIT // 2, 422), (5 * LIMIT, 413)):
        body = iter([bytes(2**16)] * (size // 2**16)) if chunked else bytes(size)
        connection.request("POST", "/api/predict", body, {"Content-Type": "image/jpeg"})
        response = connection.getresponse()
        response.read()
        assert (response.status, response.will_close) == (status, status == 413)
    connection.close()


def test_a_body_in_chunks(server: Any, scan: bytes) -> None:
    pieces = iter([scan[:100], scan[100:]])
    status, _, body = server.request("POST", "/api/predict", pieces, {"Content-Type": "image/jpeg"})
    assert (status, body) == (
        200,
        server.request("POST", "/api/predict", scan, {"Content-Type": "image/jpeg"})[2],
    )


@pytest.mark.parametrize(
    ("method", "path", "body", "content_type", "expected"),
    [
        ("POST", "/api/predict", b"", "image/jpeg", 422),
        ("POST", "/api/predict", b"--x", "multipart/form-data; boundary=x", 400),
        ("POST", "/api/predict", b"", "", 400),
        ("POST", "/api/predict?%ff=%00&=&&model", b"x", "image/jpeg", 400),
        ("DELETE", "/api/models", None, "", 405),
        ("GET", "/static/../wsgi.py", None, "", 404),
        ("GET", "/static/%2e%2e/wsgi.py", None, "", 404),
        ("GET", "//evil.example/%0d%0aX: y", None, "", 404),
    ],
)
def test_bad_requests(
    server: Any, method: str, path: str, body: bytes | None, content_type: str, expected: int
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    status, kind, answer = server.request(method, path.replace(" ", "%20"), body, headers)
    assert (status, kind) == (expected, "application/problem+json")
    assert json.loads(answer)["status"] == expected


POST = b"POST /api/predict HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 9\r\nContent-Length: 8\r\n\r\nx",
        POST + b"Content-Type: image/jpeg\r\nContent-Length: 100\r\n\r\ncut short",
        POST
        + b"Content-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n",
        POST + b"Content-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nx",
        POST
        + b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 99\r\n\r\n--x\r\n",
    ],
    ids=[
        *("no-http", "tls", "long-path", "long-header", "many-headers", "odd-host", "no-host"),
        *("negative-length", "two-lengths", "cut-short", "bad-chunk", "cut-chunk", "cut-form"),
    ],
)
def test_broken_http_is_refused_or_dropped(server: Any, sent: bytes) -> None:
    answer = send_raw(server, sent)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4")), answer[:200]
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"application/problem+json" in head:
        assert body.startswith(b"{")
        assert b"\r\nX-Content-Type-Options: nosniff" in head
    else:
        assert not answer.startswith(b"HTTP/1.1 4")


def test_what_is_not_http_is_answered_as_every_other_problem(server: Any) -> None:
    for sent, status in ((b"nonsense\r\n\r\n", 400), (b"GET /" + b"a" * 9000, 414)):
        head, _, body = send_raw(server, sent).partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"Content-Security-Policy" in head
        problem = json.loads(body)
        assert (problem["status"], problem["code"]) == (status, "not-http")


def test_headers_of_a_proxy_are_not_believed(server: Any) -> None:
    forged = {"X-Forwarded-Proto": "https", "X-Forwarded-Ssl": "on", "SCRIPT_NAME": "/foo"}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
        connection.request("GET", "/healthz", headers=forged)
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.headers["Strict-Transport-Security"] is None
        answer.read()
    for name in ("/foo", "//evil.example", "/other"):
        status, _, body = server.request("GET", "/foo/metrics", headers={"SCRIPT_NAME": name})
        assert status == 404  # neither /metrics nor, as the names differ, an error
        assert b"evil.example" not in body


def test_a_client_that_leaves_early(server: Any, scan: bytes) -> None:
    head = POST + f"Content-Type: image/jpeg\r\nContent-Length: {len(scan)}\r\n\r\n".encode()
    for _ in range(8):  # more than there are threads
        server.connect(head + scan).close()


STALLED = POST + b"Content-Type: image/jpeg\r\nContent-Length: 100\r\n\r\ncut short"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_answers_others_while_bodies_stall(server: Any) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(50):  # more than there are threads
            stack.enter_context(server.connect(STALLED))
        time.sleep(0.2)
        started = time.monotonic()
        assert server.request("GET", "/")[0] == 200
        assert time.monotonic() - started < 2


def test_a_body_that_ends_too_early_is_refused_at_once(server: Any) -> None:
    started = time.monotonic()
    head, _, body = send_raw(server, STALLED).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 422")
    assert "body: " in json.loads(body)["detail"]
    assert time.monotonic() - started < 5


def test_clients_that_leave_while_they_send(server: Any) -> None:
    large = POST + b"Content-Type: image/jpeg\r\nContent-Length: 1000000\r\n\r\n" + bytes(300_000)
    for index in range(40):  # more than there are threads
        with server.connect(STALLED if index % 2 else large) as connection:
            if index % 3:  # some break the connection rather than end it
                reset = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    started = time.monotonic()
    assert server.request("GET", "/")[0] == 200
    assert time.monotonic() - started < 5


def test_a_worker_that_is_killed_under_load_is_replaced_while_others_answer(
    models_dir: Path, tmp_path: Path, scan: bytes, serve: Serve
) -> None:
    killed, ended = threading.Event(), threading.Event()

    def load(running: Any) -> tuple[list[int], int]:
        after, broken = [], 0
        while not ended.is_set():
            try:
                status = running.request("POST", "/api/predict", scan, IMAGE)[0]
            except (OSError, http.client.HTTPException):
                broken += 1  # its worker is gone
            else:
                after += [status] if killed.is_set() else []
            time.sleep(0.01)
        return after, broken

    with serve(models_dir, tmp_path, WEB_CONCURRENCY="2") as running:
        wait_until(lambda: running.log.count("Serving mobilenet-v2") == 2)
        before = running.workers()
        with ThreadPoolExecutor(4) as clients:
            loads = clients.map(load, [running] * 4)
            try:
                time.sleep(0.5)
                os.kill(before[0], signal.SIGKILL)
                killed.set()
                wait_until(lambda: running.log.count("Serving mobilenet-v2") == 3)
                time.sleep(0.5)
            finally:
                ended.set()
            for after, broken in loads:
                assert set(after) == {200}
                assert broken <= 1
        now = running.workers()
        assert before[1] in now
        assert len(now) == 2
        assert before[0] not in now


def test_a_server_that_is_told_to_stop_answers_what_has_come(
    models_dir: Path, tmp_path: Path, scan: bytes, serve: Serve
) -> None:
    head = POST + f"Content-Type: image/jpeg\r\nContent-Length: {len(scan)}\r\n\r\n".encode()
    with serve(models_dir, tmp_path, THREADS="1") as running, contextlib.ExitStack() as stack:
        whole = [stack.enter_context(running.connect(head + scan)) for _ in range(20)]
        partial = stack.enter_context(running.connect(head + scan[:100]))
        idle = stack.enter_context(running.connect(b""))
        time.sleep(0.1)  # all of them were taken
        running.process.terminate()
        time.sleep(0.5)
        with pytest.raises(ConnectionRefusedError):
            running.connect(b"")
        partial.sendall(scan[100:])
        for connection in (*whole, partial):
            assert connection.recv(2**16).startswith(b"HTTP/1.1 200")
        assert idle.recv(1) == b""
        assert running.process.wait(timeout=10) == 0
    assert "Traceback" not in running.log


def test_a_second_master_takes_over(
    models_dir: Path, tmp_path: Path, scan: bytes, serve: Serve
) -> None:
    with serve(models_dir, tmp_path) as running:
        running.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: running.log.count("TumorApp is ready") == 2)
    second = int(re.findall(r"\[(\d+)\] \[INFO\] Listening at", running.log)[1])
    try:
        assert running.predict(scan)[0] == 200
        assert "Traceback" not in running.log
    finally:
        os.kill(second, signal.SIGTERM)
        wait_until(lambda: not Path(f"/proc/{second}").exists())


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"PORT": "99999"}, "PORT is '99999', which is not accepted. Give a whole number"),
        ({"THREADS": "two"}, "THREADS is 'two'"),
        ({"PORT": ""}, "cannot be used: Address already in use. Choose another, such as: make run"),
        ({"SCRIPT_NAME": "/a/../b"}, "SCRIPT_NAME is '/a/../b', which is not accepted. Give a"),
        ({"TUMORAPP_MAX_IMAGES": "no"}, "TumorApp cannot start: TUMORAPP_MAX_IMAGES is 'no'"),
    ],
    ids=["port", "threads", "port-in-use", "prefix", "setting"],
)
def test_it_says_in_a_line_why_it_does_not_start(variables: dict[str, str], words: str) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.create_server(("127.0.0.1", 0)) as probe,
    ):
        taken, free = other.getsockname()[1], probe.getsockname()[1]
        probe.close()
        variables = {"PORT": str(free), **variables}
        variables["PORT"] = variables["PORT"] or str(taken)
        result = subprocess.run(
            [sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py", "wsgi:app"],
            cwd=PROJECT,
            env={**os.environ, "HOST": "127.0.0.1", **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert result.returncode != 0
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_it_answers_below_a_prefix_and_probes_without_it(
    models_dir: Path, tmp_path: Path, serve: Serve
) -> None:
    with serve(models_dir, tmp_path, SCRIPT_NAME="/scans/") as running:
        for path in ("/healthz", "/readyz", "/metrics"):
            assert running.request("GET", path)[0] == 200
            assert running.request("GET", f"/scans{path}")[0] == 200
        assert running.request("GET", "/scansx/healthz")[0] == 404
        _, _, page = running.request("GET", "/scans/", headers={"Accept": "text/html"})
        links = re.findall(rb'(?:src|href|action)="(/[^"]*)"', page)
        assert {link.startswith(b"/scans/") for link in links} == {True}
        document = json.loads(running.request("GET", "/scans/api/openapi.json")[2])
        assert document["servers"] == [{"url": "/scans"}]


def test_without_any_bundle_it_runs_and_says_so_and_serves_the_first_without_a_restart(
    tmp_path: Path, scan: bytes, publish_model: Callable[..., Path], serve: Serve
) -> None:
    with serve(tmp_path / "none", tmp_path) as running:
        assert running.request("GET", "/healthz")[0] == 200
        assert running.request("GET", "/readyz")[0] == 503
        assert running.predict(scan)[0] == 503
        page = {"Accept": "text/html"}
        told = b"served within seconds, without a restart"
        assert told in running.request("GET", "/", headers=page)[2]
        publish_model(tmp_path / "none", "binary-cnn")
        wait_until(lambda: running.request("GET", "/readyz")[0] == 200)
        assert running.predict(scan)[1]["model"] == "binary-cnn"
        assert told not in running.request("GET", "/", headers=page)[2]
    assert "No model is served" in running.log
    assert running.log.count("Booting worker") == 1, running.log


def test_a_worker_that_is_stopped_while_it_starts_ends_quietly(models_dir: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py", "wsgi:app"],
        cwd=PROJECT,
        env={**os.environ, "PORT": str(find_port()), "TUMORAPP_MODELS_DIR": str(models_dir)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        lines = iter(process.stderr)
        assert any("Booting worker" in line for line in lines)
        time.sleep(0.5)  # it has its signal handlers by now, and is loading the application
        process.terminate()
        assert "Traceback" not in "".join(lines)
