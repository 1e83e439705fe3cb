"""`flask evaluate` as a researcher types it."""

import csv
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from flask import Flask
from PIL import Image, ImageOps

from tests.cards import LESION_NETWORK
from tumorapp import create_app

Run = Callable[..., Result]
PROJECT = Path(__file__).parents[2]
SPOTS = (0.35, 0.45, 0.6)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, publish_model: Callable[..., Path]) -> Flask:
    root = tmp_path_factory.mktemp("models")
    publish_model(root, "lesion-net", **LESION_NETWORK)  # every answer is a tumour
    publish_model(root, "mobilenet-v2")
    publish_model(root, "binary-cnn")
    return create_app({"MODELS_DIR": root})


@pytest.fixture
def run(service: Flask, tmp_path: Path) -> Run:
    """Run `flask evaluate` with these arguments."""
    service.instance_path = str(tmp_path / "instance")
    runner = service.test_cli_runner()
    return lambda *arguments: runner.invoke(args=["evaluate", *map(str, arguments)])


@pytest.fixture
def grow(tmp_path: Path, draw_scan: Callable[..., bytes]) -> Callable[..., Path]:
    """Fill a data set with heads: `grow("name", glioma=3, notumor=2)`."""

    def fill(name: str, **classes: int) -> Path:
        for folder, count in classes.items():
            (tmp_path / name / folder).mkdir(parents=True)
            for spot in SPOTS[:count]:
                (tmp_path / name / folder / f"{spot}.png").write_bytes(draw_scan("PNG", spot=spot))
        return tmp_path / name

    return fill


@pytest.fixture
def outlined(grow: Callable[..., Path]) -> Path:
    """A data set with outlines around the bright spots."""
    root = grow("hospital", glioma=3)
    rows = [
        f"glioma/{x}.png,{x - 0.11} {x - 0.16};{x + 0.11} {x - 0.16};"
        f"{x + 0.11} {x + 0.06};{x - 0.11} {x + 0.06}"
        for x in SPOTS
    ]
    (root / "slices.csv").write_text("\n".join(["file,border", *rows]) + "\n")
    return root


