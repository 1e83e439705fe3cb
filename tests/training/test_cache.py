from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brainscan.scan import ScanSpecification, read_picture, read_scan
from training.data.cache import PreparedArrays, prepare_arrays

SIZE = ScanSpecification(32)


def prepare(
    files: list[Path], cache: Path, specification: ScanSpecification = SIZE
) -> PreparedArrays:
    return prepare_arrays(files, specification, cache)


@pytest.fixture
def files(tmp_path: Path, grow_tree: Callable[..., Path]) -> list[Path]:
    return sorted(grow_tree(tmp_path / "data", {"yes": 3, "no": 3}).rglob("*.png"))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def list_kept(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if not path.name.startswith(".")]


def test_rows_are_what_serving_would_prepare(files: list[Path], cache: Path) -> None:
    arrays = prepare(files, cache)
    assert arrays.rows.tolist() == list(range(6))
    assert (arrays.skipped, arrays.uncropped) == ((), ())
    for path, pixels in zip(files, arrays.pixels, strict=True):
        assert np.array_equal(pixels, read_scan(path.read_bytes(), SIZE).pixels)
    assert (arrays.thumbnails.shape, arrays.thumbnails.dtype) == ((6, 32, 32), np.uint8)
    assert len(arrays.planes) == 6
    assert set(arrays.planes) <= {"axial", "coronal", "sagittal"}


def test_the_second_call_reads_what_the_first_one_wrote(files: list[Path], cache: Path) -> None:
    first = prepare(files, cache)
    written = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    second = prepare(files, cache)
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == written
    assert np.array_equal(first.pixels, second.pixels)
    assert np.array_equal(first.thumbnails, second.thumbnails)
    assert first.manifest == second.manifest


def test_moved_files_are_found_again(files: list[Path], cache: Path, tmp_path: Path) -> None:
    first = prepare(files, cache)
    moved = [path.rename(path.with_stem(f"moved {path.stem}")) for path in files]
    assert prepare(moved, cache).manifest == first.manifest
    assert len(list_kept(cache)) == 1


def test_a_changed_scan_or_specification_is_prepared_anew(files: list[Path], cache: Path) -> None:
    first = prepare(files, cache)
    assert prepare(files, cache, ScanSpecification(32, crop=False)).manifest == first.manifest
    assert prepare(files, cache, ScanSpecification(48)).pixels.shape == (6, 48, 48, 1)
    files[0].write_bytes(files[1].read_bytes())
    changed = prepare(files, cache)
    assert changed.manifest != first.manifest
    assert np.array_equal(changed.pixels[0], changed.pixels[1])
    assert len(list_kept(cache)) == 4


def test_what_cannot_be_read_is_skipped_with_a_reason(files: list[Path], cache: Path) -> None:
    files[1].write_text("no image")
    files[3].write_bytes(files[3].read_bytes()[:200])
    files[4].unlink()
    arrays = prepare(files, cache)
    assert arrays.rows.tolist() == [0, 2, 5]
    assert arrays.pixels.shape == (3, 32, 32, 1)
    assert len(arrays.thumbnails) == 3
    reasons = dict(arrays.skipped)
    assert list(reasons) == [1, 3, 4]
    assert "not an image" in reasons[1]
    assert "damaged or cut short" in reasons[3]
    assert "No such file" in reasons[4]


def test_nothing_readable_leaves_no_rows(files: list[Path], cache: Path) -> None:
    for path in files:
        path.write_text("no image")
    arrays = prepare(files, cache)
    assert arrays.pixels.shape == (0, 32, 32, 1)
    assert len(arrays.skipped) == 6


def test_a_degenerate_crop_is_named(files: list[Path], cache: Path) -> None:
    speck = Image.new("L", (200, 200))
    speck.paste(255, (90, 90, 110, 110))
    speck.save(files[2])
    arrays = prepare(files, cache)
    assert arrays.uncropped == (2,)
    assert np.array_equal(arrays.pixels[2], read_scan(files[2].read_bytes(), SIZE).pixels)


def test_thumbnails_show_the_whole_picture(files: list[Path], cache: Path) -> None:
    """Crops may differ between copies of a scan; the pictures do not."""
    arrays = prepare(files, cache)
    whole = read_picture(files[0].read_bytes()).grey
    assert arrays.thumbnails[0].mean() == pytest.approx(whole.mean(), abs=1)
    assert arrays.pixels[0].mean() > whole.mean() + 5


def test_what_a_killed_preparation_left_is_no_cache(files: list[Path], cache: Path) -> None:
    prepare(files, cache)
    (key,) = list_kept(cache)
    abandoned = cache / ".preparing-abandoned"
    key.rename(abandoned)
    (abandoned / "index.json").unlink()
    assert len(prepare(files, cache).rows) == 6
    assert key.is_dir()
    assert not abandoned.exists()


def test_several_processes_may_prepare_at_once(
    files: list[Path], cache: Path, processes: ForkServerContext
) -> None:
    children = [processes.Process(target=prepare, args=(files, cache)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert len(prepare(files, cache).rows) == 6
    assert len(list_kept(cache)) == 1
    assert not list(cache.glob(".preparing-*"))


def test_many_scans_are_prepared_alike_by_processes(
    files: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = prepare(files, cache / "threads")
    monkeypatch.setattr("brainscan.processes.WORTH_PROCESSES", 1)
    processes = prepare(files, cache / "processes")
    assert np.array_equal(threads.pixels, processes.pixels)
    assert np.array_equal(threads.thumbnails, processes.thumbnails)
    assert threads.uncropped == processes.uncropped
