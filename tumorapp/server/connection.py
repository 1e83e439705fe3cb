"""A connection of `tumorapp.server.worker`, and how much of its next request has arrived.

What is read here of a request decides only who waits for its bytes, the main loop or a thread;
gunicorn's own parser reads them all afterwards.
"""

import re
from math import inf
from time import monotonic
from typing import Any

from gunicorn import http
from gunicorn.http.errors import NoMoreData
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import TConn

SECONDS_OF_PATIENCE = 10.0  # for a request to arrive …
BYTES_PER_SECOND = 100_000  # … and a second more for each of these that has
READ_AHEAD = 2**18  # bytes of a request that need no thread

_FRAMING = re.compile(
    rb"\r\n(content-length|transfer-encoding|expect):[ \t]*([^\r]*)", re.IGNORECASE
)
_LENGTH = re.compile(rb"[0-9]{1,15}")
_WATCHING = re.compile(rb"(?:GET|HEAD) /(?:healthz|readyz|metrics|v2/health/(?:live|ready))[ ?]")


class _Reader(SocketUnreader):  # type: ignore[misc]  # gunicorn ships no types
    """What a thread still reads of a request; a client that is too slow counts as gone."""

    deadline: float | None = None

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Wait for the next bytes of a request.

        Raises:
            NoMoreData: they did not come in time.
        """
        if self.deadline is None:
            self.deadline = monotonic() + SECONDS_OF_PATIENCE
        self.sock.settimeout(max(self.deadline - monotonic(), 0.001))
        try:
            data: bytes = super().chunk(size_hint)
        except TimeoutError:
            raise NoMoreData from None
        finally:
            self.sock.settimeout(None)
        self.deadline += len(data) / BYTES_PER_SECOND
        return data


class Connection(TConn):  # type: ignore[misc]
    """A connection and its next request.

    Attributes:
        timeout: when the main loop stops waiting for it, in seconds of `monotonic`.
        received: what has come of the request so far.
        has_head: whether it is known what is asked for.
        watches: whether it asks how the service is.
        counted: whether it counts among the requests that wait for a thread or have one.
        refused: whether it is to be told that there are too many.
        since: when a thread could have begun with it.
        taken_by: when its client should have taken the answer.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.parser = http.get_parser(self.cfg, self.sock, self.client)
        self.parser.unreader = _Reader(self.sock)
        self.initialized = self.data_ready = True  # gunicorn's threads have nothing to wait for
        self.expect(b"", SECONDS_OF_PATIENCE)

    def expect(self, received: bytes, seconds: float) -> None:
        """Begin with a request of which these bytes are known, and wait that long for more."""
        self.timeout = monotonic() + seconds
        self.received = bytearray()
        self.has_head = self.watches = self.counted = self.refused = False
        self._is_asking = False  # for a word before it sends its body
        self.since = self.taken_by = inf
        self._body = 0  # where it begins
        self._length: int | None = None  # of head and body together, where that is known
        self.parser.unreader.deadline = None
        if received:
            self.take(received)

    def take(self, data: bytes) -> None:
        """Add what has arrived."""
        if not self.received:
            self.timeout = monotonic() + SECONDS_OF_PATIENCE
        self.timeout += len(data) / BYTES_PER_SECOND
        searched = max(0, len(self.received) - 3)
        self.received += data
        if not self.has_head and (end := self.received.find(b"\r\n\r\n", searched)) >= 0:
            self.has_head = True
            self._body = end + 4
            self._read_framing()

    def _read_framing(self) -> None:
        headers = _FRAMING.findall(self.received, 0, self._body)
        framing = {name.lower(): value.strip() for name, value in headers}
        self.watches = not framing and _WATCHING.match(self.received) is not None
        length = framing.get(b"content-length", b"")
        self._is_asking = b"expect" in framing
        if b"transfer-encoding" not in framing:
            self._length = self._body + (int(length) if _LENGTH.fullmatch(length) else 0)

    @property
    def is_ready(self) -> bool:
        """Whether a thread can go on with the request: it is whole, or its rest takes a thread."""
        large = len(self.received) >= READ_AHEAD
        return large or (self.has_head and self._is_asking) or self.is_whole

    @property
    def has_length(self) -> bool:
        """Whether it is known how long the request is: it comes in no chunks."""
        return self._length is not None

    @property
    def is_whole(self) -> bool:
        """Whether all of the request has come."""
        if not self.has_head or self._is_asking:
            return False
        if self._length is not None:
            return len(self.received) >= self._length
        # In chunks, of which the last is empty. Where this errs, a thread waits for the rest.
        body = self.received[self._body - 2 :]
        return len(body) > 2 and (b"\r\n0\r\n" in body or body.endswith(b"\r\n\r\n"))

    def hand_over(self) -> None:
        """Give what has arrived to gunicorn's parser, with which a thread goes on."""
        self.since = monotonic()
        self.parser.unreader.unread(bytes(self.received))
        self.received.clear()
