"""Calls in processes of their own, of which nothing stays in memory."""

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from brainscan.processes import end_with_parent

_SECONDS_TO_END = 10

Result = TypeVar("Result")


class ApartError(RuntimeError):
    """What was called in a process of its own came to nothing; the message says why."""


def work_apart(
    function: Callable[..., Result],
    *arguments: Any,
    log: Path,
    context: BaseContext | None = None,
    listen: Callable[..., None] | None = None,
) -> Result:
    """Call a function in a new process, so that nothing of it stays in memory, on the GPU either.

    Whatever interrupts the caller ends that process too, as does an exception of `listen`.

    Args:
        function: can be pickled, as can its arguments. Where there is a listener, it gets one
            argument more: a function that calls the listener, here, with what it is called with.
        *arguments: of the function.
        log: the file that takes what the process prints.
        context: starts the process; "spawn", which is safe with every backend, if none is given.
        listen: is told what the function reports.

    Raises:
        ApartError: the function raised an error, or its process was killed.
    """
    context = context or multiprocessing.get_context("spawn")
    log.parent.mkdir(parents=True, exist_ok=True)
    receiver, sender = context.Pipe(duplex=False)
    # Pickled here, so that what it imports there is quiet, as all that it prints.
    work = pickle.dumps((function, arguments))
    process = context.Process(  # type: ignore[attr-defined]
        target=_work_apart, args=(work, log, sender, listen is not None)
    )
    process.start()
    sender.close()
    try:
        while not (message := receiver.recv())[0]:
            if listen:
                listen(*message[1])
        process.join(_SECONDS_TO_END)
    except EOFError:
        process.join()
        reason = f"Its process ended with status {process.exitcode} before it was finished."
        if process.exitcode == -signal.SIGKILL:
            reason = "The system killed its process, most likely because memory ran out."
        raise ApartError(reason) from None
    finally:
        process.kill()  # does nothing to one that has ended
        process.join()
    _, result = message
    if isinstance(result, ApartError):
        raise result
    answer: Result = result
    return answer


def _work_apart(work: bytes, log: Path, sender: Connection, reports: bool) -> None:
    """Send whether the work is finished, and what there is to report or what came of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's: it ends this process
    end_with_parent()
    tqdm.set_lock(threading.RLock())  # its usual one outlives a process that is killed
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(output, stream)

    def report(*values: Any) -> None:
        sender.send((False, values))

    try:
        function, arguments = pickle.loads(work)  # noqa: S301  the caller's
        result = function(*arguments, *([report] if reports else []))
    except Exception as error:  # noqa: BLE001  whatever it is, the caller goes on
        traceback.print_exc()
        result = ApartError(f"{error}" or type(error).__name__)
    sender.send((True, result))
