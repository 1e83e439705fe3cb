"""Refusing what would have to wait too long: at once, in the shape its sender reads.

`tumorapp.server.worker` lets requests into lanes and marks those that are too many; the application
answers them, so that they look as every other problem does and are counted and logged alike.
gunicorn's master reads this module, so it imports nothing heavy.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from tumorapp.config import Setting, whole_number
from tumorapp.feature import Feature

if TYPE_CHECKING:
    from flask import Flask

# Where a request's environment says whether it is one too many.
ENVIRON_KEY = "tumorapp.overloaded"


def init_app(app: "Flask") -> None:
    """Refuse the requests of an application that its server has marked."""
    from flask import request

    from brainscan.messages import Problem

    def refuse() -> None:
        if request.environ.get(ENVIRON_KEY):
            raise Problem("overloaded")

    app.before_request(refuse)


class Lane:
    """So many requests at once, and a bounded number that wait: first come, first served.

    Args:
        places: for the requests that are being answered.
        most_waiting: how many more may wait for a place.
        note_waiting: called with 1 when one begins to wait, with -1 when it no longer does.
    """

    def __init__(
        self, places: int, most_waiting: int, note_waiting: Callable[[int], None] = lambda _: None
    ) -> None:
        self._free, self._most_waiting, self._note_waiting = places, most_waiting, note_waiting
        self._turns: deque[threading.Lock] = deque()
        self._lock = threading.Lock()

    @property
    def is_full(self) -> bool:
        """Whether the next request would be refused."""
        return not self._free and len(self._turns) >= self._most_waiting

    @property
    def has_waiting(self) -> bool:
        """Whether somebody waits for a place."""
        return bool(self._turns)

    def enter(self, seconds: float = -1) -> bool:
        """Wait that long for a place (-1: without end); tell whether it is there, to be left."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            if len(self._turns) >= self._most_waiting:
                return False
            turn = threading.Lock()
            turn.acquire()
            self._turns.append(turn)
        self._note_waiting(1)
        came = turn.acquire(timeout=seconds)
        self._note_waiting(-1)
        if not came:
            with self._lock:
                if turn in self._turns:  # else its turn has come in this very moment
                    self._turns.remove(turn)
                    return False
        return True

    def leave(self) -> None:
        """Pass a place on to the first that waits."""
        with self._lock:
            if self._turns:
                self._turns.popleft().release()
            else:
                self._free += 1


FEATURE = Feature(
    "overload",
    init_app=init_app,
    settings=(Setting("MAX_WAITING", 128, whole_number(0, 400)),),
)
