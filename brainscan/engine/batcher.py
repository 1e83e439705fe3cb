"""Who runs next: a scan that comes alone at once, and those of a load together.

A batch costs less processor time than its scans one by one, and nobody waits for one to fill: while
the model is at work, scans gather for the next.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from brainscan.engine.base import Outputs, join

Run = Callable[[NDArray[np.uint8]], Outputs]
_Waiting = tuple[NDArray[np.uint8], "Future[Outputs]"]


class Batcher:
    """Runs a model on scans of many callers, first come, first served.

    Args:
        run_one: runs it on one scan; called by one thread at a time.
        run_batch: runs it on `size` scans; called by up to `threads` threads at once.
        size: scans of a batch.
        threads: inferences that run at once.
    """

    def __init__(self, run_one: Run, run_batch: Run, size: int, threads: int) -> None:
        self._run_one, self._run_batch, self._size = run_one, run_batch, size
        self._most_running, self._running = threads, 0
        self._waiting: deque[_Waiting] = deque()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(threads, "inference")

    def predict(self, pixels: NDArray[np.uint8]) -> Outputs:
        """Run the model on scans; see `Engine`."""
        answers: list[Future[Outputs]] = [Future() for _ in pixels]
        asked = list(zip(np.split(pixels, len(pixels)), answers, strict=True))
        with self._lock:
            is_alone = len(asked) == 1 and not self._running
            if is_alone:
                self._running += 1
            else:
                self._waiting.extend(asked)
                self._start()
        if is_alone:
            self._run(asked)  # without another thread
        return join([answer.result() for answer in answers])

    def _start(self) -> None:
        """Start what is worth it: a single scan alone, a further batch before many that wait.

        Fewer leave the other cores to those who prepare the next scans.
        """
        while self._waiting and self._running < self._most_running:
            if self._running and len(self._waiting) < self._size * (self._running + 1):
                return
            count = self._size if len(self._waiting) >= self._size else 1
            self._running += 1
            self._threads.submit(self._run, [self._waiting.popleft() for _ in range(count)])

    def _run(self, asked: list[_Waiting]) -> None:
        run = self._run_one if len(asked) == 1 else self._run_batch
        try:
            found = run(np.concatenate([pixels for pixels, _ in asked]))
        except Exception as error:  # noqa: BLE001  (those who wait shall have it)
            for _, answer in asked:
                answer.set_exception(error)
        else:
            for place, (_, answer) in enumerate(asked):
                answer.set_result(found.select(place))
        finally:
            with self._lock:
                self._running -= 1
                self._start()
