"""gunicorn's worker with threads, bounded: slow clients hold up nobody, and no queue is endless.

    connection → its thread reads the request → waits in a lane → the application → its thread sends

A busy connection has a thread of its own, which may wait for its client: threads are cheap. What is
scarce is bounded by lanes: `THREADS` requests are computed at once, `MAX_WAITING` more wait, and
the next is refused. The main loop looks at every client's deadline and shuts the connection of one
that is too slow, which wakes its thread. gunicorn's parser alone decides what a request is.
"""

import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from math import inf
from select import POLLIN, poll
from time import monotonic, sleep
from typing import Any

from gunicorn.workers.base import Worker as BaseWorker
from gunicorn.workers.gthread import ThreadWorker
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from brainscan.messages import Problem
from tumorapp.config import PREFIX
from tumorapp.server import clients
from tumorapp.server.clients import Body, Client
from tumorapp.server.overload import ENVIRON_KEY, Lane

SECONDS_TO_WAIT = 30.0  # in a lane
SECONDS_IN_THE_WAY = 3.0  # for the next piece of a large body, while others wait for its place

_MOST_LEFT = 2**16  # bytes of a body, which gunicorn reads and throws away after an answer
_LARGE_REQUESTS = 16  # whose bodies are read at once
_WATCHED = ("/healthz", "/readyz", "/metrics")
_WATCHED_BELOW = "/v2/health/"

_PREFIX = "SCRIPT_NAME"  # the variable of gunicorn and other servers
_SECONDS_BETWEEN_SWEEPS = 0.5
_SECONDS_BETWEEN_COMPLAINTS = 60.0
_SECONDS_WITHOUT_ROOM = 0.05
_MILLISECONDS_TO_STAY = 5  # with a client that may send its next request


def _read_prefix() -> str:
    return os.environ.get(_PREFIX, "").rstrip("/")


def _write_problem(status: int, reason: str, problem: Problem) -> bytes:
    """Write an answer that the application cannot give, as it writes its own."""
    from tumorapp.security import HEADERS

    fields = {
        "type": f"urn:problem-type:tumorapp:{problem.code}",
        "code": problem.code,
        "title": problem.message.kind.title,
        "status": status,
        "detail": str(problem),
    }
    body = json.dumps(fields)
    headers = {
        **HEADERS,
        "Cache-Control": "no-store",
        "Connection": "close",
        "Content-Type": "application/problem+json",
        "Content-Length": str(len(body)),
    }
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {headers[name]}" for name in headers)]
    return "\r\n".join([*lines, "", body]).encode()