def read_rows(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_report_and_a_table_of_any_folders(
    run: Run, outlined: Path, grow: Callable[..., Path], tmp_path: Path
) -> None:
    other = grow("clinic", meningioma=2, pituitary=1)
    (other / "pituitary/bad.png").write_text("no image")
    table, report = tmp_path / "answers.csv", tmp_path / "report"
    result = run("--model", "lesion-net", outlined, other, "--csv", table, "--report", report)
    assert result.exit_code == 0, result.output
    assert str(report / "README.md") in result.stdout
    rows = read_rows(table)
    bad = rows.pop()
    assert (bad["file"], bad["label"]) == ("clinic/pituitary/bad.png", "")
    assert [row["file"] for row in rows][::3] == [
        "hospital/glioma/0.35.png",
        "clinic/meningioma/0.35.png",
    ]
    assert all(row["right"] == str(row["label"] == row["truth"]) for row in rows)
    right = np.array([row["right"] == "True" for row in rows])
    page = (report / "README.md").read_text(encoding="utf-8")
    assert "# lesion-net, version 1, on hospital, clinic" in page
    assert "6 scans (" in page
    assert f"| accuracy | {right.mean():.4f} | " in page
    assert f"| hospital | {right[:3].mean():.4f} | 3 |" in page
    for plane in {row["plane"] for row in rows}:
        here = right[[row["plane"] == plane for row in rows]]
        assert f"| {plane} | {here.mean():.4f} | {len(here)} |" in page
    assert "| of 3 outlined tumours | lesion map |" in page
    assert "| peak inside the outline | 1.0000 |" in page
    assert "| glioma | 3 | 0 | 0 | 0 | 0 |" in page  # verdicts: all are tumours of one kind
    assert "- 1 scans could not be read:\n  - clinic/pituitary/bad.png: The file is not" in page
    assert "card states an accuracy of 0.5000 (0.3000 – 0.7000), on 10 scans under" in page
    assert "Not known: `--seen DIR` names" in page
    assert (report / "figures.json").is_file()
    assert "Reliability" in (report / "plots.html").read_text(encoding="utf-8")


def test_copies_of_scans_that_were_seen(
    run: Run, grow: Callable[..., Path], draw_scan: Callable[..., bytes], tmp_path: Path
) -> None:
    root, trained = grow("new", glioma=2, meningioma=1), grow("old", glioma=0, notumor=0)
    with Image.open(io.BytesIO(draw_scan("PNG", spot=SPOTS[1]))) as head:
        ImageOps.mirror(head).save(trained / "glioma/mirrored.png")
    result = run(
        "--model", "mobilenet-v2", root, "--seen", trained, "--csv", tmp_path / "answers.csv"
    )
    assert result.exit_code == 0, result.output
    rows = read_rows(tmp_path / "answers.csv")
    assert {row["file"] for row in rows if row["seen"] == "True"} == {"new/glioma/0.45.png"}
    shares = ["1.0000" if row["right"] == "True" else "0.0000" for row in rows]
    assert "1 scans are near-duplicates, mirrored ones too, of scans that" in result.stdout
    assert f"Accuracy on them: {shares[1]}. Accuracy on the others: " in result.stdout


def test_folders_that_do_not_name_kinds(run: Run, grow: Callable[..., Path]) -> None:
    """A model of four classes can still be asked whether there is a tumour."""
    result = run("--model", "lesion-net", grow("yes or no", yes=3, no=2))
    assert result.exit_code == 0, result.output
    assert "| tumor | 0 | 3 |" in result.stdout
    assert "| healthy | 0 | 2 |" in result.stdout
    assert "Tumour or none: balanced accuracy 0.5000, ROC AUC" in result.stdout


def test_tumours_of_unnamed_kind_next_to_others(run: Run, grow: Callable[..., Path]) -> None:
    result = run("--model", "lesion-net", grow("mixed", glioma=2, tumor=1, no_tumor=1))
    assert result.exit_code == 0, result.output
    assert "3 scans (" in result.stdout
    assert "1 further scans" in result.stdout
    assert "1.0000 of them were recognised as a tumour" in result.stdout


def test_a_binary_model_takes_every_kind_for_a_tumour(
    run: Run, grow: Callable[..., Path], tmp_path: Path
) -> None:
    table = tmp_path / "answers.csv"
    result = run("--model", "binary-cnn", grow("set", glioma=2, notumor=2), "--csv", table)
    assert result.exit_code == 0, result.output
    for row in read_rows(table):
        assert row["right"] == str((row["label"] == "tumor") == (row["truth"] == "glioma"))


def test_scans_of_one_class_have_no_roc(
    run: Run, grow: Callable[..., Path], tmp_path: Path
) -> None:
    report = tmp_path / "report"
    result = run("--model", "mobilenet-v2", grow("healthy heads", Healthy=3), "--report", report)
    assert result.exit_code == 0, result.output
    page = (report / "README.md").read_text(encoding="utf-8")
    assert "| accuracy | " in page
    assert "ROC AUC |" not in page
    assert "nan" not in page


def test_what_cannot_be_evaluated(run: Run, grow: Callable[..., Path], tmp_path: Path) -> None:
    result = run("--model", "mobilenet-v2", grow("odd", stroke=1, glioma=1), "--exclude", "odd/g*")
    assert result.exit_code == 1
    assert "mobilenet-v2 does not know the classes stroke. It tells apart: glioma," in result.stderr
    (tmp_path / "empty").mkdir()
    assert "No labelled image in" in run(tmp_path / "empty").stderr
    assert "does not exist" in run(tmp_path / "nowhere").stderr
    bad = grow("bad", glioma=1)
    (bad / f"glioma/{SPOTS[0]}.png").write_text("no image")
    result = run("--model", "mobilenet-v2", bad)
    assert result.exit_code == 1
    assert "None of the 1 scans can be read:\n  bad/glioma/0.35.png: The file is" in result.stderr


def test_it_needs_no_training_framework() -> None:
    code = (
        "import sys\n"
        "sys.modules['keras'] = sys.modules['tensorflow'] = None\n"
        "import training.examine, training.report, training.data.cache, training.data.dataset\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


def test_folders_with_names_of_their_own(run: Run, grow: Callable[..., Path]) -> None:
    root = grow("klinik", Gliom=3, gesund=2)
    told = ("--class", "Gliom=glioma", "--tumor-free", "gesund")
    assert "| glioma |" in run("--model", "lesion-net", root, *told).stdout
    without = run("--model", "lesion-net", root)
    assert without.exit_code == 1
    assert "such as --class Gliom=glioma" in without.output
    for option in ("Gliom", "=glioma", "a=b=c"):
        assert "is not a folder and its class" in run(root, "--class", option).output
    slip = run("--model", "lesion-net", root, "--class", "Glioom=glioma")
    assert "No folder or class is called glioom. Found: gesund, gliom." in slip.output
