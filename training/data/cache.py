"""Scan files → prepared arrays, made once and kept on disk."""

import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import brainscan.scan
from brainscan.files import lock, move_into_place, staging_folder, sweep
from brainscan.scan import ScanError, ScanSpecification, prepare_scan, read_picture
from training.processes import end_with_parent

THUMBNAIL_SIDE = 32

_PIXELS = "pixels.npy"
_THUMBNAILS = "thumbnails.npy"
_STEP = 32
_LOCK_FILE = ".lock"
_STAGING_PREFIX = ".preparing-"
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
    files: Sequence[Path], specification: ScanSpecification, cache: Path
) -> PreparedArrays:
    """Prepare scans on all cores, or read them back when the same scans were prepared before.

    The key is what the files contain, what the model expects and the preparing code itself, so a
    changed scan or a changed crop is never served from an old cache.

    Args:
        files: image files.
        specification: the model's.
        cache: folder that keeps the arrays; made where there is none.
    """
    manifest = _hash(map(_file_digest, files))
    code = sorted(Path(brainscan.scan.__path__[0]).glob("*.py"))
    key = _hash([manifest, json.dumps(asdict(specification)), *(path.read_text() for path in code)])
    folder = cache / key[:32]
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with lock(cache / _LOCK_FILE):
            if not folder.is_dir():  # else another process has prepared the same meanwhile
                _fill(folder, files, specification)
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return PreparedArrays(
        rows=np.array(index["rows"], dtype=np.int64),
        pixels=np.load(folder / _PIXELS, mmap_mode="r"),
        thumbnails=np.load(folder / _THUMBNAILS),
        skipped=tuple((row, reason) for row, reason in index["skipped"]),
        uncropped=tuple(index["uncropped"]),
        manifest=manifest,
    )


def _fill(folder: Path, files: Sequence[Path], specification: ScanSpecification) -> None:
    sweep(folder.parent, _STAGING_PREFIX)
    with staging_folder(folder, _STAGING_PREFIX) as staging:
        _reserve(staging / _PIXELS, (len(files), *2 * (specification.size,), 1))
        _reserve(staging / _THUMBNAILS, (len(files), *2 * (THUMBNAIL_SIDE,)))
        results = _prepare_all(files, specification, staging)
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
        move_into_place(staging, folder)


def _reserve(path: Path, shape: tuple[int, ...]) -> None:
    """Make an empty array file; its space is taken now: a full disk is an error, not a crash."""
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _prepare_all(
    files: Sequence[Path], specification: ScanSpecification, folder: Path
) -> list[str | bool]:
    """Fill the arrays in a folder; give what `_prepare_rows` gives for every file.

    Threads would wait for the interpreter's lock between OpenCV's short calls, so each core gets a
    process. Forking is not safe here: the training framework has threads of its own.
    """
    prepare = partial(_prepare_rows, folder, specification)
    firsts = range(0, len(files), _STEP)
    steps = [files[first : first + _STEP] for first in firsts]
    results: list[str | bool] = []
    with tqdm(desc="Preparing scans", total=len(files), unit="scan") as bar:
        if len(files) < _WORTH_PROCESSES:
            for first, step in zip(firsts, steps, strict=True):
                results += prepare(first, step)
                bar.update(len(step))
            return results
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(os.cpu_count(), spawn, _begin_process) as pool:
            for done in pool.map(prepare, firsts, steps):
                results += done
                bar.update(len(done))
    return results


def _begin_process() -> None:
    cv2.setNumThreads(1)  # the processes use every core already
    end_with_parent()


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
