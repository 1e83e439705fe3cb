"""Work on many files in processes that end with the one that started them."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from typing import TypeVar

from tqdm import tqdm

# Starting a process takes a second or two, which pays from about this many scans on.
WORTH_PROCESSES = 1000
_STEP = 32
_AHEAD = 3  # pieces of work for each process, so that none waits for its next one

Item = TypeVar("Item")
Result = TypeVar("Result")


def work_through(
    function: Callable[[Item], Result], items: Sequence[Item], description: str
) -> Iterator[Result]:
    """Yield a function's results for scans in order, under a progress bar with a description.

    Many scans are worked on in as many processes as there are cores.
    """
    with tqdm(desc=description, total=len(items), unit="scan") as bar:
        if len(items) < WORTH_PROCESSES:
            for item in items:
                yield function(item)
                bar.update()
            return
        pieces = (items[start : start + _STEP] for start in range(0, len(items), _STEP))
        for results in spread(partial(_work_on, function), pieces):
            yield from results
            bar.update(len(results))


def _work_on(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    return [function(item) for item in items]


def spread(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield a function's results in order, from as many processes as there are cores.

    Of any number of items only a few are held at a time. Threads would wait for the interpreter's
    lock between OpenCV's short calls. Forking is not safe here: the training framework, and
    OpenVINO, have threads of their own.
    """
    cores = os.cpu_count() or 1
    # Read by NumPy when a process imports it: its threads would compete with the processes.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, spawn, _begin_process) as pool:
        under_way: deque[Future[Result]] = deque()
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) > _AHEAD * cores:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def _begin_process() -> None:
    import cv2  # here, as nothing else in this module needs it

    cv2.setNumThreads(1)  # the processes use every core already
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that started them
    end_with_parent()


def end_with_parent() -> None:
    """Let this process, which multiprocessing started, end with the one that started it.

    A parent that is killed has no time to end its children, and these would wait for it, or work
    on, for ever. They get SIGTERM.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait, args=(parent,), name="parent", daemon=True).start()


def _wait(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
