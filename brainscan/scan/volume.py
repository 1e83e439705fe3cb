"""A file that holds the slices of a volume: how each is shown, and which one answers for all."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from brainscan.messages import Message
from brainscan.scan.facts import Facts
from brainscan.scan.picture import Picture

_LEFT, _BACK, _HEAD = range(3)  # where the axes of a patient point, as DICOM has them
# The axis that a slice is perpendicular to → those that run across its picture and down, and
# whether they do so backwards: what is at the right of a patient is at the left of a picture.
_SHOWN = {
    _HEAD: ((_LEFT, 1), (_BACK, 1)),  # axial
    _BACK: ((_LEFT, 1), (_HEAD, -1)),  # coronal
    _LEFT: ((_BACK, 1), (_HEAD, -1)),  # sagittal
}
_MOST_OFF_UNIT = 0.1
_SAME_SPACING = 1.01
_MOST_STRETCHED = 10
_MOST_PIXELS = 2**24  # of what it becomes; a larger slice is shown as it is


def show(
    picture: Picture, across: Any, down: Any, spacing: tuple[float, float] = (1.0, 1.0)
) -> Picture:
    """Turn a slice as radiologists expect it.

    The patient's right is at the left of an axial or coronal picture, the nose at the left of a
    sagittal one, and the feet are down. Pixels become square.

    Args:
        picture: the slice as it is stored.
        across: the direction in which its columns follow each other, as a vector of length 1
            towards the patient's left, back and head.
        down: the same of its rows.
        spacing: mm from column to column, and from row to row.

    Returns:
        The picture itself where the directions are not those of a slice.
    """
    first, second = np.asarray(across, np.float64), np.asarray(down, np.float64)
    if first.shape != (3,) or second.shape != (3,):
        return picture
    products = (first @ first - 1, second @ second - 1, first @ second)
    if not np.all(np.abs(products) < _MOST_OFF_UNIT):  # nor of a number that is not finite
        return picture
    normal = int(np.argmax(np.abs(np.cross(first, second))))
    (right, backwards), (bottom, upwards) = _SHOWN[normal]
    grey = picture.grey
    along = abs(first[right]) + abs(second[bottom])
    if along < abs(first[bottom]) + abs(second[right]):
        grey, first, second, spacing = grey.T, second, first, spacing[::-1]
    columns = slice(None, None, -1 if first[right] * backwards < 0 else 1)
    rows = slice(None, None, -1 if second[bottom] * upwards < 0 else 1)
    grey = _make_square(np.ascontiguousarray(grey[rows, columns]), spacing)
    return replace(picture, grey=grey)


def _make_square(grey: NDArray[np.uint8], spacing: tuple[float, float]) -> NDArray[np.uint8]:
    """Stretch what is further apart, columns or rows, so that pixels are square."""
    across, down = spacing
    if not (across > 0 and down > 0):
        return grey
    stretch = max(across, down) / min(across, down)
    if not _SAME_SPACING < stretch < _MOST_STRETCHED or grey.size * stretch > _MOST_PIXELS:
        return grey
    height, width = grey.shape
    size = (round(width * max(1, across / down)), round(height * max(1, down / across)))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR), np.uint8)


@dataclass(frozen=True)
class Volume:
    """The slices of an open file.

    Attributes:
        slices: how many there are, at least one.
        middle: the index of the one that answers for all: in the middle of the head.
        read: gives the slice of an index as a picture; raises ScanError.
        notes: what a reader should know of what was left out.
        facts: what the header says of them (`brainscan.scan.facts`).
    """

    slices: int
    middle: int
    read: Callable[[int], Picture]
    notes: tuple[Message, ...] = ()
    facts: Facts = field(default_factory=dict)


# The whole file, and the largest width × height accepted → its volume; raises ScanError.
OpenVolume = Callable[[bytes, int], AbstractContextManager[Volume]]


def read_middle(data: bytes, max_pixels: int, open_volume: OpenVolume) -> Picture:
    """Read the slice in the middle of a volume, with a note that the others were left out."""
    with open_volume(data, max_pixels) as volume:
        picture = volume.read(volume.middle)
    notes = volume.notes
    if volume.slices > 1:
        taken = {"slices": volume.slices, "slice": volume.middle + 1}
        notes += (Message("one-slice", taken),)
    return replace(picture, notes=notes + picture.notes, facts=volume.facts)
