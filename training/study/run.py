"""A study from start to end: row after row, each kept once finished, the tables after each.

Each row is trained in a process of its own. Starting it and loading Keras costs about 7 s on two
cores. In return nothing of a row stays in memory, on the GPU either, and one killed for want of
memory does not end the study.
"""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing.context import BaseContext
from pathlib import Path

from brainscan.bundle.study import REPORT_FOLDER, Result, keep_result, read_study
from training.processes import ApartError, work_apart
from training.study.plan import Plan, build_request
from training.study.table import write_tables


class RowError(RuntimeError):
    """A row cannot be trained; the message says why."""


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
            result = train_apart(plan, context)
        except (RowError, ApartError) as error:
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


def train_apart(plan: Plan, context: BaseContext | None = None) -> Result:
    """Train a row in a new process, which keeps its result before it ends.

    Whatever interrupts the caller ends that process too; its run resumes the next time.

    Args:
        plan: what to train.
        context: starts the process, as `work_apart` takes it.

    Raises:
        RowError: there is no data.
        ApartError: the row failed, or its process was killed.
    """
    for data in plan.data:
        if not data.is_dir():  # before a process is started for nothing
            raise RowError(
                f"There is no folder {data}. `flask data fetch {data.name}` downloads a known set; "
                "--data names another folder."
            )
    return work_apart(train_row, plan, log=plan.log, context=context)


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
