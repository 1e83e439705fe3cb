"""The study itself, on phantoms: rows are trained, kept, skipped, and reported where they fail."""

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest

from brainscan.bundle.study import ROW_FILE, Result, keep_result, read_study
from tests.cards import RESULT, draw_measurement, draw_up_card
from training.processes import Workers, work_here
from training.study.plan import Plan
from training.study.rows import choose_rows
from training.study.run import run_study
from training.study.table import draw_tables

ANN = "000-ann-32-nodes-0-dense"


def make_plan(base: Path, slug: str, *data: Path, **options: object) -> Plan:
    (row,) = choose_rows("all", [slug])
    row = replace(row, epochs=2)
    return Plan(row, "reduced", base / "instance", base / "study", data=data, **options)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Study:
    """A study of two rows, the first of which cannot be trained."""

    base: Path
    plans: list[Plan]
    failures: dict[str, str]
    told: list[str]

    @property
    def folder(self) -> Path:
        return self.base / "study"


@pytest.fixture(scope="module")
def study(
    tmp_path_factory: pytest.TempPathFactory, phantom_tree: Path, workers: Workers[Plan, Result]
) -> Study:
    base = tmp_path_factory.mktemp("study")
    weights = base / "weights"
    weights.mkdir()
    plans = [
        make_plan(base, "000-vgg16", phantom_tree, weights=str(weights)),
        make_plan(base, ANN, phantom_tree, protocol="grouped"),
    ]
    told: list[str] = []
    failures = run_study(plans, base / "study", told.append, workers)
    return Study(base, plans, failures, told)


@pytest.mark.slow
def test_finished_rows_are_kept(study: Study) -> None:
    (ann,) = read_study(study.folder).results
    measured = ann.measurement
    assert ann.id == study.plans[1].id
    assert (ann.document, ann.row, ann.card.name) == ("000", "32-nodes-0-dense", ANN[4:])
    assert (ann.budget, measured.protocol, ann.data) == ("reduced", "grouped", ("phantoms",))
    assert (ann.card.scan.size, ann.training.planned_epochs, ann.training.epochs) == (128, 2, 2)
    assert ann.published.loss == 213.54
    assert measured.intervals.accuracy[0] <= measured.accuracy <= measured.intervals.accuracy[1]
    assert measured.seconds_per_epoch
    assert measured.leaks.scans == 0


@pytest.mark.slow
def test_the_report_lies_next_to_the_row(study: Study) -> None:
    for result in read_study(study.folder).results:
        for name in ("README.md", "figures.json"):
            assert (study.folder / result.id / "report" / name).stat().st_size
    assert not list(study.folder.glob(".keeping-*"))


@pytest.mark.slow
def test_a_row_that_cannot_run_stops_no_other(study: Study) -> None:
    (failed,) = study.failures
    assert failed == study.plans[0].id
    assert "must begin with vgg16," in study.failures[failed]
    assert f"[1/2] {failed}" in study.told
    assert any(
        line.startswith(f"    {failed}: not run: {study.base / 'weights'} must hold one")
        for line in study.told
    )
    assert "WeightsError" in study.plans[0].log.read_text()
    assert study.told[-1].startswith(f"    {study.plans[1].id}: accuracy ")


@pytest.mark.slow
def test_the_tables_hold_what_was_measured_and_nothing_else(study: Study) -> None:
    page = (study.folder / "README.md").read_text(encoding="utf-8")
    results = read_study(study.folder).results
    assert page == draw_tables(results)
    for result in results:
        (line,) = [line for line in page.splitlines() if f"({result.id}/report/" in line]
        ours, served = result.argmax_accuracy, result.measurement.accuracy
        assert f"| {100 * ours:.2f} % | {100 * served:.2f} % |" in line
        assert "| reduced |" in line
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    assert sum("not run" in line for line in lines) == 65 + 15 + 20 + 1 + 4 - 1
    (vgg16,) = [line for line in lines if line.startswith("| VGG16 | vgg16 | 94 % |")]
    assert set(vgg16.split("not run")[1]) <= {"|", " ", "\n"}


