"""The results file: whole lines only, whatever happens to it."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from brainscan.bundle.study import RESULTS_FILE, Result, ResultsError, append_result, read_results
from tests.training.conftest import full_disk

PROJECT = Path(__file__).parents[2]
RESULT = Result(
    id="000-ann-32-nodes-0-dense-quick-random-75-25",
    document="000",
    row="32-nodes-0-dense",
    model="ann-32-nodes-0-dense",
    method="fine-tune",
    head="softmax",
    budget="quick",
    protocol="random-75-25",
    data=("sartaj",),
    size=96,
    epochs=5,
    epochs_run=4,
    seconds_per_epoch=0.5,
    parameters=295_044,
    device="CPU, tensorflow",
    date="2026-11-21",
    test_scans=663,
    accuracy=0.7,
    balanced_accuracy=0.69,
    f1_macro=0.68,
    loss=0.9,
    roc_auc=0.88,
    interval=(0.66, 0.74),
    leaks={"scans": 300, "accuracy_with": 0.8, "accuracy_without": 0.61},
    published={"accuracy": 0.76, "loss": 213.54, "f1": 0.76},
    command="flask study 000",
)
OTHER = replace(RESULT, id="other", loss=None, roc_auc=None, seconds_per_epoch=None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    append_result(folder, RESULT)
    append_result(folder, OTHER)
    return folder


def test_what_is_written_is_read(folder: Path) -> None:
    assert read_results(folder) == [RESULT, OTHER]
    assert len((folder / RESULTS_FILE).read_text().splitlines()) == 2
    assert {path.name for path in folder.iterdir()} == {RESULTS_FILE, ".lock"}


def test_no_folder_and_an_empty_file_hold_no_rows(tmp_path: Path) -> None:
    assert read_results(tmp_path / "nowhere") == []
    (tmp_path / RESULTS_FILE).touch()
    assert read_results(tmp_path) == []


def test_a_row_is_replaced_by_its_newer_self(folder: Path) -> None:
    newer = replace(RESULT, accuracy=0.75)
    append_result(folder, newer)
    assert read_results(folder) == [OTHER, newer]


@pytest.mark.parametrize("kept", [1, 40, 400])
def test_a_last_line_cut_short_costs_that_row_alone(folder: Path, kept: int) -> None:
    path = folder / RESULTS_FILE
    first, last = path.read_text().splitlines()
    path.write_text(f"{first}\n{last[:kept]}")
    told: list[str] = []
    assert read_results(folder, told.append) == [RESULT]
    (warning,) = told
    assert f"{path}, line 2: the last line was cut short" in warning
    append_result(folder, OTHER)
    assert read_results(folder, told.append) == [RESULT, OTHER]
    assert len(told) == 1


def _cut(line: str) -> str:
    return line[:100]


def _drop_accuracy(line: str) -> str:
    return json.dumps({key: value for key, value in json.loads(line).items() if key != "accuracy"})


def _exceed(line: str) -> str:
    return json.dumps({**json.loads(line), "accuracy": 70})


def _leave_the_folder(line: str) -> str:
    return json.dumps({**json.loads(line), "id": "../models"})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_cut, "is not valid JSON"),
        (_drop_accuracy, "accuracy"),
        (_exceed, "accuracy"),
        (_leave_the_folder, "id"),
        (lambda _line: "[]", "Invalid input type"),
    ],
)
def test_any_other_damage_is_named_and_nothing_is_written(
    folder: Path, damage: Callable[[str], str], reason: str
) -> None:
    path = folder / RESULTS_FILE
    first, last = path.read_text().splitlines()
    path.write_text(f"{damage(first)}\n{last}\n")
    before = path.read_bytes()
    for attempt in (lambda: read_results(folder), lambda: append_result(folder, RESULT)):
        with pytest.raises(ResultsError, match=rf"results\.jsonl, line 1 .*{reason}"):
            attempt()
    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_old_file(folder: Path) -> None:
    before = (folder / RESULTS_FILE).read_bytes()
    with full_disk(after=1000), pytest.raises(OSError, match="File too large"):
        append_result(folder, replace(RESULT, id="third"))
    assert (folder / RESULTS_FILE).read_bytes() == before
    assert read_results(folder) == [RESULT, OTHER]


def test_what_is_no_number_is_not_written(folder: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        append_result(folder, replace(RESULT, id="third", loss=float("nan")))
    assert read_results(folder) == [RESULT, OTHER]


def test_reading_needs_no_training_framework() -> None:
    program = (
        "import sys; import brainscan.bundle.study, training.study.table;"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert not set(done.stdout.split()) & {"keras", "sklearn", "tensorflow", "matplotlib"}