class _Answer:
    """Takes what gunicorn writes to a client."""

    data = b""

    def gettimeout(self) -> float:
        return 0.0

    def sendall(self, data: bytes) -> None:
        self.data += data


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """The worker that `gunicorn.conf.py` names.

    `handle` and `_answer` run in a connection's thread, everything else in the main loop.
    """

    wsgi: Any

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._clients: dict[socket.socket, Client] = {}  # that have a thread, the oldest first
        self._next_sweep = self._next_complaint = 0.0

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Refuse what this worker does not know."""
        if cfg.is_ssl:
            sys.exit("This server speaks no TLS. Put a proxy in front of it that does.")
        prefix = _read_prefix()
        try:
            PREFIX.parse(prefix or "/default")
        except ValueError:
            sys.exit(f"SCRIPT_NAME is {prefix!r}, which is not accepted. Give {PREFIX.accepted}.")
        super().check_config(cfg, log)

    def get_thread_pool(self) -> ThreadPoolExecutor:
        """Give each connection a thread: `cfg.threads` are the requests that are computed."""
        return ThreadPoolExecutor(self.cfg.worker_connections)

    def load_wsgi(self) -> None:
        """Load the application, and learn from it how many requests may wait."""
        try:
            super().load_wsgi()
        except SystemExit:
            if not 1 < self.age <= self.cfg.workers:
                raise
            while self.alive:  # gunicorn stops when the first worker fails, and trips over others
                sleep(_SECONDS_WITHOUT_ROOM)
            sys.exit()
        self._application = self.wsgi
        self.wsgi = self._answer
        if prefix := _read_prefix():
            # gunicorn's own way would answer requests without the prefix, such as probes, with 500.
            del os.environ[_PREFIX]
            self.wsgi = DispatcherMiddleware(self._answer, {prefix: self._answer})
        settings = self._application.config
        lanes: tuple[Any, ...] = (settings["MAX_WAITING"],)
        if settings["METRICS"] == "on":
            from tumorapp.metrics import note_waiting

            lanes = (*lanes, note_waiting)
        self._lane = Lane(self.cfg.threads, *lanes)
        self._large = Lane(_LARGE_REQUESTS, *lanes)
        self._spare = Lane(1, self.cfg.worker_connections)  # for who watches, and for refusals

    def accept(self, listener: socket.socket) -> None:
        """Take a connection; where there are too many, the one that waits longest makes room."""
        if self.nr_conns >= self.worker_connections - 1:
            self._make_room()
        try:
            super().accept(listener)
        except OSError as error:  # no more files or memory, which is not a reason to end
            self._complain(error)
            self._make_room()
            sleep(_SECONDS_WITHOUT_ROOM)  # else the main loop would try all the time

    def enqueue_req(self, conn: Any) -> None:
        """Give a connection its thread; close it where the system grants no more of them."""
        try:
            super().enqueue_req(conn)
        except RuntimeError as error:
            self._complain(error)
            self.nr_conns -= 1
            conn.close()
            self._make_room()

    def _complain(self, error: Exception) -> None:
        if monotonic() >= self._next_complaint:
            self._next_complaint = monotonic() + _SECONDS_BETWEEN_COMPLAINTS
            self.log.error("No more connections can be taken: %s", error)

    def _make_room(self) -> None:
        if self.keepalived_conns:
            self.murder_keepalived(force=True)
            return
        for sock, client in list(self._clients.items()):
            if client.deadline < inf:
                self._let_go(sock, client)
                return

    def _let_go(self, sock: socket.socket, client: Client) -> None:
        client.deadline, client.is_gone = inf, True
        with contextlib.suppress(OSError):
            if client.is_sending:
                answer = _write_problem(408, "Request Timeout", Problem("too-slow"))
                sock.send(answer, socket.MSG_DONTWAIT)
            sock.shutdown(socket.SHUT_RDWR)  # wakes the thread

    def notify(self) -> None:
        """Let go of the clients that are too slow; gunicorn's loop calls this at each turn."""
        super().notify()
        now = monotonic()
        if now < self._next_sweep:
            return
        self._next_sweep = now + _SECONDS_BETWEEN_SWEEPS
        soon = now + clients.SECONDS_OF_PATIENCE - SECONDS_IN_THE_WAY
        for sock, client in list(self._clients.items()):
            is_in_the_way = client.has_place and self._large.has_waiting
            if client.deadline < (soon if is_in_the_way else now):
                self._let_go(sock, client)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Take the last connections when the worker stops.

        Clients that come later are refused rather than left without an answer.
        """
        super().set_accept_enabled(enabled)
        if enabled or self.alive:  # one that is stopped while it starts gets here twice
            return
        for listener in self.sockets:
            ready = poll()
            ready.register(listener, POLLIN)
            for _ in range(self.cfg.backlog):
                if not ready.poll(0):
                    break
                self.accept(listener)
            listener.close()
        for client in list(self._clients.values()):
            if client.is_silent:
                client.deadline = min(client.deadline, monotonic() + clients.SECONDS_TO_LINGER)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """End at once; gthread's own asks for a lock that the interrupted code may hold."""
        for sock, client in list(self._clients.items()):
            self._let_go(sock, client)
        BaseWorker.handle_quit(self, sig, frame)

    def handle(self, conn: Any) -> Any:
        """Answer a request of a connection; tell whether the connection can go on."""
        client = self._clients[conn.sock] = Client()
        try:
            if not conn.initialized:
                conn.data_ready = True  # gunicorn need not look: it would take one more file
                conn.sock.setblocking(True)
                conn.sock.recv(1, socket.MSG_PEEK)
                conn.init()
                conn.parser.unreader.mxchunk = clients.CHUNK
            kept = True
            next_request = poll()
            next_request.register(conn.sock, POLLIN)
            # A client that sends its next request at once need not go through the main loop.
            while kept and (client.is_silent or next_request.poll(_MILLISECONDS_TO_STAY)):
                client.is_silent = False
                client.wait(clients.SECONDS_OF_PATIENCE, sending=True)
                kept = super().handle(conn)
            if not kept:
                clients.linger(conn.sock, client)
        except OSError:
            return False  # the client has gone
        else:
            return kept
        finally:
            del self._clients[conn.sock]

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Answer what is not HTTP with gunicorn's status, in the shape of every other problem."""
        answer = _Answer()
        super().handle_error(req, answer, addr, exc)
        _, status, reason = answer.data.partition(b"\r\n")[0].decode().split(" ", 2)
        unforeseen = int(status) == HTTPStatus.INTERNAL_SERVER_ERROR
        problem = Problem("internal-error" if unforeseen else "not-http")
        with contextlib.suppress(OSError):
            client.sendall(_write_problem(int(status), reason, problem))

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Let a request wait for its place, and the application answer it."""
        client = self._clients[environ["gunicorn.socket"]]
        lane, environ[ENVIRON_KEY] = self._admit(environ, client)
        body = environ["wsgi.input"]
        try:
            answer: Iterable[bytes] = self._application(environ, start_response)
        finally:
            lane.leave()
            client.wait(clients.SECONDS_TO_TAKE)
        left = body.left if isinstance(body, Body) else clients.measure_body(environ)
        if left > _MOST_LEFT:
            # gunicorn would announce another request, and then close the connection.
            start_response.__self__.force_close()
        is_file = isinstance(
            answer, environ["wsgi.file_wrapper"]
        )  # which gunicorn sends its own way
        return answer if is_file else clients.give_time(answer, client)

    def _admit(self, environ: dict[str, Any], client: Client) -> tuple[Lane, bool]:
        """Give the lane in which a request has a place, and whether it is to be refused there."""
        path = environ["PATH_INFO"]
        watches = path in _WATCHED or path.startswith(_WATCHED_BELOW)
        if not watches and not self._lane.is_full:
            body, is_large = clients.read_ahead(environ, client)
            environ["wsgi.input"] = body
            lane = self._large if is_large else self._lane
            client.deadline = inf
            if lane.enter(SECONDS_TO_WAIT):
                return lane, False
        client.deadline = inf
        self._spare.enter()
        return self._spare, not watches
