"""The study's rows on disk: whole ones only, whatever happens to them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from brainscan.bundle.study import ROW_FILE, keep_result, read_study
from tests.cards import MEASURED, RESULT, draw_up_card
from tests.training.conftest import full_disk

PROJECT = Path(__file__).parents[2]
OTHER = replace(RESULT, id="other")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    for result in (RESULT, OTHER):
        keep_result(folder, result)
    return folder


def test_what_is_kept_is_read(folder: Path) -> None:
    assert read_study(folder).results == (RESULT, OTHER)
    assert read_study(folder).problems == ()
    assert {path.name for path in folder.iterdir()} == {RESULT.id, OTHER.id, ".lock"}


def test_no_folder_holds_no_rows(tmp_path: Path) -> None:
    assert read_study(tmp_path / "nowhere").results == ()


def test_a_row_is_replaced_by_its_newer_self(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report/README.md").write_text("# Report")
    newer = replace(RESULT, card=replace(RESULT.card, measurement=replace(MEASURED, accuracy=0.7)))
    keep_result(folder, newer, tmp_path / "report")
    assert read_study(folder).find(RESULT.id) == newer
    assert (folder / RESULT.id / "report/README.md").read_text() == "# Report"
    assert not list(folder.glob(".keeping-*"))


def test_a_row_is_read_again_only_when_it_changed(folder: Path) -> None:
    first = read_study(folder).find(OTHER.id)
    assert read_study(folder).find(OTHER.id) is first


def _set(*path: str, value: Any) -> Callable[[str], str]:
    def change(text: str) -> str:
        raw = inner = json.loads(text)
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = value
        return json.dumps(raw)

    return change


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text[:100], "Input data was truncated"),
        (lambda _: "[]", "Expected `object`"),
        (_set("id", value="other"), "id: 'other' is not the folder's name"),
        (_set("budget", value="tiny"), "Invalid enum value 'tiny' - at `$.budget`"),
        (_set("published", "accuracy", value=97.8), "Expected `float` <= 1.0 - at `$.published"),
        (_set("card", "measurement", value=None), "card: of a model that was not trained"),
        (_set("card", "measurement", "loss", value="low"), "Expected `float`, got `str`"),
    ],
)
def test_a_damaged_row_is_named_and_costs_no_other(
    folder: Path, damage: Callable[[str], str], reason: str
) -> None:
    path = folder / RESULT.id / ROW_FILE
    path.write_text(damage(path.read_text()))
    study = read_study(folder)
    assert study.results == (OTHER,)
    [problem] = study.problems
    assert problem.startswith(f"{RESULT.id}/{ROW_FILE}: {reason}")


@pytest.mark.parametrize("put", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_not_a_file_in_place_of_the_row(folder: Path, put: Callable[[Path], None]) -> None:
    (folder / RESULT.id / ROW_FILE).unlink()
    assert read_study(folder).results == (OTHER,)
    put(folder / RESULT.id / ROW_FILE)
    assert "cannot be read: Not a regular file" in read_study(folder).problems[0]
    assert read_study(folder).results == (OTHER,)


def test_a_full_disk_leaves_the_old_row(folder: Path) -> None:
    with full_disk(after=1000), pytest.raises(OSError, match="File too large"):
        keep_result(folder, replace(RESULT, row="ResNet"))
    assert read_study(folder).results == (RESULT, OTHER)
    assert not list(folder.glob(".keeping-*"))


def test_what_is_not_a_number_is_not_written(folder: Path) -> None:
    card = draw_up_card("resnet18", measurement=replace(MEASURED, loss=float("nan")))
    with pytest.raises(ValueError, match="Out of range float"):
        keep_result(folder, replace(RESULT, card=card))
    assert read_study(folder).results == (RESULT, OTHER)


def test_reading_needs_no_training_framework() -> None:
    program = (
        "import sys; import brainscan.bundle.study, training.study.table;"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert not set(done.stdout.split()) & {"keras", "sklearn", "tensorflow"}
