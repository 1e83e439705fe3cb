"""One row in a process of its own.

Starting a process and loading Keras costs a row about 7 s on two cores. In return nothing of it
stays in memory, on the GPU either, and a row killed for want of memory does not end the study.
"""

import os
import signal
import traceback
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext

from brainscan.bundle.study import REPORT_FOLDER, Result, keep_result
from training.processes import end_with_parent
from training.study.plan import Plan, build_request

_SECONDS_TO_END = 10


class RowError(RuntimeError):
    """A row was not trained; the message says why."""


def train_apart(plan: Plan, context: BaseContext) -> Result:
    """Train a row in a new process, which keeps its result before it ends.

    Whatever interrupts the caller ends that process too; its run resumes the next time.

    Args:
        plan: what to train.
        context: starts the process; "spawn" is safe with every backend.

    Raises:
        RowError: the row failed, or its process was killed.
    """
    plan.log.parent.mkdir(parents=True, exist_ok=True)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(plan, sender))  # type: ignore[attr-defined]
    process.start()
    sender.close()
    try:
        answer = receiver.recv()
        process.join(_SECONDS_TO_END)
    except EOFError:
        process.join()
        answer = f"Its process ended with status {process.exitcode} before the row was finished."
        if process.exitcode == -signal.SIGKILL:
            answer = "The system killed its process, most likely because memory ran out."
    finally:
        process.kill()  # does nothing to one that has ended
        process.join()
    if isinstance(answer, Result):
        return answer
    raise RowError(str(answer))


def _work(plan: Plan, sender: Connection) -> None:
    """Train the row and send its result, or in words why there is none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's: it ends this process
    end_with_parent()
    log = os.open(plan.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(log, stream)
    try:
        sender.send(train_row(plan))
    except Exception as error:  # noqa: BLE001  whatever ends a row must not end the study
        traceback.print_exc()
        sender.send(f"{error}" or type(error).__name__)


def train_row(plan: Plan) -> Result:
    """Train a row, or resume it where it was cut off, and keep it with its report."""
    from training.pipeline import train

    outcome = train(build_request(plan), lambda line: print(line, flush=True))  # noqa: T201  a log
    result = Result(
        id=plan.id,
        document=plan.row.document,
        row=plan.row.name,
        budget=plan.budget,
        data=plan.names,
        published=plan.row.published,
        card=outcome.card,
    )
    keep_result(plan.study, result, outcome.run / REPORT_FOLDER)
    return result
