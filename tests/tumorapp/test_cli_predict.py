import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from flask import Flask
from PIL import Image

from tests.cards import LESION_NETWORK
from tests.volumes import draw_small, pack, write_dicom, write_nifti, write_slices
from tumorapp import create_app

Run = Callable[..., Result]

GLIOMA = Path("../shared/samples/nifti/btp_02_t1post.nii.gz")


@pytest.fixture
def run(app: Flask) -> Run:
    """Run `flask predict` with these arguments."""
    runner = app.test_cli_runner()
    return lambda *arguments: runner.invoke(args=["predict", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path, draw_scan: Callable[..., bytes]) -> Path:
    """Five scans in three folders, and three files that are none of the command's business."""
    root = tmp_path / "scans"
    for name in ("a.png", "b.JPG", "deep/er/a.png", "deep/c.tiff", "other/d.webp"):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        kind = {"png": "PNG", "jpg": "JPEG", "tiff": "TIFF", "webp": "WEBP"}
        file.write_bytes(draw_scan(kind[file.suffix[1:].lower()]))
    for name in ("notes.txt", ".hidden.png", "deep/table.csv"):
        (root / name).write_text("none of its business")
    return root


def test_a_folder_and_all_below_it(run: Run, folder: Path) -> None:
    result = run(folder)
    assert result.exit_code == 0, result.output
    head, *lines = result.stdout.splitlines()
    columns = "file verdict label confidence slices showing ml warnings"
    assert head.split() == columns.split()
    names = [line.split()[0] for line in lines]
    expected = ["a.png", "b.JPG", "deep/c.tiff", "deep/er/a.png", "other/d.webp"]
    assert names == [str(folder / name) for name in expected]
    for line in lines:
        verdict, label, confidence = line.split()[1:4]
        assert verdict == ("no-tumor" if label == "notumor" else "tumor")
        assert label in ("glioma", "meningioma", "notumor", "pituitary")
        assert 0.25 <= float(confidence) <= 1
    assert "5/5" in result.stderr  # the progress bar


def test_named_files_count_once_and_whatever_their_endings(run: Run, folder: Path) -> None:
    shutil.copy(folder / "a.png", folder / "scan")
    result = run(folder / "scan", folder, folder / "a.png")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1 + 6


def test_a_table(run: Run, folder: Path, tmp_path: Path) -> None:
    (folder / "bad.jpg").write_bytes(b"no image")
    table = tmp_path / "out.csv"
    result = run(folder, "--model", "binary-cnn", "--out", table)
    assert result.exit_code == 1
    with table.open(encoding="utf-8", newline="") as file:
        rows = {Path(row["file"]).name: row for row in csv.DictReader(file)}
    assert len(rows) == 5  # two are named a.png
    row = rows["c.tiff"]
    assert (row["model"], row["version"]) == ("binary-cnn", "1")
    probabilities = {name: float(row[f"p_{name}"]) for name in ("healthy", "tumor")}
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert probabilities[row["label"]] == float(row["confidence"]) == max(probabilities.values())
    assert row["tumor"] == str(row["label"] == "tumor")
    assert row["verdict"] == {"tumor": "tumor", "healthy": "no-tumor"}[row["label"]]
    assert float(row["tumor_probability"]) == pytest.approx(probabilities["tumor"])
    assert (row["in_distribution"], row["lesion_x"]) == ("", "")
    assert not row["error"]
    assert rows["bad.jpg"]["codes"] == "not-an-image"
    assert rows["bad.jpg"]["error"].startswith("The file is not an image")
    assert not rows["bad.jpg"]["label"]


def test_a_network_that_marks_lesions_and_recognises_scans(
    tmp_path: Path, publish_model: Callable[..., Path], folder: Path
) -> None:
    publish_model(tmp_path / "models", "lesion-net", **LESION_NETWORK)
    runner = create_app({"MODELS_DIR": tmp_path / "models"}).test_cli_runner()
    Image.linear_gradient("L").point(lambda level: 200 + level // 8).save(folder / "parrot.png")
    table, files = tmp_path / "out.csv", [str(folder / name) for name in ("a.png", "parrot.png")]
    result = runner.invoke(args=["predict", *files, "--out", str(table)])
    assert result.exit_code == 0, result.output
    _, known, unknown = result.stdout.splitlines()
    assert known.split()[1] == "tumor"
    assert unknown.split()[1:4] == ["not-recognised", "-", "-"]
    with table.open(encoding="utf-8", newline="") as file:
        scan, parrot = csv.DictReader(file)
    assert (scan["verdict"], scan["in_distribution"]) == ("tumor", "True")
    assert float(scan["lesion_x"]) == pytest.approx(0.6, abs=0.1)
    assert float(scan["lesion_y"]) == pytest.approx(0.55, abs=0.1)
    assert 0 < float(scan["lesion_area"]) < float(scan["lesion_score"]) < 1
    assert (parrot["verdict"], parrot["in_distribution"]) == ("not-recognised", "False")
    assert (parrot["lesion_x"], parrot["codes"].split()[-1]) == ("", "not-a-scan")


def test_a_bad_file_is_listed_and_skipped(run: Run, folder: Path) -> None:
    (folder / "a.png").write_bytes(b"")
    (folder / "lost.png").symlink_to(folder / "nowhere")
    result = run(folder)
    assert result.exit_code == 1
    assert "No such file or directory" in result.stdout
    assert f"{folder / 'a.png'}" in result.stdout
    assert "skipped: The file is empty." in result.stdout
    assert "2 of 6 files were skipped; see above" in result.stderr
    assert len(result.stdout.splitlines()) == 1 + 6


def test_heat_maps(run: Run, folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "heat"
    result = run(folder, "--heatmaps", target)
    assert result.exit_code == 0, result.output
    written = sorted(file.relative_to(target).as_posix() for file in target.rglob("*.png"))
    expected = ["a.png", "b.JPG", "deep/c.tiff", "deep/er/a.png", "other/d.webp"]
    assert written == sorted(f"{name}.png" for name in expected)
    with Image.open(target / "a.png.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (200, 220))


def test_a_folder_without_images(run: Run, tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "No images were found. Accepted: names that end in .jpg" in result.stderr
    assert "left out" not in result.stderr
    (tmp_path / "slice.mha").touch()
    assert ".nii.gz. Files left out: 1 (1 .mha).\n" in run(tmp_path).stderr


def test_files_without_an_ending_are_taken_by_their_content(run: Run, folder: Path) -> None:
    shutil.copy(folder / "a.png", folder / "deep" / "IM0001")
    shutil.copy(folder / "b.JPG", folder / "e.jfif")
    (folder / "README").write_text("none of its business")
    result = run(folder)
    assert result.exit_code == 0
    names = [Path(line.split()[0]).name for line in result.stdout.splitlines()[1:]]
    assert {"IM0001", "e.jfif"} < set(names)
    assert "README" not in names


def test_files_with_other_endings_are_counted(run: Run, folder: Path) -> None:
    for name in ("1.mha", "deep/2.MHA", "deep/IM0001", "letter.pdf", "scan.7", "scan.8"):
        (folder / name).touch()
    (folder / "lost.mha").symlink_to(folder / "nowhere")
    result = run(folder, folder / "deep", folder / "letter.pdf")
    assert "1 of 6 files were skipped" in result.stderr  # the file that was named
    [line] = [line for line in result.stderr.splitlines() if "left out" in line]
    counts = "3 .mha, 1 without ending, 1 .csv, 1 .txt, 1 .7, 1 with others"
    assert line.startswith(f"Files left out: 8 ({counts}). Names of images end in .jpg, ")


def test_dicom_and_nifti_in_a_folder(run: Run, tmp_path: Path) -> None:
    for name in ("a.dcm", "b.IMA", "IM0001", "1.2.840.17"):
        (tmp_path / name).write_bytes(write_dicom())
    (tmp_path / "c.nii.gz").write_bytes(write_nifti(np.stack([draw_small()] * 20, axis=-1)))
    (tmp_path / "README").write_text("none of its business")
    result = run(tmp_path)
    assert result.exit_code == 0, result.output
    names = [Path(line.split()[0]).name for line in result.stdout.splitlines()[1:]]
    assert names == ["1.2.840.17", "IM0001", "a.dcm", "b.IMA", "c.nii.gz"]
    assert "Files left out: 1 (1 without ending)" in result.stderr
    (tmp_path / "IM0001").write_bytes(write_dicom(Modality="CT"))
    refused = run(tmp_path)
    assert "not an MR image (modality CT)" in refused.output
    assert "Doe" not in refused.output


class TestSeries:
    @pytest.fixture
    def study(self, tmp_path: Path, scan: bytes) -> Path:
        """A folder with two series in each other's folders, and a ZIP next to it."""
        root = tmp_path / "study"
        first, second = write_slices([1, 2, 3]), write_slices([1, 2], "1.9")
        files = {"a/1": first[0], "a/2": first[1], "b/1": second[0], "b/2": second[1]}
        for name, data in {**files, "b/3": first[2], "c.jpg": scan}.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        entries = [(f"s/{n}.dcm", one) for n, one in enumerate(write_slices([5, 6], "1.8"))]
        (tmp_path / "all.zip").write_bytes(pack(*entries, ("../bad.txt", b"?")))
        return root

    def test_mixed_studies_and_a_zip(self, run: Run, study: Path, tmp_path: Path) -> None:
        table = tmp_path / "out.csv"
        result = run(study, tmp_path / "all.zip", "--out", table)
        assert result.exit_code == 1
        assert "1 of 9 files were skipped" in result.stderr
        lines = [line.split() for line in result.stdout.splitlines()[1:]]
        zipped = tmp_path / "all.zip"
        names = [study, study / "b", study / "c.jpg", zipped / "s", f"{zipped}/../bad.txt"]
        assert [line[0] for line in lines] == [str(name) for name in names]
        assert [line[4] for line in lines[:4]] == ["3", "2", "-", "2"]
        rows = read_rows(table)
        [place] = [n for n, column in enumerate(rows[0]) if column == "slice"]
        slices = [row[place] for row in rows[1:]]
        assert slices == ["", "0", "1", "2", "", "0", "1", "", "", "0", "1", ""]

    @pytest.mark.skipif(not GLIOMA.exists(), reason="needs the samples")
    def test_pictures_of_the_slices_that_show_a_tumour(self, tmp_path: Path) -> None:
        runner = create_app({"MODELS_DIR": Path("instance/models")}).test_cli_runner()
        archive, target = tmp_path / "all.zip", tmp_path / "heat"
        archive.write_bytes(pack(("../a/head.nii.gz", GLIOMA.read_bytes())))
        result = runner.invoke(args=["predict", str(archive), "--heatmaps", str(target)])
        assert result.exit_code == 0, result.output
        [line] = result.stdout.splitlines()[1:]
        slices, showing, millilitres = line.split()[4:7]
        assert (slices, float(millilitres) > 0) == ("24", True)
        written = [one.relative_to(target).as_posix() for one in target.rglob("*")]
        assert len(written) == int(showing) + 1
        assert all(name.startswith("all.zip/_a_head.nii.gz-0") for name in written[1:])


def test_an_unknown_model(run: Run, folder: Path) -> None:
    result = run(folder, "--model", "vgg")
    assert result.exit_code == 1
    assert "Choose one of: binary-cnn, mobilenet-v2" in result.stderr


def test_a_table_that_is_there_stays_until_there_is_a_new_one(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    table = tmp_path / "out.csv"
    table.write_text("of last week")
    assert run(folder, "--model", "vgg", "--out", table).exit_code == 1
    assert table.read_text() == "of last week"
    assert run(folder, "--out", table).exit_code == 0
    assert table.read_text().startswith("file,model,version")


def read_rows(table: Path) -> list[list[Any]]:
    """Read a table; its numbers as what they are near to."""
    with table.open(encoding="utf-8", newline="") as file:
        return [
            [pytest.approx(float(cell), abs=1e-5) if "." in cell[:2] else cell for cell in row]
            for row in csv.reader(file)
        ]


@pytest.mark.slow
@pytest.mark.parametrize("model", [None, "binary-cnn"])
def test_a_server_gives_the_same(
    run: Run, service: Any, folder: Path, tmp_path: Path, model: str | None
) -> None:
    (folder / "bad.jpg").write_bytes(b"no image")
    for number, data in enumerate(write_slices([1, 2])):
        (folder / "deep" / f"{number}.dcm").write_bytes(data)
    options = ["--model", model] if model else []
    outputs = []
    for place, source in (("here", []), ("there", ["--server", service.url])):
        pictures = tmp_path / place
        table = tmp_path / f"{place}.csv"
        result = run(folder, "--out", table, "--heatmaps", pictures, *options, *source)
        assert result.exit_code == 1, result.output
        assert "8/8" in result.stderr
        assert "1 of 8 files were skipped" in result.stderr
        labels = [line.split()[1] for line in result.stdout.splitlines()]
        written = sorted(file.relative_to(pictures) for file in pictures.rglob("*.png"))
        outputs.append((labels, read_rows(table), written))
    assert outputs[0] == outputs[1]
    assert len(outputs[0][2]) == 5


@pytest.mark.slow
def test_a_server_without_that_model(run: Run, service: Any, folder: Path) -> None:
    result = run(folder, "--server", service.url, "--model", "vgg")
    assert result.exit_code == 1
    assert "has no model named 'vgg'. It serves: binary-cnn, mobilenet-v2." in result.stderr


def test_a_server_that_is_not_there(run: Run, folder: Path) -> None:
    result = run(folder, "--server", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "No answer came from http://127.0.0.1:9: " in result.stderr


def test_a_name_that_is_no_text(run: Run, folder: Path, tmp_path: Path) -> None:
    odd = Path(str(folder).encode().decode() + "/odd-\udcff\n\x1b[2J.png")
    shutil.copy(folder / "a.png", odd)
    result = run(odd, "--out", tmp_path / "out.csv")
    assert result.exit_code == 0, result.output
    assert "odd-\ufffd\ufffd\ufffd[2J.png" in result.stdout  # no terminal is told anything
