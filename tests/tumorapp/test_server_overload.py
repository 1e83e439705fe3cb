"""More requests than can be answered, and clients that take their time."""

import contextlib
import inspect
import json
import logging
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gunicorn
import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from gunicorn.config import Config
from gunicorn.http.body import Body
from gunicorn.http.unreader import SocketUnreader
from gunicorn.http.wsgi import default_environ
from gunicorn.workers.base import Worker as BaseWorker
from gunicorn.workers.gthread import TConn, ThreadWorker

from tumorapp.security import HEADERS
from tumorapp.server import overload
from tumorapp.server.clients import (
    READ_AHEAD,
    SECONDS_OF_PATIENCE,
    SECONDS_TO_TAKE,
    Client,
    give_time,
)
from tumorapp.server.overload import Lane
from tumorapp.server.worker import SECONDS_IN_THE_WAY, Worker

HEAD = b"POST /api/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BROWSER = {"Accept": "text/html"}
TITLE = "Too many requests are waiting"
LARGE = "/api/docs/swagger-ui/swagger-ui-bundle.js"
IMAGE = {"Content-Type": "image/jpeg"}
CHUNK = 2**16  # bytes that are read of a body at once

Serve = Callable[..., AbstractContextManager[Any]]


class TestGunicornsNames:
    """What `tumorapp/server/worker.py` needs of gunicorn: an upgrade that breaks it fails here."""

    @pytest.mark.parametrize(
        ("owner", "name", "parameters"),
        [
            (ThreadWorker, "accept", ["self", "listener"]),
            (ThreadWorker, "check_config", ["cfg", "log"]),
            (ThreadWorker, "enqueue_req", ["self", "conn"]),
            (ThreadWorker, "get_thread_pool", ["self"]),
            (ThreadWorker, "handle_error", ["self", "req", "client", "addr", "exc"]),
            (ThreadWorker, "handle", ["self", "conn"]),
            (ThreadWorker, "murder_keepalived", ["self", "force"]),
            (ThreadWorker, "set_accept_enabled", ["self", "enabled"]),
            (BaseWorker, "handle_quit", ["self", "sig", "frame"]),
            (BaseWorker, "load_wsgi", ["self"]),
            (BaseWorker, "notify", ["self"]),
            (TConn, "init", ["self"]),
        ],
    )
    def test_methods(self, owner: type, name: str, parameters: list[str]) -> None:
        what = f"{owner.__name__}.{name}({', '.join(parameters)})"
        method = getattr(owner, name, None)
        found = list(inspect.signature(method).parameters) if method else None
        assert found == parameters, f"gunicorn {gunicorn.__version__} has no {what} any more."

    def test_attributes(self) -> None:
        worker = ThreadWorker(1, os.getppid(), [], None, 1, Config(), None)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            conn = TConn(Config(), ours, ("127.0.0.1", 1), ("127.0.0.1", 2))
            assert not conn.initialized
            conn.init()
            assert conn.initialized
            assert isinstance(conn.parser.unreader, SocketUnreader)
            request = SimpleNamespace(
                body=None, method="GET", query="", uri="/", version=(1, 1), headers=[]
            )
            environ = default_environ(request, ours, Config())
        for owner, name in [
            *((worker, name) for name in ("alive", "keepalived_conns", "nr_conns", "sockets")),
            *((worker, name) for name in ("worker_connections", "wsgi", "log", "cfg")),
            *((conn, name) for name in ("data_ready", "parser", "sock")),
            (Body(None), "failed"),
            (conn.parser.unreader, "mxchunk"),
        ]:
            what = f"{type(owner).__name__}.{name}"
            known = hasattr(owner, name) or name == "wsgi"
            assert known, f"gunicorn {gunicorn.__version__} has no {what} any more."
        assert environ["gunicorn.socket"] is ours
        worker.tmp.close()


