"""What was drawn on a scan in colour: noticed, and taken off where tissue can be seen under it."""

import cv2
import numpy as np
from numpy.typing import NDArray

# JPEG colours grey pixels by less; a drawn line is purer than this.
_COLOUR_SPREAD = 40
_LEAST_DRAWN = 20  # pixels, of a copy of 512
_LONGEST_SIDE = 512
_STROKE = 9  # what is as wide is a surface; pixels of that copy
_REACH = 3  # a line's edge is less coloured than its middle
_REPAIR_RADIUS = 3


def find_colour(colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mark the pixels that are not grey.

    Args:
        colours: uint8, shape (height, width, 3), in any order.

    Returns:
        uint8, shape (height, width): 255 where coloured, else 0.
    """
    first, second, third = cv2.split(colours)
    spread = cv2.subtract(
        cv2.max(cv2.max(first, second), third), cv2.min(cv2.min(first, second), third)
    )
    return np.asarray(cv2.threshold(spread, _COLOUR_SPREAD, 255, cv2.THRESH_BINARY)[1], np.uint8)


def is_drawing(colour: NDArray[np.uint8]) -> bool:
    """Tell whether coloured pixels, as `find_colour` marks them, are more than noise."""
    height, width = colour.shape
    scale = max(1.0, max(height, width) / _LONGEST_SIDE)
    return bool(cv2.countNonZero(colour) >= _LEAST_DRAWN * scale * scale)


def remove_drawings(
    grey: NDArray[np.uint8], colours: NDArray[np.uint8], colour: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Take what is coloured off a scan.

    A line is filled from what is next to it. A surface, such as a region that was marked and can
    be seen through, keeps its texture: it becomes the darkest of its channels.

    Args:
        grey: uint8, shape (height, width): the luminance.
        colours: uint8, shape (height, width, 3), in any order.
        colour: uint8, shape (height, width): what is coloured, as `find_colour` marks it.
    """
    height, width = grey.shape
    shrink = max(1.0, max(height, width) / _LONGEST_SIDE)  # filling a large scan takes seconds
    size = round(width / shrink), round(height / shrink)
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    marked = np.asarray(cv2.resize(colour, size, interpolation=cv2.INTER_AREA) > 0, np.uint8)
    surface = cv2.morphologyEx(marked, cv2.MORPH_OPEN, np.ones((_STROKE, _STROKE), np.uint8))
    reach = np.ones((2 * _REACH + 1, 2 * _REACH + 1), np.uint8)
    lines = cv2.subtract(cv2.dilate(cv2.subtract(marked, surface), reach), surface)
    filled = cv2.inpaint(small, lines, _REPAIR_RADIUS, cv2.INPAINT_TELEA)
    on_line = cv2.resize(lines, (width, height), interpolation=cv2.INTER_NEAREST) > 0
    filled = cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR)
    clean = np.where(colour > 0, colours.min(axis=2), grey)
    return np.where(on_line, filled, clean).astype(np.uint8)
