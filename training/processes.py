"""Work on many files in processes that end with the one that started them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from tqdm import tqdm

# Starting a process takes a third of a second, which pays from about this many scans on.
WORTH_PROCESSES = 1000
_STEP = 32

Item = TypeVar("Item")
Result = TypeVar("Result")


def work_through(
    function: Callable[[Item], Result], items: Sequence[Item], description: str
) -> Iterator[Result]:
    """Yield a function's results for scans in order, under a progress bar with a description.

    Many scans are worked on in as many processes as there are cores. Threads would wait for the
    interpreter's lock between OpenCV's short calls. Forking is not safe here: the training
    framework has threads of its own.
    """
    with tqdm(desc=description, total=len(items), unit="scan") as bar:
        if len(items) < WORTH_PROCESSES:
            for item in items:
                yield function(item)
                bar.update()
            return
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(os.cpu_count(), spawn, _begin_process) as pool:
            for result in pool.map(function, items, chunksize=_STEP):
                yield result
                bar.update()


def _begin_process() -> None:
    import cv2  # here, as nothing else in this module needs it

    cv2.setNumThreads(1)  # the processes use every core already
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
