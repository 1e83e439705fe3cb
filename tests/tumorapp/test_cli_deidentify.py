from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from click.testing import Result
from flask import Flask

from tests.volumes import write_dicom

Run = Callable[..., Result]


@pytest.fixture
def run(app: Flask) -> Run:
    """Run `flask deidentify` with these arguments."""
    runner = app.test_cli_runner()
    return lambda *arguments: runner.invoke(args=["deidentify", *map(str, arguments)])


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Three slices of two series of Jane Doe, and what else a disc may hold."""
    folder = tmp_path / "Doe_Jane"
    for name, series, instance in (("1", 1, 1), ("Doe.dcm", 1, 2), ("deep/Doe.ima", 2, 3)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        uids = {"SeriesInstanceUID": f"1.2.{series}", "SOPInstanceUID": f"1.2.3.{instance}"}
        path.write_bytes(write_dicom(StudyInstanceUID="1.2", StudyDate="20200301", **uids))
    folder.joinpath("DICOMDIR").write_bytes(write_dicom(SOPClassUID="1.2.840.10008.1.3.10"))
    folder.joinpath("letter.pdf").write_bytes(b"%PDF-1.4 Doe")
    return folder


def list_files(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def test_a_folder(run: Run, study: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "clean"
    result = run(study, target)
    assert result.exit_code == 0, result.output
    assert f"3 of 5 files are in {target}, without identifiers." in result.stdout
    assert "letter.pdf: left out: it is not DICOM." in result.stdout
    assert "DICOMDIR: skipped (dicomdir): The file is a DICOMDIR" in result.stdout
    assert "5/5" in result.stderr  # the progress bar
    written = list_files(target)
    assert [len(path.parts) for path in written] == [3, 3, 3]
    assert len({path.parts[0] for path in written}) == 1
    assert len({path.parts[1] for path in written}) == 2
    for path in written:
        assert "Doe" not in str(path)
        assert b"Doe" not in (target / path).read_bytes()
        assert path.stem == pydicom.dcmread(target / path).SOPInstanceUID


def test_dates_are_removed_or_shifted(run: Run, study: Path, tmp_path: Path) -> None:
    found = {}
    for dates in ("remove", "shift"):
        assert run(study, tmp_path / dates, "--dates", dates).exit_code == 0
        files = [pydicom.dcmread(tmp_path / dates / one) for one in list_files(tmp_path / dates)]
        [found[dates]] = {file.StudyDate for file in files}
    assert found["remove"] == ""
    assert "20100101" < found["shift"] < "20200301"


def test_bad_files_are_told_and_the_others_go_on(run: Run, study: Path, tmp_path: Path) -> None:
    (study / "cut.dcm").write_bytes((study / "1").read_bytes()[:-100])
    (study / "again.dcm").write_bytes((study / "1").read_bytes())
    (study / "lost.dcm").symlink_to(study / "nowhere")
    text = write_dicom(SOPInstanceUID="1.2.3.4", BurnedInAnnotation="YES")
    (study / "text.dcm").write_bytes(text)
    result = run(study, tmp_path / "clean")
    assert result.exit_code == 1
    assert "cut.dcm: skipped (damaged-image): " in result.stdout
    assert "again.dcm: skipped (repeated-instance): " in result.stdout
    assert "lost.dcm: skipped (not-read): No such file or directory" in result.stdout
    assert "text.dcm: warning (burnt-in-text): The picture may have text in it" in result.stdout
    assert "3 files were skipped; see above" in result.stderr
    assert len(list_files(tmp_path / "clean")) == 4


def test_nothing_is_overwritten(run: Run, study: Path, tmp_path: Path) -> None:
    result = run(study, study)
    assert result.exit_code == 1
    assert "Doe_Jane is not empty. Name a folder that is new." in result.stderr
    assert len(list_files(study)) == 5


def test_a_single_file(run: Run, study: Path, tmp_path: Path) -> None:
    (tmp_path / "clean").mkdir()
    assert run(study / "Doe.dcm", tmp_path / "clean").exit_code == 0
    assert len(list_files(tmp_path / "clean")) == 1
    result = run(study / "letter.pdf", tmp_path / "other")
    assert result.exit_code == 1
    assert "letter.pdf: left out: it is not DICOM." in result.stdout
    assert "No DICOM files were found." in result.stderr
