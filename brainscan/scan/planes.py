"""What a reader takes from a file → a picture as a reader of films would see it."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from brainscan.messages import Message
from brainscan.scan.drawings import find_colour, is_drawing, remove_colours, remove_rings
from brainscan.scan.frame import is_inverted
from brainscan.scan.picture import Picture
from brainscan.scan.resemblance import MAX_COLOURED_FRACTION
from brainscan.scan.window import DIM_VALUE, Window, choose_step, choose_window, is_dim

_FEW_LEVELS = 64
_BAND = 2**20  # pixels that are looked at together


class Planes(NamedTuple):
    """What a file holds, each uint8 and, but for `colour`, of shape (height, width).

    Attributes:
        grey: 0 to 255.
        levels: how many of grey are in the window that was chosen; None where it has 8 bits.
        colour: a bit for each pixel, set where it is coloured, shape (height, width / 8 rounded
            up); None where it has one channel.
        darkest: of each pixel's channels; None where it has one.
    """

    grey: NDArray[np.uint8]
    levels: int | None = None
    colour: NDArray[np.uint8] | None = None
    darkest: NDArray[np.uint8] | None = None


# Reads the grey of some rows and, where they have any, their colours, shape (rows, width, 3) and in
# any order. All rows at once would be held several times over.
Read = Callable[[slice], tuple[NDArray[Any], NDArray[Any] | None]]


def gather(shape: tuple[int, int], read: Read) -> Planes:
    """Put together what is read of 8 bits, some rows at a time."""
    grey, darkest = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
    colour = np.empty((shape[0], -(-shape[1] // 8)), np.uint8)
    colours = None
    for rows in list_bands(shape):
        grey[rows], colours = read(rows)
        if colours is not None:
            is_coloured, darkest[rows] = find_colour(colours)
            colour[rows] = np.packbits(is_coloured, axis=1)
    return Planes(grey) if colours is None else Planes(grey, None, colour, darkest)


def gather_deep(
    shape: tuple[int, int],
    read: Read,
    choose: Callable[[NDArray[Any]], Window] = choose_window,
) -> Planes:
    """Put together what is read of more bits, within the window that is chosen for all of it.

    Args:
        shape: height and width.
        read: of any number type; called twice for the same rows.
        choose: takes each n-th of the rows and columns.
    """
    step = choose_step(shape)
    bands = list(list_bands(shape))
    # Copied: a part of an array holds all of it.
    seen = [read(rows)[0][-rows.start % step :: step, ::step].copy() for rows in bands]
    window = choose(np.concatenate(seen))

    def read_windowed(rows: slice) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        grey, colours = read(rows)
        return window.apply(grey), None if colours is None else window.apply(colours)

    return gather(shape, read_windowed)._replace(levels=window.levels)


def gather_stored(stored: NDArray[Any]) -> Planes:
    """Put together what is stored: grey of any number type, or colours of 8 bits, red first."""
    height, width = stored.shape[:2]
    if stored.ndim == 3:
        return gather((height, width), lambda rows: split_colours(stored[rows]))
    gather_grey = gather if stored.dtype == np.uint8 else gather_deep
    return gather_grey((height, width), lambda rows: (stored[rows], None))


def split_colours(colours: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Give the luminance of colours, shape (rows, width, 3), red first, and the colours."""
    return np.asarray(Image.fromarray(colours).convert("L")), colours


def interpret(planes: Planes) -> Picture:
    """Make a picture as a reader of films would see it; the planes are changed in place."""
    grey, levels, colour, darkest = planes
    coloured, annotated = 0.0, False
    notes = []
    if colour is not None and darkest is not None:
        pixels = int(np.bitwise_count(colour).sum())
        coloured = pixels / grey.size
        if coloured <= MAX_COLOURED_FRACTION and is_drawing(pixels, grey.shape):
            remove_colours(grey, darkest, np.unpackbits(colour, axis=1, count=grey.shape[1]))
            annotated = True
    grey, levels = _brighten(grey, levels)
    if coloured <= MAX_COLOURED_FRACTION and is_inverted(grey):
        grey = ~grey
        notes.append(Message("inverted"))
        grey, levels = _brighten(grey, levels)
    if remove_rings(grey) or annotated:
        notes.append(Message("annotated"))
    if levels is not None and levels < _FEW_LEVELS:
        notes.append(Message("few-grey-levels", {"levels": levels}))
    return Picture(grey, coloured, tuple(notes))


def _brighten(grey: NDArray[np.uint8], levels: int | None) -> tuple[NDArray[np.uint8], int | None]:
    """Give a dim picture the full range of grey, and say how many levels it has."""
    window = choose_window(grey) if is_dim(grey) else None
    if window is None or window.high >= DIM_VALUE:  # a small bright spot on black is not dim
        return grey, levels
    return window.apply(grey), window.levels


def list_bands(shape: tuple[int, int]) -> Iterator[slice]:
    """List the rows, some at a time, of a picture of that height and width."""
    height, width = shape
    step = max(1, _BAND // width)
    return (slice(top, min(top + step, height)) for top in range(0, height, step))
