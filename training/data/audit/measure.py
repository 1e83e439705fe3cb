"""One look at each file: all that an audit asks of it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from brainscan.processes import work_through
from brainscan.scan import Picture, ScanError, ScanSpecification, prepare_scan, read_picture
from training.data.audit.modality import rate_ct
from training.data.cache import draw_thumbnail
from training.data.plane import guess_plane

_CROP = ScanSpecification(64)
_CELLS, _DIRECTIONS = 8, 8
_GREY_SIDE = 20


@dataclass(frozen=True, eq=False)
class Look:
    """What one file looks like.

    Attributes:
        digest: SHA-256 of its content.
        size: width and height, in pixels.
        thumbnail: uint8, shape (32, 32): the whole picture, to compare scans by.
        found_head: whether there is a clear outline of a head.
        annotated: whether something is drawn on it.
        ct: the probability that it is CT, 0 to 1.
        plane: as `guess_plane` names it.
        descriptor: float16, shape (912,): the head's edges and shades, to tell classes apart by.
    """

    digest: str
    size: tuple[int, int]
    thumbnail: NDArray[np.uint8]
    found_head: bool
    annotated: bool
    ct: float
    plane: str
    descriptor: NDArray[np.float16]


@dataclass(frozen=True)
class Unreadable:
    """Why a file cannot be read: the code of the problem, and a sentence."""

    code: str
    reason: str


def look_at(files: Sequence[Path]) -> list[Look | Unreadable]:
    """Look at each file once, on all cores, under a progress bar."""
    return list(work_through(_look, files, "Looking at scans"))


def _look(path: Path) -> Look | Unreadable:
    try:
        data = path.read_bytes()
        picture = read_picture(data)
    except ScanError as error:
        return Unreadable(error.code, str(error))
    except OSError as error:
        return Unreadable("unreadable", str(error))
    return Look(
        digest=hashlib.sha256(data).hexdigest(),
        size=picture.size,
        thumbnail=draw_thumbnail(picture),
        found_head=picture.outline.box is not None,
        annotated=any(note.code == "annotated" for note in picture.notes),
        ct=rate_ct(picture),
        plane=guess_plane(picture),
        descriptor=describe_head(picture),
    )


def describe_head(picture: Picture) -> NDArray[np.float16]:
    """Describe the cropped head: float16, shape (912,).

    How strong its edges are, in 8 × 8 cells and 8 directions, and 20 × 20 shades of grey.
    """
    head = prepare_scan(picture, _CROP).pixels[..., 0]
    small = cv2.resize(head, 2 * (_GREY_SIDE,), interpolation=cv2.INTER_AREA)
    shades = np.asarray(small, np.float32).ravel()
    shades = (shades - shades.mean()) / (shades.std() + 1)
    across, down = (cv2.Sobel(head, cv2.CV_32F, *axis) for axis in ((1, 0), (0, 1)))
    strength, angle = cv2.cartToPolar(across, down)
    direction = (np.asarray(angle) % np.pi * _DIRECTIONS / np.pi).astype(np.int64) % _DIRECTIONS
    layers = (
        np.eye(_DIRECTIONS, dtype=np.float32)[direction] * np.asarray(strength)[..., np.newaxis]
    )
    edges = np.asarray(cv2.resize(layers, 2 * (_CELLS,), interpolation=cv2.INTER_AREA)).ravel()
    edges = np.sqrt(edges / (np.linalg.norm(edges) / _CELLS + 1e-6))
    return np.concatenate([edges, shades / 5]).astype(np.float16)
