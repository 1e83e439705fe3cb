"""A study from start to end: row after row, each kept once finished, the tables after each.

Each row is trained in a process of its own. Starting it and loading Keras costs about 7 s on two
cores. In return nothing of a row stays in memory, on the GPU either, and one killed for want of
memory does not end the study.
"""

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path

from brainscan.bundle.study import REPORT_FOLDER, Result, keep_result, read_study
from brainscan.processes import end_with_parent
from training.study.plan import Plan, build_request
from training.study.table import write_tables

_SECONDS_TO_END = 10


class RowError(RuntimeError):
    """A row was not trained; the message says why."""


def run_study(
    plans: Sequence[Plan],
    folder: Path,
    tell: Callable[[str], None],
    context: BaseContext | None = None,
) -> dict[str, str]:
    """Train the rows that have no result yet; one that fails does not stop the others.

    Args:
        plans: the rows.
        folder: the study's; takes results, reports and tables.
        tell: takes lines about the progress.
        context: starts the processes of the rows; "spawn" where none is given.

    Returns:
        Why rows were not trained, by their id.

    Raises:
        KeyboardInterrupt: the caller stopped it; finished rows are kept.
    """
    study = read_study(folder)
    for problem in study.problems:
        tell(f"{folder}/{problem}. The row counts as not trained.")
    finished = {result.id for result in study.results}
    waiting = [plan for plan in plans if plan.fresh or plan.id not in finished]
    tell(f"Rows: {len(plans)}, already finished: {len(plans) - len(waiting)}.")
    write_tables(folder)
    failures: dict[str, str] = {}
    started = time.monotonic()
    for number, plan in enumerate(waiting, 1):
        estimate = _estimate(time.monotonic() - started, number - 1, len(waiting))
        tell(f"[{number}/{len(waiting)}] {plan.id}{estimate}")
        try:
            result = train_apart(plan, context or multiprocessing.get_context("spawn"))
        except RowError as error:
            failures[plan.id] = str(error)
            tell(f"    not run: {error}")
            continue
        write_tables(folder)
        tell(f"    {_summarise(result)}")
    return failures


def _estimate(so_far: float, done: int, total: int) -> str:
    """Write the time so far and an estimate of what is left, once a row is done."""
    if not done:
        return ""
    times = [timedelta(seconds=round(one)) for one in (so_far, so_far / done * (total - done))]
    return " ({} so far, about {} left)".format(*times)


def _summarise(result: Result) -> str:
    measured, published = result.measurement, result.published.accuracy
    printed = "none published" if published is None else f"published {published:.4f}"
    pace = measured.seconds_per_epoch
    return (
        f"accuracy {measured.accuracy:.4f} ({printed}), F1 {measured.f1_macro:.4f}, "
        f"{result.training.epochs} epochs" + ("" if pace is None else f" of {pace:.1f} s")
    )


def train_apart(plan: Plan, context: BaseContext) -> Result:
    """Train a row in a new process, which keeps its result before it ends.

    Whatever interrupts the caller ends that process too; its run resumes the next time.

    Args:
        plan: what to train.
        context: starts the process; "spawn" is safe with every backend.

    Raises:
        RowError: there is no data, the row failed, or its process was killed.
    """
    for data in plan.data:
        if not data.is_dir():  # before a process is started for nothing
            raise RowError(
                f"There is no folder {data}. `flask data fetch {data.name}` downloads a known set; "
                "--data names another folder."
            )
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
    """Train the row and send its result, or the reason why it has no result."""
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
