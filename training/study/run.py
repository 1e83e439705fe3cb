"""A study from start to end: each row is kept once finished, the tables are written after each.

Each row is trained in a process of its own. Starting it and loading Keras costs about 7 s on two
cores. In return nothing of a row stays in memory, on the GPU either, and one killed for want of
memory does not end the study.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import cast

from brainscan.bundle.figures import FIGURES_FILE, Figures
from brainscan.bundle.measurement import Measurement
from brainscan.bundle.plain import read_json
from brainscan.bundle.study import REPORT_FOLDER, Result, keep_result, read_study
from brainscan.files import read_file
from training.processes import ApartError, Call, Workers, work_here
from training.study.plan import Plan, build_request
from training.study.table import write_tables


def run_study(
    plans: Sequence[Plan],
    folder: Path,
    tell: Callable[[str], None],
    workers: Workers[Plan, Result] = work_here,
) -> dict[str, str]:
    """Train the rows that have no result yet; one that fails does not stop the others.

    Args:
        plans: the rows.
        folder: the study's; takes results, reports and tables.
        tell: takes lines about the progress.
        workers: train the rows, each in a process of its own.

    Returns:
        Why rows were not trained, by their id.

    Raises:
        KeyboardInterrupt: the caller stopped it; finished rows are kept, and the run of one that
            was interrupted resumes the next time.
    """
    study = read_study(folder)
    for problem in study.problems:
        tell(f"{folder}/{problem}. The row counts as not trained.")
    finished = {result.id for result in study.results}
    waiting = [plan for plan in plans if plan.fresh or plan.id not in finished]
    tell(f"Rows: {len(plans)}, already finished: {len(plans) - len(waiting)}.")
    write_tables(folder)
    failures: dict[str, str] = {}
    started, trained = time.monotonic(), 0

    def fail(plan: Plan, reason: str) -> None:
        failures[plan.id] = reason
        tell(f"    {plan.id}: not run: {reason}")

    def begin() -> Iterator[Call[Plan, Result]]:
        for number, plan in enumerate(waiting, 1):
            done = trained + len(failures)
            estimate = _estimate(time.monotonic() - started, done, len(waiting))
            tell(f"[{number}/{len(waiting)}] {plan.id}{estimate}")
            missing = [data for data in plan.data if not data.is_dir()]
            if missing:  # no process is started for nothing
                fail(plan, _describe_missing(missing[0]))
            else:
                yield Call(plan, train_row, (plan,), plan.log)

    for call, outcome in workers(begin()):
        try:
            result = outcome()
        except ApartError as error:
            fail(call.subject, str(error))
        else:
            trained += 1
            write_tables(folder)
            tell(f"    {result.id}: {_summarise(result)}")
    return failures


def _describe_missing(data: Path) -> str:
    return (
        f"There is no folder {data}. `flask data fetch {data.name}` downloads a known set; --data "
        "names another folder."
    )


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
        f"accuracy {result.argmax_accuracy:.4f} ({printed}), F1 {measured.f1_macro:.4f}, "
        f"{result.training.epochs} epochs" + ("" if pace is None else f" of {pace:.1f} s")
    )


def train_row(plan: Plan) -> Result:
    """Train a row, or resume it where it was cut off, and keep it with its report."""
    from training.pipeline import train

    outcome = train(build_request(plan), lambda line: print(line, flush=True))  # noqa: T201  a log
    report = outcome.run / REPORT_FOLDER
    figures = read_json(Figures, read_file(report / FIGURES_FILE))
    scans = cast(Measurement, outcome.card.measurement).scans
    result = Result(
        id=plan.id,
        document=plan.row.document,
        row=plan.row.name,
        budget=plan.budget,
        data=plan.names,
        published=plan.row.published,
        argmax_accuracy=figures.count_right(scans) / scans,
        card=outcome.card,
    )
    keep_result(plan.study, result, report)
    return result
