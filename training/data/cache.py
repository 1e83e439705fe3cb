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
    side = specification.size
    pixels = np.empty((len(files), side, side, 1), np.uint8)
    thumbnails = np.empty((len(files), THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)

    def prepare(row: int) -> str | bool:
        """Fill a row; give whether the crop fell back, or why the file cannot be read."""
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

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the pool already uses every core
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            results = list(
                tqdm(
                    pool.map(prepare, range(len(files))),
                    "Preparing scans",
                    total=len(files),
                    unit="scan",
                    disable=not progress,
                )
            )
    finally:
        cv2.setNumThreads(threads)
    rows = [row for row, result in enumerate(results) if isinstance(result, bool)]
    index = {
        "rows": rows,
        "skipped": [(row, why) for row, why in enumerate(results) if isinstance(why, str)],
        "uncropped": [row for row, result in enumerate(results) if result is True],
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".preparing-", dir=folder.parent))
    try:
        staging.chmod(0o755)
        np.save(staging / "pixels.npy", pixels if len(rows) == len(files) else pixels[rows])
        np.save(staging / "thumbnails.npy", thumbnails[rows])
        (staging / "index.json").write_text(json.dumps(index), encoding="utf-8")
        _move(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


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