def test_an_error_of_the_server_has_the_usual_headers() -> None:
    worker = Worker(1, os.getppid(), [], None, 1, Config(), logging.getLogger(__name__))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker.handle_error(None, ours, ("127.0.0.1", 1), RuntimeError("secret"))
        head, _, body = theirs.recv(2**16).partition(b"\r\n\r\n")
    worker.tmp.close()
    assert head.startswith(b"HTTP/1.1 500 ")
    for name, value in HEADERS.items():
        assert f"\r\n{name}: {value}".encode() in head
    assert json.loads(body)["code"] == "internal-error"
    assert b"secret" not in body


def test_a_stream_has_time_for_each_piece() -> None:
    client = Client()
    client.deadline = 0.0
    for _ in give_time([b"1", b"2"], client):
        assert client.deadline > time.monotonic() + SECONDS_TO_TAKE - 5
        client.deadline = 0.0


class TestLane:
    def test_first_come_first_served(self) -> None:
        changes: list[int] = []
        lane, served, waiting = Lane(1, 3, changes.append), [], []
        assert lane.enter(1)

        def take_turn(number: int) -> None:
            assert lane.enter(10)
            served.append(number)
            lane.leave()

        for number in range(3):
            waiting.append(threading.Thread(target=take_turn, args=(number,)))
            waiting[-1].start()
            wait_until(lambda: sum(changes) == number + 1)  # noqa: B023
        assert lane.is_full
        assert lane.has_waiting
        assert not lane.enter(10)
        lane.leave()
        for thread in waiting:
            thread.join()
        assert served == [0, 1, 2]
        assert sum(changes) == 0
        assert not lane.has_waiting
        assert not lane.is_full

    def test_who_waits_too_long_gives_up_its_turn(self) -> None:
        lane = Lane(1, 1)
        assert lane.enter()
        assert not lane.enter(0.01)
        lane.leave()
        assert lane.enter(0.01)

    def test_nobody_may_wait(self) -> None:
        lane = Lane(1, 0)
        assert lane.enter()
        assert lane.is_full
        assert not lane.enter()


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
    assert protocol.get_json()["code"] == "overloaded"


def refuse_answers(service: Any) -> socket.socket:
    """Ask for more than the system keeps, and read none of it."""
    large = f"GET {LARGE} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    greedy = socket.socket()
    greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    greedy.connect(("127.0.0.1", service.port))
    greedy.sendall(large * 8)
    return greedy


def waiting(service: Any) -> float:
    text = service.ask("/metrics").text
    return float(text.partition("\ntumorapp_http_requests_waiting ")[2].partition("\n")[0])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# A second in place of ten, and half of one for thirty; and predictions wait while there is a file.
