"""More requests than can be answered, and clients that take their time."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient
from gunicorn.config import Config

from tumorapp.server import overload
from tumorapp.server.connection import READ_AHEAD, Connection

HEAD = b"POST /api/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BROWSER = {"Accept": "text/html"}
TITLE = "Too many requests are waiting"

Serve = Callable[..., AbstractContextManager[Any]]


@pytest.fixture
def connection() -> Iterator[Connection]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Connection(Config(), ours, ("127.0.0.1", 1), ("127.0.0.1", 2))


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        HEAD + b"Content-Length: 5\r\n\r\nabcde",
        HEAD + b"content-length:5  \r\n\r\na\r\n\r\n",
        HEAD + b"Content-Length: 0\r\n\r\n",
        CHUNKED + b"3\r\nabc\r\n0\r\n\r\n",
        CHUNKED + b"0\r\n\r\n",
        CHUNKED + b"3\r\nabc\r\n00;x=y\r\nTrailer: yes\r\n\r\n",
    ],
    ids=["get", "length", "spaces", "no-bytes", "chunks", "no-chunks", "trailer"],
)
def test_a_request_is_ready_with_its_last_byte(connection: Connection, request_: bytes) -> None:
    for end in range(1, len(request_)):
        connection.take(request_[end - 1 : end])
        # The last chunk's line stands for the end: what follows is at most trailers.
        assert not connection.is_ready or b"\r\n0\r\n" in request_[:end]
    connection.take(request_[-1:])
    assert connection.is_ready
    connection.hand_over()
    assert connection.parser.unreader.take_buffered() == request_


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        HEAD + b"Content-Length: 10000000\r\n\r\n" + bytes(READ_AHEAD),
        CHUNKED + bytes(READ_AHEAD),
        b"a" * READ_AHEAD,
    ],
    ids=["expect", "negative", "astronomic", "large", "large-chunked", "endless-head"],
)
def test_a_thread_reads_what_the_main_loop_does_not(connection: Connection, sent: bytes) -> None:
    connection.take(sent)
    assert connection.is_ready


@pytest.mark.parametrize(
    ("line", "watches"),
    [
        (b"GET /healthz HTTP/1.1\r\n\r\n", True),
        (b"HEAD /readyz?a=b HTTP/1.1\r\n\r\n", True),
        (b"GET /v2/health/ready HTTP/1.1\r\n\r\n", True),
        (b"GET /healthzz HTTP/1.1\r\n\r\n", False),
        (b"POST /healthz HTTP/1.1\r\n\r\n", False),
        (b"GET /healthz HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", False),
    ],
)
def test_who_watches_the_service_is_known(
    connection: Connection, line: bytes, watches: bool
) -> None:
    connection.take(line)
    assert connection.watches is watches


def test_a_refusal_has_the_shape_its_sender_reads(client: FlaskClient) -> None:
    marked = {overload.ENVIRON_KEY: True}
    answers = [
        client.post("/api/predict", environ_overrides=marked),
        client.get("/", headers=BROWSER, environ_overrides=marked),
        client.post("/v2/models/mobilenet-v2/infer", environ_overrides=marked),
    ]
    for answer in answers:
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert "X-Request-ID" in answer.headers
    api, page, protocol = answers
    assert api.mimetype == "application/problem+json"
    assert api.get_json(force=True)["title"] == TITLE
    assert TITLE in page.text
    assert page.mimetype == "text/html"
    assert "Send it again" in protocol.get_json()["error"]


def connect(service: Any, sent: bytes) -> socket.socket:
    port = int(service.url.rpartition(":")[2])
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(sent)
    return connection


def refuse_answers(service: Any) -> socket.socket:
    """Ask for more than the system keeps, and read none of it."""
    large = b"GET /api/docs/swagger-ui/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
    greedy = socket.socket()
    greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    greedy.connect(("127.0.0.1", int(service.url.rpartition(":")[2])))
    greedy.sendall(large * 8)
    return greedy


def waiting(service: Any) -> float:
    text = service.ask("/metrics").text
    return float(text.partition("\ntumorapp_http_requests_waiting ")[2].partition("\n")[0])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 8
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_past_the_bound_requests_are_refused_at_once_and_those_accepted_are_answered(
    models_dir: Path, tmp_path: Path, scan: bytes, serve: Serve
) -> None:
    image = {"Content-Type": "image/jpeg"}

    def predict() -> requests.Response:
        answer: requests.Response = service.ask("/api/predict", scan, image)
        return answer

    with (
        serve(models_dir, tmp_path, THREADS="1", TUMORAPP_MAX_WAITING="2") as service,
        ThreadPoolExecutor(2) as clients,
        refuse_answers(service) as holder,  # the one thread writes to who does not read
    ):
        time.sleep(0.3)
        accepted: list[Future[requests.Response]] = [clients.submit(predict) for _ in range(2)]
        wait_until(lambda: waiting(service) == 2)
        started = time.monotonic()
        refusals = [predict(), service.ask("/", headers=BROWSER), service.ask("/v2/models/a")]
        watched = [service.ask(path) for path in ("/healthz", "/readyz", "/v2/health/live")]
        # Refused while its body is still to come.
        with connect(service, HEAD + b"Content-Length: 9000000\r\n\r\n") as early:
            assert early.recv(2**16).startswith(b"HTTP/1.1 503")
        assert time.monotonic() - started < 2
        for answer in refusals:
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert answer.headers["Connection"] == "close"
        assert [answer.status_code for answer in watched] == [200] * 3
        assert not any(future.done() for future in accepted)
        holder.close()
        assert [future.result().status_code for future in accepted] == [200, 200]
        wait_until(lambda: waiting(service) == 0)
        assert predict().status_code == 200
        assert f'tumorapp_rejections_total{{reason="{TITLE}"}} 2.0' in service.ask("/metrics").text
    assert "Traceback" not in service.errors.read_text()


@pytest.mark.slow
def test_large_bodies_hold_no_thread_that_answers(
    models_dir: Path, tmp_path: Path, scan: bytes, serve: Serve
) -> None:
    stalled = HEAD + b"Content-Length: 300000\r\n\r\n" + bytes(READ_AHEAD)
    asking = HEAD + b"Content-Length: 9000\r\nExpect: 100-continue\r\n\r\n"
    seemingly_whole = CHUNKED + b"9000\r\nabc\r\n\r\n"
    image = {"Content-Type": "image/jpeg"}
    with serve(models_dir, tmp_path, THREADS="1") as service:
        beginnings = (stalled, asking, seemingly_whole) * 3
        slow = [connect(service, beginning) for beginning in beginnings]
        time.sleep(0.2)
        started = time.monotonic()
        assert service.ask("/api/predict", scan, image).status_code == 200
        assert time.monotonic() - started < 5  # they are let go after ten
        for connection in slow:
            connection.close()


@pytest.mark.slow
def test_a_full_table_of_files_ends_no_worker(
    models_dir: Path, tmp_path: Path, scan: bytes, serve: Serve
) -> None:
    with serve(models_dir, tmp_path) as service:
        (worker,) = service.workers()
        # As if the process had opened all files it may, while it may take connections still.
        opened = len(list(Path(f"/proc/{worker}/fd").iterdir()))
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (opened + 5, opened + 5))
        connections = [connect(service, b"") for _ in range(50)]
        time.sleep(0.5)
        assert service.workers() == [worker]
        for connection in connections:
            connection.close()
        assert service.ask("/api/predict", scan, {"Content-Type": "image/jpeg"}).status_code == 200
    errors = service.errors.read_text()
    assert errors.count("No more connections can be taken") == 1
    assert "Traceback" not in errors


@pytest.mark.slow
def test_who_made_room_is_closed_once(models_dir: Path, tmp_path: Path, serve: Serve) -> None:
    """It may have sent something in the very moment in which another took its place."""
    with serve(models_dir, tmp_path, THREADS="1") as service:
        (worker,) = service.workers()
        limit, own = 1 + 484, count_sockets(worker)
        for _ in range(5):
            held = [connect(service, b"") for _ in range(limit)]
            time.sleep(0.3)
            os.kill(worker, signal.SIGSTOP)  # so that all that follows is seen in one round
            newer = [connect(service, b"") for _ in range(60)]
            for connection in held:
                connection.send(b"G")
            os.kill(worker, signal.SIGCONT)
            time.sleep(0.3)
            taken = count_sockets(worker) - own
            for connection in (*held, *newer):
                connection.close()
            time.sleep(0.3)
        assert limit - 5 < taken <= limit
    assert "Traceback" not in service.errors.read_text()


def count_sockets(process: int) -> int:
    files = Path(f"/proc/{process}/fd").iterdir()
    return sum(str(file.readlink()).startswith("socket:") for file in files)


HASTY = """
from pathlib import Path
from tumorapp.server import connection, worker
connection.SECONDS_OF_PATIENCE = worker.SECONDS_TO_TAKE = 1.0
worker.SECONDS_TO_WAIT = 0.5
exec(Path("gunicorn.conf.py").read_text())
"""


@pytest.fixture
def hasty(tmp_path: Path) -> str:
    """A configuration of gunicorn with a second in place of ten, and half of one for thirty."""
    file = tmp_path / "hasty.conf.py"
    file.write_text(HASTY)
    return str(file)


@pytest.mark.slow
def test_slow_clients_are_let_go(
    models_dir: Path, tmp_path: Path, scan: bytes, serve: Serve, hasty: str
) -> None:
    beginnings = [
        HEAD,  # a head that never ends
        HEAD + b"Content-Length: 90000\r\n\r\n",  # a body in the main loop
        HEAD + b"Content-Length: 900000\r\n\r\n" + bytes(READ_AHEAD),  # bodies in a thread
        HEAD + b"Content-Length: 9000\r\nExpect: 100-continue\r\n\r\n",
    ]
    with serve(models_dir, tmp_path, hasty, THREADS="2") as service:
        connections = [connect(service, beginning) for beginning in beginnings]
        silent = connect(service, b"")
        started = time.monotonic()
        answers = [b""] * len(connections)
        while time.monotonic() - started < 5:  # a byte now and then
            for index, trickling in enumerate(connections):
                try:
                    trickling.send(b"x")
                    trickling.settimeout(0.05)
                    answers[index] += trickling.recv(1000)
                except OSError:
                    pass
        statuses = [b"408", b"408", b"400", b"100"]
        assert [answer[9:12] for answer in answers] == statuses
        assert b"HTTP/1.1 400" in answers[3]
        assert silent.recv(1) == b""
        for trickling in (*connections, silent):
            trickling.close()
        assert service.ask("/api/predict", scan, {"Content-Type": "image/jpeg"}).status_code == 200
    assert "Traceback" not in service.errors.read_text()


@pytest.mark.slow
def test_a_client_that_takes_no_answer_is_let_go_and_who_waited_too_long_is_told(
    models_dir: Path, tmp_path: Path, scan: bytes, serve: Serve, hasty: str
) -> None:
    with serve(models_dir, tmp_path, hasty, THREADS="1") as service:
        with refuse_answers(service):
            time.sleep(0.3)
            late = service.ask("/api/predict", scan, {"Content-Type": "image/jpeg"})
        assert late.status_code == 503
        assert service.ask("/api/predict", scan, {"Content-Type": "image/jpeg"}).status_code == 200
    assert "Traceback" not in service.errors.read_text()


def test_it_speaks_no_tls(tmp_path: Path) -> None:
    certificate = tmp_path / "certificate.pem"
    certificate.touch()
    command = [sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py"]
    done = subprocess.run(
        [*command, "--certfile", str(certificate), "wsgi:app"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PORT": "1024"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert "Put a proxy in front" in done.stderr
