"""Many scans: stopped and resumed, from and to a store, on all cores."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from pyarrow import csv, parquet

from brainscan.storage import open_storage
from tests.volumes import pack, write_slices
from tumorapp.bulk import results
from tumorapp.bulk.results import Results, make_schema
from tumorapp.cli import predict

Run = Callable[..., Result]


@pytest.fixture
def run(app: Flask) -> Run:
    """Run `flask predict` with these arguments."""
    runner = app.test_cli_runner()
    return lambda *arguments: runner.invoke(args=["predict", *map(str, arguments)])


@pytest.fixture
def files(scan: bytes, draw_scan: Callable[..., bytes]) -> dict[str, bytes]:
    """Scans, a file that is not one, a series in two folders, and a volume without an ending."""
    slices = write_slices([1, 2, 3])
    return {
        **{f"{number}.jpg": scan for number in range(4)},
        "bad.png": b"no image",
        "empty.jpg": b"",
        "deep/a.png": draw_scan("PNG"),
        **{f"{folder}/{n}": one for n, (folder, one) in enumerate(zip("abb", slices, strict=True))},
    }


@pytest.fixture
def folder(tmp_path: Path, files: dict[str, bytes]) -> Path:
    root = tmp_path / "scans"
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "_ROWS_OF_A_PART", 2)
    monkeypatch.setattr(predict, "_BATCH", 1)


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """End the process, as a kill would, once so many parts were written."""

    def stop(parts: int) -> None:
        def write(self: Results) -> None:
            if self._next == parts:
                raise SystemExit(9)
            write_part(self)

        monkeypatch.setattr(Results, "_write_part", write)

    write_part = Results._write_part
    return stop


def read(place: Path) -> list[dict[str, Any]]:
    """Read the rows of a Parquet file, or of a folder of parts, in their order."""
    parts = sorted(place.glob("*.parquet")) if place.is_dir() else [place]
    return [row for part in parts for row in parquet.ParquetFile(part).read().to_pylist()]


def test_parquet_and_csv_have_the_same_rows(run: Run, folder: Path, tmp_path: Path) -> None:
    for ending in ("csv", "parquet"):
        result = run(folder, "--out", tmp_path / f"rows.{ending}")
        assert result.exit_code == 1, result.output
    table = parquet.read_table(tmp_path / "rows.parquet")
    names = [name for name in table.column_names if name.startswith("p_")]
    assert table.schema == make_schema([name[2:] for name in names])
    convert = csv.ConvertOptions(column_types=table.schema, strings_can_be_null=True)
    written = csv.read_csv(tmp_path / "rows.csv", convert_options=convert)
    rows = [
        {name: None if cell == "" else cell for name, cell in row.items()}
        for row in table.to_pylist()
    ]
    assert written.to_pylist() == rows
    codes = {Path(row["file"]).name: row["codes"] for row in rows if row["error"]}
    assert codes == {"bad.png": "not-an-image", "empty.jpg": "empty-file"}
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.parametrize("out", ["rows.csv", "rows.parquet", "rows"])
@pytest.mark.usefixtures("small_parts")
def test_a_stopped_run_goes_on(
    run: Run, folder: Path, tmp_path: Path, stop_after: Callable[[int], None], out: str
) -> None:
    """Each scan has its rows once, wherever the run was stopped."""
    assert run(folder, "--out", tmp_path / "at-once.parquet").exit_code == 1
    place = tmp_path / out
    for parts in (1, 3, 4):
        stop_after(parts)
        assert run(folder, "--out", place, "--resume").exit_code == 9
    waiting = place if out == "rows" else tmp_path / f"{out}.parts"
    assert len(list(waiting.glob("*.parquet"))) == 4
    refused = run(folder, "--out", place)
    assert f"{waiting} has results already. Add --resume to go on with that run" in refused.output
    cut = waiting / "part-000001.parquet"
    cut.write_bytes(cut.read_bytes()[:-40])
    stop_after(1000)
    result = run(folder, "--out", place, "--resume")
    assert f"{cut} is half-written" in result.stderr
    wanted = read(tmp_path / "at-once.parquet")
    if out == "rows.csv":
        lines = place.read_text().splitlines()
        assert len(lines) == 1 + len(wanted)
        assert len(set(lines)) == len(lines)
        return
    found = read(place)
    assert sorted(map(str, found)) == sorted(map(str, wanted))


def test_another_models_results_are_not_mixed(run: Run, folder: Path, tmp_path: Path) -> None:
    assert run(folder / "0.jpg", "--out", tmp_path / "rows").exit_code == 0
    result = run(folder, "--out", tmp_path / "rows", "--resume", "--model", "binary-cnn")
    assert "has results of mobilenet-v2/1; this run has those of binary-cnn/1." in result.stderr


def test_from_a_store_to_a_store(
    run: Run, files: dict[str, bytes], folder: Path, tmp_path: Path, bucket: str
) -> None:
    system, path = open_storage(bucket)
    system.pipe({f"{path}/scans/{name}": data for name, data in files.items()})
    system.pipe(f"{path}/study.zip", pack(("a.dcm", write_slices([5], "1.9")[0])))
    assert run(folder, "--out", tmp_path / "here.csv").exit_code == 1
    for out in ("rows", "rows.csv"):
        result = run(f"{bucket}/scans", f"{bucket}/study.zip", "--out", f"{bucket}/{out}")
        assert result.exit_code == 1, result.output
        assert "2 of 11 files were skipped" in result.stderr
    there = system.cat_file(f"{path}/rows.csv").decode().replace(f"{bucket}/scans", str(folder))
    lines = there.splitlines()
    assert lines[:-1] == (tmp_path / "here.csv").read_text().splitlines()
    assert lines[-1].startswith(f"{bucket}/study.zip/a.dcm,mobilenet-v2,1,")
    names = [name.partition("/rows")[2] for name in system.find(path) if "/rows" in name]
    assert names == [".csv", "/part-000000.parquet"]
    again = run(f"{bucket}/scans", "--out", f"{bucket}/rows", "--resume")
    assert "10 of 10 files have rows already." in again.stderr
    away = run(f"{bucket}/scans/", "--out", f"{bucket}2/rows")
    assert f"{bucket}2/rows cannot be used: The specified bucket does not exist" in away.stderr


def test_processes_give_the_same_in_the_same_order(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(folder, "--out", tmp_path / "one.csv").exit_code == 1
    monkeypatch.setattr(predict, "WORTH_PROCESSES", 1)
    monkeypatch.setattr(predict, "_BATCH", 1)
    result = run(folder, "--out", tmp_path / "many.csv", "--heatmaps", tmp_path / "heat")
    assert result.exit_code == 1, result.output
    assert (tmp_path / "many.csv").read_text() == (tmp_path / "one.csv").read_text()
    assert (tmp_path / "heat" / "deep" / "a.png.png").exists()
