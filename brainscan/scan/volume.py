"""A file that holds the slices of a volume: how each is shown, and which one answers for all."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from brainscan.messages import Message, ScanError
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


class Turn(NamedTuple):
    """How a stored slice becomes its picture: rows and columns are swapped first, then reversed.

    Attributes:
        swapped: whether rows become columns.
        across: whether the columns are reversed after that.
        down: whether the rows are.
    """

    swapped: bool = False
    across: bool = False
    down: bool = False

    def undo(self, x: float, y: float) -> tuple[float, float]:
        """Give where a point of the picture lies in the stored slice; both in shares, 0 to 1."""
        x, y = (1 - x if self.across else x), (1 - y if self.down else y)
        return (y, x) if self.swapped else (x, y)


AS_STORED = Turn()


def choose_turn(across: Any, down: Any) -> Turn | None:
    """Choose how to turn a slice so that it is shown as radiologists expect it.

    The patient's right is at the left of an axial or coronal picture, the nose at the left of a
    sagittal one, and the feet are down.

    Args:
        across: the direction in which its columns follow each other, as a vector of length 1
            towards the patient's left, back and head.
        down: the same of its rows.

    Returns:
        None where the directions are not those of a slice.
    """
    first, second = np.asarray(across, np.float64), np.asarray(down, np.float64)
    if first.shape != (3,) or second.shape != (3,):
        return None
    products = (first @ first - 1, second @ second - 1, first @ second)
    if not np.all(np.abs(products) < _MOST_OFF_UNIT):  # nor of a number that is not finite
        return None
    normal = int(np.argmax(np.abs(np.cross(first, second))))
    (right, backwards), (bottom, upwards) = _SHOWN[normal]
    along = abs(first[right]) + abs(second[bottom])
    swapped = bool(along < abs(first[bottom]) + abs(second[right]))
    if swapped:
        first, second = second, first
    return Turn(swapped, bool(first[right] * backwards < 0), bool(second[bottom] * upwards < 0))


def show(picture: Picture, turn: Turn, spacing: tuple[float, float] = (1.0, 1.0)) -> Picture:
    """Turn a slice, and make its pixels square.

    Args:
        picture: the slice as it is stored.
        turn: as `choose_turn` gives it.
        spacing: mm from column to column, and from row to row.
    """
    grey = picture.grey
    if turn.swapped:
        grey, spacing = grey.T, spacing[::-1]
    grey = grey[:: -1 if turn.down else 1, :: -1 if turn.across else 1]
    return replace(picture, grey=_make_square(np.ascontiguousarray(grey), spacing))


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


def find_position(across: Any, down: Any, corner: Any) -> float:
    """Say where a slice lies among those parallel to it: mm towards the head, the back or the left.

    Args:
        across: as `choose_turn` takes it.
        down: the same of the rows.
        corner: where its first pixel lies, in mm.
    """
    normal = np.cross(np.asarray(across, np.float64), np.asarray(down, np.float64))
    towards = normal if normal[np.argmax(np.abs(normal))] > 0 else -normal
    return round(float(towards @ np.asarray(corner, np.float64)), 2)


@dataclass(frozen=True)
class Place:
    """Where a slice lies, and which others belong to it.

    Attributes:
        frame: its index among the slices of its file.
        position: mm towards the patient's head, back or left; None where that is unknown.
        number: of its file within the series, as the scanner counts; 0 where there is none.
        area: of its picture, in mm²; None where that is unknown.
        turn: how its picture was turned.
        series: the same for slices of one series and orientation, and shown to nobody; "" for a
            slice that belongs to its file's others only.
        instance: the SOP instance UID of its file, shown to nobody; "" where it has none.
    """

    frame: int = 0
    position: float | None = None
    number: int = 0
    area: float | None = None
    turn: Turn = AS_STORED
    series: str = ""
    instance: str = ""


def find_step(places: Sequence[Place | None]) -> float | None:
    """Give the mm from slice to slice, in the order in which they lie; None where unknown."""
    positions = [one.position for one in places if one and one.position is not None]
    if len(positions) < max(2, len(places)):
        return None
    return float(np.median(np.abs(np.diff(positions)))) or None


@dataclass(frozen=True)
class Volume:
    """The slices of an open file.

    Attributes:
        slices: how many there are, at least one.
        middle: the index of the one that answers for all: in the middle of the head.
        read: gives the slice of an index as a picture; raises ScanError.
        place: says where the slice of an index lies.
        notes: what a reader should know of what was left out.
        facts: what the header says of them (`brainscan.scan.facts`).
    """

    slices: int
    middle: int
    read: Callable[[int], Picture]
    place: Callable[[int], Place]
    notes: tuple[Message, ...] = ()
    facts: Facts = field(default_factory=dict)


# The whole file, and the largest width × height accepted → its volume; raises ScanError.
OpenVolume = Callable[[bytes, int], AbstractContextManager[Volume]]


def read_one(
    data: bytes, max_pixels: int, open_volume: OpenVolume, frame: int | None = None
) -> Picture:
    """Read a slice of a volume, with a note that the others were left out.

    Args:
        data: the whole file.
        max_pixels: the largest width × height accepted.
        open_volume: opens it.
        frame: the slice's index in the file; None for the one in the middle.

    Raises:
        ScanError: the file cannot be read, or has no such slice.
    """
    with open_volume(data, max_pixels) as volume:
        if frame is not None and not 0 <= frame < volume.slices:
            raise ScanError("no-such-slice", slices=volume.slices, slice=frame)
        picture = volume.read(volume.middle if frame is None else frame)
        notes = volume.notes
        if volume.slices > 1 and frame is None:
            taken = {"slices": volume.slices, "slice": volume.middle + 1}
            notes += (Message("one-slice", taken),)
        elif volume.slices > 1:
            notes += (Message("chosen-slice", _number(volume, frame or 0)),)
        elif frame is not None and volume.place(0).series:
            notes += (Message("slice-of-series"),)
    return replace(picture, notes=notes + picture.notes, facts=volume.facts)


def _number(volume: Volume, frame: int) -> dict[str, int]:
    """Number a slice among those of its volume, in the order in which they lie."""
    positions = [volume.place(index).position for index in range(volume.slices)]
    known = {position for position in positions if position is not None}
    own = positions[frame]
    if own is None or None in positions:
        return {"slices": volume.slices, "slice": frame + 1}
    return {"slices": len(known), "slice": 1 + sum(one < own for one in known)}
