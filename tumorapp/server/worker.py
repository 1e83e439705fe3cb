"""gunicorn's worker with threads, bounded: slow clients hold no thread, and no queue is endless.

    connection → the main loop reads its request → a thread answers → the main loop waits again

Threads get whole requests: the main loop reads as many connections as there are at once, each
against a deadline that moves with what arrives, so a client that trickles is let go. The rest of a
large body is read by a thread of a second pool, against the same kind of deadline. Past
`MAX_WAITING` requests the next is refused at once, and so is one that has waited too long. Whoever
watches the service has a thread apart, which also says the refusals.
"""

import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from selectors import EVENT_READ
from time import monotonic, sleep
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from tumorapp.server import overload
from tumorapp.server.connection import Connection

SECONDS_TO_WAIT = 30.0  # for a thread
SECONDS_TO_TAKE = 30.0  # an answer
SECONDS_TO_LINGER = 2.0  # after the last answer, for its client to read it and close

_LARGE_REQUESTS = 16  # whose bodies are read, each by a thread

_CHUNK = 2**16  # bytes received at once
_SECONDS_BETWEEN_SWEEPS = 0.5
_SECONDS_OF_THE_SPARE = 1.0  # thread, for a client to send the rest, or to take its few words
_SECONDS_BETWEEN_COMPLAINTS = 60.0
_SECONDS_WITHOUT_ROOM = 0.05

