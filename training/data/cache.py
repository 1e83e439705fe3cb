"""Scan files → prepared arrays, made once and kept on disk."""

import contextlib
import hashlib
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import brainscan.scan
from brainscan.scan import ScanError, ScanSpecification, prepare_scan, read_picture
from training.processes import end_with_parent

THUMBNAIL_SIDE = 32

_PIXELS = "pixels.npy"
_THUMBNAILS = "thumbnails.npy"
_STEP = 32
_STAGING_PREFIX = ".preparing-"
_SECONDS_OF_GRACE = 24 * 3600
# Starting a process takes a third of a second, which pays from about this many scans on.
_WORTH_PROCESSES = 1000


@dataclass(frozen=True, eq=False)
class PreparedArrays:
    """Scans as a model takes them, row by row.

    Attributes:
        rows: index of each row's file in the list that was asked for; skipped files have none.
        pixels: uint8, shape (rows, size, size, 1), 0 to 255.
        thumbnails: uint8, shape (rows, 32, 32): the whole pictures, to compare scans by.
        skipped: index and reason, for each file that could not be read.
        uncropped: indices of the files whose crop was degenerate: the whole picture was kept.
        manifest: SHA-256 over the contents of all files in order.
    """

    rows: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    thumbnails: NDArray[np.uint8]
    skipped: tuple[tuple[int, str], ...]
    uncropped: tuple[int, ...]
    manifest: str


def prepare_arrays(
    files: Sequence[Path], specification: ScanSpecification, cache: Path, *, progress: bool = True
) -> PreparedArrays:
    """Prepare scans on all cores, or read them back when the same scans were prepared before.

    The key is what the files contain, what the model expects and the preparing code itself, so a
    changed scan or a changed crop is never served from an old cache.

    Args:
        files: image files.
        specification: the model's.
        cache: folder that keeps the arrays.
        progress: whether to show a progress bar.
    """
    manifest = _hash(map(_file_digest, files))
    code = sorted(Path(brainscan.scan.__path__[0]).glob("*.py"))
    key = _hash([manifest, json.dumps(asdict(specification)), *(path.read_text() for path in code)])
    folder = cache / key[:32]
    if not folder.is_dir():
        _fill(folder, files, specification, progress)
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return PreparedArrays(
        rows=np.array(index["rows"], dtype=np.int64),
        pixels=np.load(folder / _PIXELS, mmap_mode="r"),
        thumbnails=np.load(folder / _THUMBNAILS),
        skipped=tuple((row, reason) for row, reason in index["skipped"]),
        uncropped=tuple(index["uncropped"]),
        manifest=manifest,
    )


def _fill(
    folder: Path, files: Sequence[Path], specification: ScanSpecification, progress: bool
) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder.parent)
    staging = Path(tempfile.mkdtemp(prefix=_STAGING_PREFIX, dir=folder.parent))
    try:
        staging.chmod(0o755)
        _reserve(staging / _PIXELS, (len(files), *2 * (specification.size,), 1))
        _reserve(staging / _THUMBNAILS, (len(files), *2 * (THUMBNAIL_SIDE,)))
        results = _prepare_all(files, specification, staging, progress)
        rows = [row for row, result in enumerate(results) if isinstance(result, bool)]
        if len(rows) < len(files):
            for name in (_PIXELS, _THUMBNAILS):
                np.save(staging / name, np.load(staging / name)[rows])
        index = {
            "rows": rows,
            "skipped": [(row, why) for row, why in enumerate(results) if isinstance(why, str)],
            "uncropped": [row for row, result in enumerate(results) if result is True],
        }
        (staging / "index.json").write_text(json.dumps(index), encoding="utf-8")
        _move(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _sweep(cache: Path) -> None:
    """Delete what one who was killed left half prepared, a day ago or earlier."""
    for abandoned in cache.glob(f"{_STAGING_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - abandoned.stat().st_mtime > _SECONDS_OF_GRACE:
                shutil.rmtree(abandoned, ignore_errors=True)


def _reserve(path: Path, shape: tuple[int, ...]) -> None:
    """Make an empty array file; its space is taken now, so a full disk is an error, no crash."""
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _prepare_all(
    files: Sequence[Path], specification: ScanSpecification, folder: Path, progress: bool
) -> list[str | bool]:
    """Fill the arrays in a folder; give what `_prepare_rows` gives for every file.

    Threads would wait for the interpreter's lock between OpenCV's short calls, so each other core
    gets a process. Forking is not safe here: the training framework has threads of its own. A
    process that starts anew takes a while, so this one does not wait: it begins at the end of the
    list and goes on until it meets the others.
    """
    prepare = partial(_prepare_rows, folder, specification)
    steps = [(first, files[first : first + _STEP]) for first in range(0, len(files), _STEP)]
    others = (os.cpu_count() or 1) - 1 if len(files) >= _WORTH_PROCESSES else 0
    spawn = multiprocessing.get_context("spawn")
    results: list[list[str | bool]] = []
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the processes use every core already
    try:
        with (
            ProcessPoolExecutor(max(1, others), spawn, _begin_process) as pool,
            tqdm(
                desc="Preparing scans", total=len(files), unit="scan", disable=not progress
            ) as bar,
        ):
            futures: list[Future[list[str | bool]]] = []
            for step in steps:
                future = pool.submit(prepare, *step) if others else Future()
                # A step ends once: done by another process, or taken back to be done here.
                future.add_done_callback(partial(_advance, bar, len(step[1])))
                futures.append(future)
            try:
                for step, future in zip(reversed(steps), reversed(futures), strict=True):
                    results.append(prepare(*step) if future.cancel() else future.result())
            finally:
                pool.shutdown(wait=False, cancel_futures=True)  # nothing is left, if all went well
    finally:
        cv2.setNumThreads(threads)
    return [result for step in reversed(results) for result in step]


def _begin_process() -> None:
    cv2.setNumThreads(1)
    end_with_parent()


def _advance(bar: "tqdm[None]", scans: int, _step: Future[list[str | bool]]) -> None:
    bar.update(scans)


def _prepare_rows(
    folder: Path, specification: ScanSpecification, first: int, files: Sequence[Path]
) -> list[str | bool]:
    """Fill rows of the arrays; give whether each crop fell back, or why a file is skipped."""
    pixels = np.zeros((len(files), *2 * (specification.size,), 1), np.uint8)
    thumbnails = np.zeros((len(files), *2 * (THUMBNAIL_SIDE,)), np.uint8)
    results: list[str | bool] = []
    for row, path in enumerate(files):
        try:
            picture = read_picture(path.read_bytes())
        except (ScanError, OSError) as error:
            results.append(str(error))
            continue
        prepared = prepare_scan(picture, specification)
        pixels[row] = prepared.pixels
        thumbnails[row] = cv2.resize(
            picture.grey, 2 * (THUMBNAIL_SIDE,), interpolation=cv2.INTER_AREA
        )
        results.append(not prepared.found_head)
    for name, rows in ((_PIXELS, pixels), (_THUMBNAILS, thumbnails)):
        np.load(folder / name, mmap_mode="r+")[first : first + len(files)] = rows
    return results


def _move(staging: Path, folder: Path) -> None:
    try:
        staging.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process has prepared the same meanwhile
            raise


def _file_digest(path: Path) -> str:
    """SHA-256 of a file's content; of nothing where it cannot be read (it is skipped later)."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _hash(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode())
        digest.update(b"\0")
    return digest.hexdigest()