@pytest.mark.slow
def test_finished_rows_are_not_trained_again(study: Study, workers: Workers[Plan, Result]) -> None:
    row = study.folder / study.plans[1].id / ROW_FILE
    before = row.stat()
    told: list[str] = []
    assert run_study(study.plans[1:], study.folder, told.append, workers) == {}
    assert told == ["Rows: 1, already finished: 1."]
    assert row.stat() == before


@pytest.mark.slow
def test_a_study_that_is_stopped(
    tmp_path: Path,
    phantom_tree: Path,
    processes: BaseContext,
    workers: Workers[Plan, Result],
) -> None:
    """A row that the system kills ends alone, Ctrl-C ends the study; the run goes on after both."""
    (row,) = choose_rows("all", [ANN])
    plan = Plan(row, "reduced", tmp_path / "i", tmp_path, data=(phantom_tree,))

    with acting_after_epoch(tmp_path, 1, kill_children):
        failures = run_study([plan], tmp_path, lambda _line: None, workers)
    assert "most likely because memory ran out" in failures[plan.id]
    fork = multiprocessing.get_context("fork")
    # In a process of its own: an interrupt reaches all that other tests have loaded in this one.
    study = processes.Process(
        target=run_study, args=([plan], tmp_path, print, partial(work_here, context=fork))
    )
    study.start()
    assert study.pid
    with acting_after_epoch(tmp_path, 4, partial(os.kill, study.pid, signal.SIGINT)):
        study.join()
    assert study.exitcode == 1
    assert read_study(tmp_path).results == ()
    assert not multiprocessing.active_children()

    assert run_study([plan], tmp_path, lambda _line: None, workers) == {}
    (result,) = read_study(tmp_path).results
    assert result.training.epochs > 4
    assert "Epoch 1/25" not in plan.log.read_text()  # it went on where it was


def kill_children() -> None:
    for process in multiprocessing.active_children():
        process.kill()


@contextmanager
def acting_after_epoch(base: Path, epoch: int, act: Callable[[], None]) -> Iterator[None]:
    """Do something as soon as a run has kept that many epochs, and not before."""

    def wait() -> None:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            states = list((base / "i/runs").glob("ann-*/state.json"))
            if states and len(json.loads(states[0].read_text())["history"]) >= epoch:
                act()
                return
            time.sleep(0.005)

    thread = threading.Thread(target=wait)
    thread.start()
    yield
    thread.join()


def test_data_that_is_not_there(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, ANN)
    failures = run_study([plan], tmp_path, lambda _line: None)
    assert "There is no folder" in failures[plan.id]
    assert "flask data fetch sartaj" in failures[plan.id]
    assert not plan.log.exists()


def test_a_damaged_row_counts_as_not_trained(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, ANN)
    keep_result(plan.study, replace(RESULT, id=plan.id))
    (plan.study / plan.id / ROW_FILE).write_text("{}")
    told: list[str] = []
    assert set(run_study([plan], plan.study, told.append)) == {plan.id}  # its data is not there
    assert f"{plan.id}/{ROW_FILE}: Object missing required field `id`" in told[0]


def test_a_row_with_several_results_has_several_lines() -> None:
    (row,) = choose_rows("000", [ANN])
    results = []
    for budget, protocol in (
        ("full", "grouped"),
        ("reduced", "random-75-25"),
        ("full", "official"),
    ):
        card = draw_up_card(row.model, measurement=draw_measurement(protocol=protocol))
        result = replace(RESULT, id=f"{budget}-{protocol}", document="000", budget=budget)
        results.append(replace(result, card=card))
    lines = [line for line in draw_tables(results).splitlines() if "/report/README.md" in line]
    assert [line.split("](")[1].partition("/")[0] for line in lines] == [
        "reduced-random-75-25",
        "full-grouped",
        "full-official",
    ]
