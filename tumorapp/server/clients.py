"""The clients of gunicorn's worker: how long each may take to send and to take, and its body."""

import contextlib
import io
import socket
from collections.abc import Iterable, Iterator
from errno import EPIPE
from math import inf
from time import monotonic
from typing import Any

from gunicorn.http.errors import ParseException

SECONDS_OF_PATIENCE = 10.0  # for a request to arrive …
BYTES_PER_SECOND = 100_000  # … and a second more for each of these that has
SECONDS_TO_TAKE = 30.0  # an answer
SECONDS_TO_LINGER = 2.0  # after the last answer, for its client to read it and close …
BYTES_TO_DISCARD = 2**28  # … which it may do only when all that it sends was taken
READ_AHEAD = 2**18  # bytes of a body that are read before there is a place for the request
CHUNK = 2**16  # bytes that are read at once


class Client:
    """A client that a thread may be waiting for.

    Attributes:
        deadline: when that ends, in seconds of `monotonic`; never, while the service is at work.
        is_sending: whether the client is sending a request, and gets an answer when it is too slow.
        has_place: whether its request has a place in a lane meanwhile.
        is_silent: whether it has sent nothing on this connection so far.
        is_gone: whether its connection was shut.
    """

    def __init__(self) -> None:
        self.is_silent, self.is_gone = True, False
        self.wait(SECONDS_OF_PATIENCE)

    def wait(self, seconds: float, *, sending: bool = False, has_place: bool = False) -> None:
        """Let it have so many seconds from now on."""
        self.deadline, self.is_sending = monotonic() + seconds, sending
        self.has_place = has_place


class Body:
    """`wsgi.input` of a request of which the beginning was read.

    Attributes:
        left: bytes that were not read; infinite while the end of a chunked body was not met.
    """

    def __init__(self, start: bytes, rest: Any, client: Client, left: float) -> None:
        self._start, self._rest, self._client = io.BytesIO(start), rest, client
        self._patience = SECONDS_OF_PATIENCE
        self.left = left

    def read(self, size: int = -1) -> bytes:
        """Read on; raises OSError where the rest is broken or does not come in time."""
        if start := self._start.read(size):
            return start
        if self._rest.failed:  # it would seem to end here
            raise OSError("The request's body is broken.")
        self._client.wait(self._patience, sending=True, has_place=True)
        try:
            data: bytes = self._rest.read(size)
        except ParseException as error:  # werkzeug expects an OSError
            raise OSError(f"The request's body is broken: {error}") from error
        self.left = self.left - len(data) if data else 0
        patience = self._client.deadline - monotonic() + len(data) / BYTES_PER_SECOND
        self._patience = min(patience, SECONDS_OF_PATIENCE)
        if self._client.is_gone:
            raise BrokenPipeError(EPIPE, "The request did not arrive in time.")
        self._client.deadline = inf
        return data


def measure_body(environ: dict[str, Any]) -> float:
    """Give the bytes of a request's body as its headers tell: of a chunked one, infinitely many."""
    if environ.get("HTTP_TRANSFER_ENCODING"):
        return inf
    return int(environ.get("CONTENT_LENGTH") or 0)


def read_ahead(environ: dict[str, Any], client: Client) -> tuple[Body, bool]:
    """Read a body, or the beginning of a large one; tell whether it is large.

    Raises:
        BrokenPipeError: it did not come in time.
    """
    body, start = environ["wsgi.input"], b""
    with contextlib.suppress(ParseException, OSError):  # the application reads on, and says so
        while len(start) <= READ_AHEAD and (data := body.read(CHUNK)):
            start += data
            client.deadline += len(data) / BYTES_PER_SECOND
    if client.is_gone:
        raise BrokenPipeError(EPIPE, "The request did not arrive in time.")
    if len(start) <= READ_AHEAD:
        return Body(start, body, client, 0), False
    return Body(start, body, client, measure_body(environ) - len(start)), True


def give_time(answer: Iterable[bytes], client: Client) -> Iterator[bytes]:
    """Pass an answer on: a stream's client has the time to take one for each piece of it."""
    try:
        for piece in answer:
            client.wait(SECONDS_TO_TAKE)
            yield piece
    finally:
        if hasattr(answer, "close"):
            answer.close()


def linger(sock: socket.socket, client: Client) -> None:
    """Take what a client still sends before its connection is closed.

    Closing at once, with bytes unread, would take the answer from it, and gunicorn's main loop
    would wait for it.
    """
    client.wait(SECONDS_TO_LINGER)
    sock.shutdown(socket.SHUT_WR)
    discarded = 0
    while discarded < BYTES_TO_DISCARD and (data := sock.recv(CHUNK)):
        discarded += len(data)
        client.deadline += len(data) / BYTES_PER_SECOND
    sock.shutdown(socket.SHUT_RDWR)
