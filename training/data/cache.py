"""Scan files → prepared arrays, made once and kept on disk."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import training.scan
from training.scan import ScanError, ScanSpecification, decode_scan, prepare_scan

THUMBNAIL_SIDE = 32
_STEP = 32


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
        pixels=np.load(folder / "pixels.npy", mmap_mode="r"),
        thumbnails=np.load(folder / "thumbnails.npy"),
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
        pixels = _reserve(staging / "pixels.npy", (len(files), *2 * (specification.size,), 1))
        thumbnails = _reserve(staging / "thumbnails.npy", (len(files), *2 * (THUMBNAIL_SIDE,)))
        results = _prepare_all(files, specification, pixels, thumbnails, progress)
        rows = [row for row, result in enumerate(results) if isinstance(result, bool)]
        if len(rows) < len(files):
            np.save(staging / "pixels.npy", pixels[rows])
            np.save(staging / "thumbnails.npy", thumbnails[rows])
        index = {
            "rows": rows,
            "skipped": [(row, why) for row, why in enumerate(results) if isinstance(why, str)],
            "uncropped": [row for row, result in enumerate(results) if result is True],
        }
        (staging / "index.json").write_text(json.dumps(index), encoding="utf-8")
        _move(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _reserve(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Map a new array file into memory, so that each thread writes its rows where they stay.

    The space is taken first: a full disk is an error here, not a crash at some row.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _prepare_all(
    files: Sequence[Path],
    specification: ScanSpecification,
    pixels: NDArray[np.uint8],
    thumbnails: NDArray[np.uint8],
    progress: bool,
) -> list[str | bool]:
    """Fill both arrays; give for each file whether its crop fell back, or why it is skipped."""

    def prepare(row: int) -> str | bool:
        try:
            grey = decode_scan(files[row].read_bytes())
        except (ScanError, OSError) as error:
            return str(error)
        prepared = prepare_scan(grey, specification)
        pixels[row] = prepared.pixels
        thumbnails[row] = cv2.resize(
            grey, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA
        )
        return bool(prepared.warnings)

    # Threads that take many scans at a time pass the interpreter's lock around less.
    steps = [range(row, min(row + _STEP, len(files))) for row in range(0, len(files), _STEP)]
    results: list[str | bool] = []
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the pool already uses every core
    try:
        with (
            ThreadPoolExecutor(os.cpu_count()) as pool,
            tqdm(
                desc="Preparing scans", total=len(files), unit="scan", disable=not progress
            ) as bar,
        ):
            for done in pool.map(lambda rows: [prepare(row) for row in rows], steps):
                results += done
                bar.update(len(done))
    finally:
        cv2.setNumThreads(threads)
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
