"""Scan files → prepared arrays, made once and kept on disk."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import brainscan.scan
from brainscan.files import lock, move_into_place, staging_folder, sweep
from brainscan.processes import work_through
from brainscan.scan import (
    Picture,
    PreparedScan,
    ScanError,
    ScanSpecification,
    prepare_scan,
    read_picture,
)
from training.data import plane

THUMBNAIL_SIDE = 32

_LOCK_FILE = ".lock"
_STAGING_PREFIX = ".preparing-"

# A scan, and the thumbnail and the plane of its picture; or why a file is skipped.
_Prepared = tuple[PreparedScan, NDArray[np.uint8], str] | str


@dataclass(frozen=True, eq=False)
class PreparedArrays:
    """Scans as a model takes them, row by row.

    Attributes:
        rows: index of each row's file in the list that was asked for; skipped files have none.
        pixels: uint8, shape (rows, size, size, 1), 0 to 255.
        thumbnails: uint8, shape (rows, 32, 32): the whole pictures, to compare scans by.
        boxes: float64, shape (rows, 4): left, top, right and bottom of what was kept of the
            picture, as fractions of its width and height.
        planes: in which each was cut, as `guess_plane` names it.
        skipped: index and reason, for each file that could not be read.
        uncropped: indices of the files whose crop was degenerate: the whole picture was kept.
        manifest: SHA-256 over the contents of all files in order.
    """

    rows: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    thumbnails: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    planes: tuple[str, ...]
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
    code = [*Path(brainscan.scan.__path__[0]).glob("*.py"), Path(plane.__file__), Path(__file__)]
    texts = (path.read_text(encoding="utf-8") for path in sorted(code))
    key = _hash([manifest, json.dumps(asdict(specification)), *texts])
    folder = cache / key[:32]
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with lock(cache / _LOCK_FILE):
            if not folder.is_dir():  # else another process has prepared the same meanwhile
                _fill(folder, files, specification)
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return PreparedArrays(
        rows=np.array(index["rows"], dtype=np.int64),
        pixels=np.load(folder / "pixels.npy", mmap_mode="r"),
        thumbnails=np.load(folder / "thumbnails.npy"),
        boxes=np.load(folder / "boxes.npy"),
        planes=tuple(index["planes"]),
        skipped=tuple((row, reason) for row, reason in index["skipped"]),
        uncropped=tuple(index["uncropped"]),
        manifest=manifest,
    )


def _fill(folder: Path, files: Sequence[Path], specification: ScanSpecification) -> None:
    sweep(folder.parent, _STAGING_PREFIX)
    rows: list[int] = []
    index: dict[str, list[Any]] = {"rows": rows, "planes": [], "skipped": [], "uncropped": []}
    pixels = np.empty((len(files), specification.size, specification.size, 1), np.uint8)
    thumbnails = np.empty((len(files), THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)
    boxes = np.empty((len(files), 4))
    prepare = partial(_prepare_one, specification)
    for number, prepared in enumerate(work_through(prepare, files, "Preparing scans")):
        if isinstance(prepared, str):
            index["skipped"].append((number, prepared))
            continue
        scan, thumbnails[len(rows)], cut = prepared
        pixels[len(rows)], boxes[len(rows)] = scan.pixels, np.divide(scan.box, scan.whole * 2)
        rows.append(number)
        index["planes"].append(cut)
        index["uncropped"] += [number] * (not scan.found_head)
    with staging_folder(folder, _STAGING_PREFIX) as staging:
        np.save(staging / "pixels.npy", pixels[: len(rows)])
        np.save(staging / "thumbnails.npy", thumbnails[: len(rows)])
        np.save(staging / "boxes.npy", boxes[: len(rows)])
        (staging / "index.json").write_text(json.dumps(index), encoding="utf-8")
        move_into_place(staging, folder)


def _prepare_one(specification: ScanSpecification, path: Path) -> _Prepared:
    try:
        picture = read_picture(path.read_bytes())
    except (ScanError, OSError) as error:
        return str(error)
    scan = prepare_scan(picture, specification)
    return scan, draw_thumbnail(picture), plane.guess_plane(picture)


def draw_thumbnail(picture: Picture) -> NDArray[np.uint8]:
    """Shrink a whole picture to what copies are found by: uint8, shape (32, 32)."""
    small = cv2.resize(picture.grey, 2 * (THUMBNAIL_SIDE,), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


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
