"""`flask study` as a person types it, on phantoms."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result

from brainscan.bundle.study import ROW_FILE, keep_result, read_study
from tests.cards import RESULT, draw_up_card
from training.study.documents import DOCUMENTS
from tumorapp.cli.study import STUDIES

Run = Callable[..., Result]
ANN = "ann-32-nodes-0-dense"


def test_the_choices_on_offer_are_those_there_are() -> None:
    assert (*DOCUMENTS, "all") == STUDIES


def test_its_rows_are_listed_with_what_was_measured(run: Run, tmp_path: Path) -> None:
    card = draw_up_card(ANN)
    kept = replace(RESULT, id="one", document="000", card=card)
    keep_result(tmp_path / "study", kept)
    result = run("study", "000", "--only", "ann-*", "--list")
    assert result.exit_code == 0, result.output
    header, first, *others = result.stdout.splitlines()
    assert header.split() == ["row", "name", "published", "measured", "here"]
    assert first.split()[0] == f"000-{ANN}"
    assert f"0.7600  {kept.argmax_accuracy:.4f} (reduced, {kept.measurement.protocol})" in first
    assert len(others) == 23
    assert len(run("study", "--list").stdout.splitlines()) > 60
    assert run("study", "--list", "--only", "nothing").exit_code == 1


def test_a_document_is_asked_for(run: Run) -> None:
    result = run("study")
    assert result.exit_code == 2
    assert "Missing argument 'DOCUMENT'. Choose from 000, 001" in result.stderr


@pytest.mark.slow
def test_a_row_is_trained_and_then_found_finished(
    run: Run, tmp_path: Path, grow_tree: Callable[..., Path]
) -> None:
    data = grow_tree(tmp_path / "heads", {"no_tumor": 16, "glioma": 16})
    command = ("study", "000", "--only", ANN, "--data", data, "--protocol", "grouped")
    result = run(*command)
    assert result.exit_code == 0, result.output
    (row,) = read_study(tmp_path / "study").results
    assert row.id == f"000-{ANN}-reduced-grouped-on-heads"
    assert row.training.epochs <= row.training.planned_epochs == 25
    assert f"[1/1] {row.id}" in result.stdout
    assert f"accuracy {row.measurement.accuracy:.4f} (published 0.7600)" in result.stdout
    page = tmp_path / "study/README.md"
    assert result.stdout.splitlines()[-1] == f"Tables: {page}"
    assert "Epoch 1/5" not in result.stdout  # that is in the row's log

    again = run(*command)
    assert again.exit_code == 0
    assert "Rows: 1, already finished: 1." in again.stdout

    page.unlink()
    assert run("study", "all", "--tables-only").exit_code == 0
    assert f"({row.id}/report/README.md)" in page.read_text(encoding="utf-8")


def test_rows_that_cannot_run_are_listed_at_the_end(run: Run, tmp_path: Path) -> None:
    result = run("study", "001", "--only", "sequential-?")
    assert result.exit_code == 1
    assert "Error: 4 of 4 rows were not run:" in result.stderr
    assert result.stderr.count("There is no folder") == 4
    assert "flask data fetch nickparvar" in result.stderr
    assert read_study(tmp_path / "study").results == ()
    page = (tmp_path / "study/README.md").read_text(encoding="utf-8")
    assert "| Sequential 1 | sequential-1 | 79.33 % | 0.5614 | not run |" in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["000", "--only", "resnet18"], "No row of 000 matches 'resnet18'. Its rows: 000-ann-32"),
        (["002", "--weights", "nowhere"], "Directory 'nowhere' does not exist."),
    ],
)
def test_what_is_not_accepted(run: Run, arguments: list[str], words: str, tmp_path: Path) -> None:
    result = run("study", *arguments)
    assert result.exit_code in (1, 2)
    assert words in result.stderr
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("option", [[], ["--tables-only"]])
def test_a_damaged_row_is_named_and_stops_no_other(
    run: Run, tmp_path: Path, option: list[str]
) -> None:
    folder = tmp_path / "study"
    card = draw_up_card(ANN)
    keep_result(folder, replace(RESULT, id="other", document="000", card=card))
    keep_result(folder, RESULT)
    (folder / RESULT.id / ROW_FILE).write_text("{}")
    result = run("study", "004", *option)
    problem = f"{folder}/{RESULT.id}/{ROW_FILE}: Object missing required field `id`"
    assert problem in result.output
    assert "The row counts as not trained." in result.output
    assert "(other/report/README.md)" in (folder / "README.md").read_text(encoding="utf-8")