_TOO_SLOW = (
    b'{"type": "about:blank", "title": "Request Timeout", "status": 408, "detail": "The request '
    b'did not arrive in time. Send it at once, and 100 kB of it a second at least."}'
)
_TOO_SLOW_ANSWER = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/problem+json\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(_TOO_SLOW), _TOO_SLOW)
)


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """The worker that `gunicorn.conf.py` names.

    Its methods run in the main loop, so that nothing is locked; `handle_request` and what it calls
    run in a thread.
    """

    wsgi: Any

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._waiting: dict[Connection, None] = {}  # for their clients, the longest first
        self._working: set[Connection] = set()
        self._counted = 0  # requests that wait for a thread or have one
        self._next_sweep = self._next_complaint = 0.0
        self._current = threading.local()
        # Left open until the process ends: threads still write into it when the main loop has
        # ended, and would write into whatever file had got its number.
        self.method_queue.close = lambda: None

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Refuse what this worker does not know."""
        if cfg.is_ssl:
            sys.exit("This server speaks no TLS. Put a proxy in front of it that does.")
        super().check_config(cfg, log)

    def load_wsgi(self) -> None:
        """Load the application, and learn from it how many requests may wait."""
        super().load_wsgi()
        self._application = self.wsgi
        self.wsgi = self._answer
        settings = self._application.config
        self._most: int = self.cfg.threads + settings["MAX_WAITING"]
        self._note_waiting: Callable[[int], None] | None = None
        if settings["METRICS"] == "on":
            from tumorapp.metrics import note_waiting

            self._note_waiting = note_waiting
        self._spare = ThreadPoolExecutor(1)
        self._large = ThreadPoolExecutor(_LARGE_REQUESTS)

    def accept(self, listener: socket.socket) -> bool:
        """Take a connection, if there is one; tell whether there was.

        Where there are too many, the one that idles longest makes room.
        """
        if self.nr_conns >= self.worker_connections - 1 and self._waiting:
            self._close(next(iter(self._waiting)))
        try:
            client, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False
        except OSError as error:  # no more files or memory, which is no reason to end
            self._make_room(error)
            return False
        self.nr_conns += 1
        connection = Connection(self.cfg, client, address, listener.getsockname())
        self._wait(connection, self._receive)
        return True

    def _make_room(self, error: OSError) -> None:
        now = monotonic()
        if now >= self._next_complaint:
            self._next_complaint = now + _SECONDS_BETWEEN_COMPLAINTS
            self.log.error("No more connections can be taken: %s", error)
        if self._waiting:
            self._close(next(iter(self._waiting)))
        else:
            sleep(_SECONDS_WITHOUT_ROOM)  # else the main loop would try all the time

    def _wait(self, connection: Connection, callback: Callable[..., None]) -> None:
        self.poller.register(connection.sock, EVENT_READ, partial(callback, connection))
        self._waiting[connection] = None

    def _stop_waiting(self, connection: Connection) -> None:
        del self._waiting[connection]
        self.poller.unregister(connection.sock)

    def _close(self, connection: Connection) -> None:
        if connection in self._waiting:
            self._stop_waiting(connection)
        self.nr_conns -= 1
        connection.close()

    def _receive(self, connection: Connection, client: socket.socket) -> None:
        if connection not in self._waiting:
            return  # it made room for another after its bytes had been noticed
        try:
            data = client.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._close(connection)
            return
        if data:
            connection.take(data)
        elif not connection.received:
            self._close(connection)
            return
        # Of a request that ends too early the application says so.
        if not data or connection.is_ready or (connection.has_head and self._is_full()):
            self._stop_waiting(connection)
            self._hand_over(connection)

    def _is_full(self) -> bool:
        return self._counted >= self._most

    def _hand_over(self, connection: Connection) -> None:
        connection.refused = not connection.watches and self._is_full()
        connection.counted = not connection.watches and not connection.refused
        if connection.counted:
            self._count(1)
        # In chunks, nobody knows before they are parsed whether all have come.
        pool = self.tpool if connection.is_whole and connection.has_length else self._large
        connection.hand_over()
        if not connection.counted:
            pool = self._spare
            connection.parser.unreader.deadline = monotonic() + _SECONDS_OF_THE_SPARE
        self._working.add(connection)
        pool.submit(self.handle, connection).add_done_callback(
            lambda future: self.method_queue.defer(self.finish_request, connection, future)
        )

    def _count(self, change: int) -> None:
        before = max(0, self._counted - self.cfg.threads)
        self._counted += change
        now = max(0, self._counted - self.cfg.threads)
        if self._note_waiting and now != before:
            self._note_waiting(now)

    def handle_request(self, req: Any, conn: Connection) -> bool:
        """Answer a request, in a thread; tell whether its connection can go on."""
        if conn.counted and monotonic() - conn.since > SECONDS_TO_WAIT:
            conn.refused = True
        if conn.refused:
            req.force_close()  # its body may be on its way
        if not conn.counted:
            conn.sock.settimeout(_SECONDS_OF_THE_SPARE)
        self._current.connection = conn
        try:
            kept: bool = super().handle_request(req, conn)
        except TimeoutError:
            return False
        return kept

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer as the application does, for the connection of this thread."""
        connection: Connection = self._current.connection
        environ[overload.ENVIRON_KEY] = connection.refused
        answer: Iterable[bytes] = self._application(environ, start_response)
        connection.taken_by = monotonic() + SECONDS_TO_TAKE
        return answer

    def finish_request(self, conn: Connection, fs: "Future[bool]") -> None:
        """Wait for the next request of a connection, or for its end."""
        self._working.remove(conn)
        if conn.counted:
            self._count(-1)
        kept = not fs.cancelled() and fs.exception() is None and fs.result()
        try:
            conn.sock.setblocking(False)
            if kept:
                self._begin(conn)
            else:
                conn.sock.shutdown(socket.SHUT_WR)
                conn.expect(b"", SECONDS_TO_LINGER)
                self._wait(conn, self._discard)
        except OSError:  # its client has gone
            self._close(conn)

    def _begin(self, connection: Connection) -> None:
        """Begin with the next request of a connection, some of which may have come already."""
        seconds = self.cfg.keepalive if self.alive else min(SECONDS_TO_LINGER, self.cfg.keepalive)
        connection.expect(connection.parser.unreader.take_buffered(), seconds)
        if connection.is_ready:
            self._hand_over(connection)
        else:
            self._wait(connection, self._receive)

    def _discard(self, connection: Connection, client: socket.socket) -> None:
        """Throw away what still comes: closing at once would take the answer from its client."""
        if connection not in self._waiting:
            return
        try:
            ended = not client.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            ended = True
        if ended:
            self._close(connection)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """End at once; gunicorn's own asks for a lock that the interrupted code may hold."""
        super(ThreadWorker, self).handle_quit(sig, frame)

    def murder_pending(self) -> None:
        """Let go of the clients that are too slow; gunicorn's loop calls this."""
        now = monotonic()
        if now < self._next_sweep:
            return
        self._next_sweep = now + _SECONDS_BETWEEN_SWEEPS
        for connection in [waiting for waiting in self._waiting if waiting.timeout < now]:
            if connection.received:
                with contextlib.suppress(OSError):
                    connection.sock.send(_TOO_SLOW_ANSWER)
            self._close(connection)
        for connection in self._working:
            if connection.taken_by < now:
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)  # wakes the thread

    def _cap_keepalive(self, deadline: float) -> None:
        """Take the last connections, and wait until then for requests to begin.

        gunicorn calls this when the worker is told to stop. Clients that come later are refused
        rather than left without an answer.
        """
        for listener in self.sockets:
            while self.accept(listener):
                pass
            listener.close()
        for connection in self._waiting:
            if not connection.received:
                connection.timeout = min(connection.timeout, deadline)
