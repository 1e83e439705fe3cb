"""A study from start to end: row after row, each kept once finished, the tables after each."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing.context import BaseContext
from pathlib import Path

from brainscan.bundle.study import Result, read_study
from training.study.plan import Plan
from training.study.process import RowError, train_apart
from training.study.table import write_tables


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
            result = _train(plan, context or multiprocessing.get_context("spawn"))
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


def _train(plan: Plan, context: BaseContext) -> Result:
    for data in plan.data:
        if not data.is_dir():  # before a process is started for nothing
            raise RowError(
                f"There is no folder {data}. `flask data fetch {data.name}` downloads a known set; "
                "--data names another folder."
            )
    return train_apart(plan, context)


def _summarise(result: Result) -> str:
    measured, published = result.measurement, result.published.accuracy
    printed = "none published" if published is None else f"published {published:.4f}"
    pace = measured.seconds_per_epoch
    return (
        f"accuracy {measured.accuracy:.4f} ({printed}), F1 {measured.f1_macro:.4f}, "
        f"{result.training.epochs} epochs" + ("" if pace is None else f" of {pace:.1f} s")
    )
