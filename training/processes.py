"""Calls in processes of their own, of which nothing stays in memory."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, Generic, TypeVar

from tqdm import tqdm

from brainscan.processes import end_with_parent

_SECONDS_TO_END = 10

Subject = TypeVar("Subject")
Result = TypeVar("Result")


class ApartError(RuntimeError):
    """What was called in a process of its own came to nothing; the message says why."""


@dataclass(frozen=True)
class Call(Generic[Subject, Result]):
    """A call for a process of its own.

    Attributes:
        subject: what it is about; stays with the caller.
        function: can be pickled, as can its arguments. Where there is a listener, it gets one
            argument more: a function that calls the listener, here, with what it is called with.
        arguments: of the function.
        log: the file that takes what the process prints.
        listen: gets what the function reports; its exception ends the process.
    """

    subject: Subject
    function: Callable[..., Result]
    arguments: tuple[Any, ...]
    log: Path
    listen: Callable[..., None] | None = None


# Gives the result of a call, or raises its ApartError, or what its listener raised.
Outcome = Callable[[], Result]
# Takes a call when it has a process for it, and gives each call back with what came of it.
Workers = Callable[
    [Iterator[Call[Subject, Result]]], Iterator[tuple[Call[Subject, Result], Outcome[Result]]]
]


def work_here(
    calls: Iterator[Call[Subject, Result]], context: BaseContext | None = None
) -> Iterator[tuple[Call[Subject, Result], Outcome[Result]]]:
    """Make one call after another, each when its outcome is asked for.

    Whatever interrupts the caller ends the call's process too.

    Args:
        calls: are taken one by one.
        context: starts the processes; "spawn", which is safe with every backend, if none is given.
    """
    for call in calls:
        yield call, partial(_follow, call, context)


def _follow(call: Call[Subject, Result], context: BaseContext | None) -> Result:
    reports = call.listen is not None
    with closing(work_apart(call.function, call.arguments, call.log, reports, context)) as messages:
        for is_last, message in messages:
            if call.listen and not is_last:
                call.listen(*message)
    result: Result = take_result(message)
    return result


def take_result(message: Any) -> Any:
    """Give the result that a last message is, or raise the error that it is."""
    if isinstance(message, ApartError):
        raise message
    return message


def work_apart(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    log: Path,
    reports: bool,
    context: BaseContext | None = None,
) -> Generator[tuple[bool, Any], None, None]:
    """Make a call in a new process, so that nothing of it stays in memory, on the GPU either.

    Args:
        function: of the `Call`.
        arguments: of the `Call`.
        log: of the `Call`.
        reports: whether the `Call` has a listener.
        context: starts the process, as `work_here` takes it.

    Yields:
        Whether it is the last message, and the message: what the function reports, and at last its
        result, or an ApartError: the function raised an error, or its process was killed.
    """
    context = context or multiprocessing.get_context("spawn")
    log.parent.mkdir(parents=True, exist_ok=True)
    ours, theirs = context.Pipe()
    process = context.Process(  # type: ignore[attr-defined]
        target=_work, args=(theirs, log, reports)
    )
    process.start()
    theirs.close()
    try:
        # Sent, not given as arguments: so what it imports there goes to the log as well.
        ours.send((function, arguments))
        while not (message := ours.recv())[0]:
            yield message
        process.join(_SECONDS_TO_END)
        yield message
    except (EOFError, ConnectionError):
        process.join()
        reason = f"Its process ended with status {process.exitcode} before it was finished."
        if process.exitcode == -signal.SIGKILL:
            reason = "The system killed its process, most likely because memory ran out."
        yield True, ApartError(reason)
    finally:
        process.kill()  # does nothing to one that has ended
        process.join()


def _work(caller: Connection, log: Path, reports: bool) -> None:
    """Send what there is to report, and then what came of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's: it ends this process
    end_with_parent()
    tqdm.set_lock(threading.RLock())  # its usual one outlives a process that is killed
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(output, stream)

    def report(*values: Any) -> None:
        caller.send((False, values))

    try:
        function, arguments = caller.recv()
        result = function(*arguments, *([report] if reports else []))
    except Exception as error:  # noqa: BLE001  whatever it is, the caller goes on
        traceback.print_exc()
        result = ApartError(f"{error}" or type(error).__name__)
    caller.send((True, result))
