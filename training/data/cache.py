"""Scan files → prepared arrays, made once and kept on disk."""

import hashlib
import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import training.scan
from training.scan import ScanError, ScanSpecification, decode_scan, prepare_scan

THUMBNAIL_SIDE = 32

_PIXELS = "pixels.npy"
_THUMBNAILS = "thumbnails.npy"
_STEP = 64
# Starting processes takes half a second, which pays from about this many scans on.
_WORTH_PROCESSES = 1500


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
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        manifest = _hash(digest for digest in pool.map(_file_digest, files))
    code = sorted(Path(training.scan.__path__[0]).glob("*.py"))
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
    staging = Path(tempfile.mkdtemp(prefix=".preparing-", dir=folder.parent))
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


def _reserve(path: Path, shape: tuple[int, ...]) -> None:
    """Make an empty array file; its space is taken now, so a full disk is an error, no crash."""
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _prepare_all(
    files: Sequence[Path], specification: ScanSpecification, folder: Path, progress: bool
) -> list[str | bool]:
    """Fill the arrays in a folder; give what `_prepare_rows` gives for every file."""
    steps = range(0, len(files), _STEP)
    pool: Executor
    if len(files) < _WORTH_PROCESSES:
        pool = ThreadPoolExecutor(os.cpu_count())
    else:
        # Threads would wait for the interpreter's lock between OpenCV's short calls. Forking is
        # not safe here: the training framework has threads of its own.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(os.cpu_count(), context, cv2.setNumThreads, (1,))
    results: list[str | bool] = []
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the pool already uses every core
    try:
        with (
            pool,
            tqdm(
                desc="Preparing scans", total=len(files), unit="scan", disable=not progress
            ) as bar,
        ):
            slices = (files[first : first + _STEP] for first in steps)
            prepare = partial(_prepare_rows, folder, specification)
            for done in pool.map(prepare, steps, slices):
                results += done
                bar.update(len(done))
    finally:
        cv2.setNumThreads(threads)
    return results


def _prepare_rows(
    folder: Path, specification: ScanSpecification, first: int, files: Sequence[Path]
) -> list[str | bool]:
    """Fill rows of the arrays; give whether each crop fell back, or why a file is skipped."""
    pixels = np.load(folder / _PIXELS, mmap_mode="r+")
    thumbnails = np.load(folder / _THUMBNAILS, mmap_mode="r+")
    results: list[str | bool] = []
    for row, path in enumerate(files, first):
        try:
            grey = decode_scan(path.read_bytes())
        except (ScanError, OSError) as error:
            results.append(str(error))
            continue
        prepared = prepare_scan(grey, specification)
        pixels[row] = prepared.pixels
        thumbnails[row] = cv2.resize(grey, 2 * (THUMBNAIL_SIDE,), interpolation=cv2.INTER_AREA)
        results.append(bool(prepared.warnings))
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