PREPARED = """
import time
from pathlib import Path
from tumorapp.server import clients, worker
if {hasty}:
    clients.SECONDS_OF_PATIENCE = clients.SECONDS_TO_TAKE = 1.0
    worker.SECONDS_TO_WAIT = 0.5
exec(Path("gunicorn.conf.py").read_text())
begin = post_worker_init
def post_worker_init(worker):
    begin(worker)
    app = worker.app.wsgi()
    inner = app.wsgi_app
    def wait(environ, start_response):
        while {predicts} and Path({held!r}).exists():
            time.sleep(0.02)
        return inner(environ, start_response)
    app.wsgi_app = wait
"""
PREDICTS = 'environ["PATH_INFO"] == "/api/predict" and not environ["tumorapp.overloaded"]'


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that stops predictions while it is there."""
    return tmp_path_factory.mktemp("held") / "held"


@pytest.fixture(scope="module")
def run(
    app: Flask, tmp_path_factory: pytest.TempPathFactory, held: Path, serve: Serve
) -> Callable[..., AbstractContextManager[Any]]:
    """Run gunicorn with one thread, and with little patience where it is to be hasty."""

    def run(*, hasty: bool, **variables: str) -> AbstractContextManager[Any]:
        folder = tmp_path_factory.mktemp("service")
        file = folder / "prepared.conf.py"
        file.write_text(PREPARED.format(hasty=hasty, held=str(held), predicts=PREDICTS))
        return serve(app.config["MODELS_DIR"], folder, str(file), THREADS="1", **variables)

    return run


@pytest.fixture(scope="module")
def bounded(run: Callable[..., AbstractContextManager[Any]]) -> Iterator[Any]:
    with run(hasty=False, TUMORAPP_MAX_WAITING="2") as running:
        yield running


@pytest.fixture(scope="module")
def hasty(run: Callable[..., AbstractContextManager[Any]]) -> Iterator[Any]:
    with run(hasty=True) as running:
        yield running


@pytest.mark.slow
def test_past_the_bound_requests_are_refused_at_once_and_those_accepted_are_answered(
    bounded: Any, held: Path, scan: bytes
) -> None:
    def predict() -> requests.Response:
        answer: requests.Response = bounded.ask("/api/predict", scan, IMAGE)
        return answer

    with ThreadPoolExecutor(3) as clients:
        held.touch()
        accepted: list[Future[requests.Response]] = [clients.submit(predict) for _ in range(3)]
        try:
            wait_until(lambda: waiting(bounded) == 2)
            refusals = [predict(), bounded.ask("/", headers=BROWSER), bounded.ask("/v2/models/a")]
            watched = [bounded.ask(path) for path in ("/healthz", "/readyz", "/v2/health/live")]
            # Refused while its body is still to come.
            with bounded.connect(HEAD + b"Content-Length: 9000000\r\n\r\n") as early:
                assert early.recv(2**16).startswith(b"HTTP/1.1 503")
            for answer in refusals:
                assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert [answer.status_code for answer in watched] == [200] * 3
            assert not any(future.done() for future in accepted)
        finally:
            held.unlink()
        assert [future.result().status_code for future in accepted] == [200] * 3
        assert waiting(bounded) == 0
        assert predict().status_code == 200
        counted = 'tumorapp_rejections_total{reason="overloaded"} 4.0'
        assert counted in bounded.ask("/metrics").text
    assert "Traceback" not in bounded.errors.read_text()


@pytest.mark.slow
def test_slow_clients_hold_nobody_up(bounded: Any, scan: bytes) -> None:
    beginnings = [
        b"",
        HEAD,
        HEAD + b"Content-Length: 0000000000000100\r\n\r\n",
        HEAD + b"Content-Length: 300000\r\n\r\n" + bytes(READ_AHEAD // 2),
        HEAD + b"Content-Length: 9000\r\nExpect: 100-continue\r\n\r\n",
        CHUNKED + b"9000\r\nabc\r\n\r\n",
    ]
    slow = [bounded.connect(beginning) for beginning in beginnings * 10]
    large = [
        bounded.connect(HEAD + b"Content-Length: 900000\r\n\r\n" + bytes(READ_AHEAD + CHUNK))
        for _ in range(8)
    ]
    time.sleep(0.3)
    assert bounded.ask("/api/predict", scan, IMAGE).status_code == 200
    assert bounded.ask("/api/models").status_code == 200
    for connection in (*slow, *large):
        connection.send(b"x")  # none was let go so far: nobody waited for that
        connection.close()


@pytest.mark.slow
def test_large_bodies_that_stall_make_room_for_another(service: Any) -> None:
    stalled = [
        service.connect(HEAD + b"Content-Length: 900000\r\n\r\n" + bytes(READ_AHEAD + CHUNK))
        for _ in range(16)
    ]
    time.sleep(0.5)
    started = time.monotonic()
    assert service.ask("/api/predict", bytes(900_000), IMAGE).status_code == 422
    assert time.monotonic() - started < SECONDS_OF_PATIENCE - SECONDS_IN_THE_WAY
    assert stalled[0].recv(2**16)[9:12] == b"408"
    for connection in stalled:
        connection.close()


@pytest.mark.slow
def test_a_full_table_of_files_ends_no_worker(bounded: Any, scan: bytes) -> None:
    (worker,) = bounded.workers()
    bounded.ask("/api/predict", scan, IMAGE)  # what is imported with the first is there
    # As if the process had opened all files it may, while it may take connections still.
    opened = len(list(Path(f"/proc/{worker}/fd").iterdir()))
    limits = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (opened + 5, limits[1]))
    connections = [bounded.connect(b"") for _ in range(50)]
    time.sleep(0.5)
    assert bounded.workers() == [worker]
    for connection in connections:
        connection.close()
    assert bounded.ask("/api/predict", scan, IMAGE).status_code == 200
    resource.prlimit(worker, resource.RLIMIT_NOFILE, limits)
    errors = bounded.errors.read_text()
    assert errors.count("No more connections can be taken") == 1
    assert "Traceback" not in errors


@pytest.mark.slow
def test_who_waits_longest_makes_room(bounded: Any, scan: bytes) -> None:
    (worker,) = bounded.workers()
    limit, own = 1 + 484, count_sockets(worker)
    held = [bounded.connect(HEAD) for _ in range(limit + 60)]
    assert bounded.ask("/api/predict", scan, IMAGE).status_code == 200
    assert count_sockets(worker) - own <= limit
    assert held[0].recv(2**16)[9:12] == b"408"
    held[-1].setblocking(False)
    with pytest.raises(BlockingIOError):
        held[-1].recv(1)
    for connection in held:
        connection.close()
    assert "Traceback" not in bounded.errors.read_text()


def count_sockets(process: int) -> int:
    count = 0
    for file in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            count += str(file.readlink()).startswith("socket:")
    return count


@pytest.mark.slow
def test_slow_clients_are_let_go(hasty: Any, scan: bytes) -> None:
    beginnings = [
        HEAD,  # a head that never ends
        HEAD + b"Content-Length: 90000\r\n\r\n",
        HEAD + b"Content-Length: 0000000000000100\r\n\r\n",
        HEAD + b"Content-Length: 900000\r\n\r\n" + bytes(READ_AHEAD + CHUNK),
        CHUNKED + b"100\r\n",
        HEAD + b"Content-Length: 9000\r\nExpect: 100-continue\r\n\r\n",
    ]
    connections = [hasty.connect(beginning) for beginning in beginnings]
    silent = hasty.connect(b"")
    answers = [b""] * len(connections)
    open_ones = set(range(len(connections)))
    deadline = time.monotonic() + 20
    while open_ones and time.monotonic() < deadline:  # a byte now and then
        for index in list(open_ones):
            trickling = connections[index]
            try:
                trickling.send(b"x")
                trickling.settimeout(0.05)
                data = trickling.recv(1000)
            except TimeoutError:
                continue
            except OSError:
                data = b""
            answers[index] += data
            open_ones -= set() if data else {index}
    assert not open_ones
    answers[-1] = answers[-1].removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert {answer[9:12] for answer in answers} == {b"408"}
    assert silent.recv(1) == b""
    for trickling in (*connections, silent):
        trickling.close()
    assert hasty.ask("/api/predict", scan, IMAGE).status_code == 200
    assert "Traceback" not in hasty.errors.read_text()


@pytest.mark.slow
def test_who_takes_no_answer_is_let_go_and_who_waited_too_long_is_told(
    hasty: Any, held: Path, scan: bytes
) -> None:
    with refuse_answers(hasty) as greedy:
        time.sleep(0.3)
        assert hasty.ask("/api/predict", scan, IMAGE).status_code == 200
        time.sleep(3)
        received = 0
        while data := greedy.recv(2**20):
            received += len(data)
        assert received < 8 * len(hasty.ask(LARGE).content)
    held.touch()
    with ThreadPoolExecutor(2) as clients:
        asked = [clients.submit(hasty.ask, "/api/predict", scan, IMAGE) for _ in range(2)]
        wait(asked, return_when=FIRST_COMPLETED)  # one is held, the other gives up its turn
        held.unlink()
        assert {answer.result().status_code for answer in asked} == {200, 503}
    assert "Traceback" not in hasty.errors.read_text()


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
