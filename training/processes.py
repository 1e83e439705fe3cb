"""Processes that end with the one that started them."""

import multiprocessing
import os
import signal
import threading


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
