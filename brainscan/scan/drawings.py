"""What was drawn on a scan, in colour or as a white ring: noticed, and taken off.

White arrows and grey rings are left: nothing cheap tells them from vessels and ventricles.
"""

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
# A white ring: a hole in what is white that is an ellipse, which no tissue encloses so evenly. Of
# 14,900 public scans, 2 have one; of drawn rings, 1 to 4 pixels wide, 89 to 99 % are found.
_WHITE = 240
_SAMPLE_SIDE = 64
_LEAST_WHITE = 0.0025  # share of what is within; with less there is no ring
_LEAST_RING, _LARGEST_RING = 0.0008, 0.15  # area of the hole, as a share of the picture
_LEAST_POINTS = 8
_MARGIN = 6  # of the height and width; a ring is not there
_LEAST_CONVEX = 0.93  # share of its convex hull
_MOST_OFF_ELLIPSE = 0.06  # of its area
_MOST_OBLONG = 2.5
_WIDEST_RING = 11


def find_colour(colours: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Mark the pixels that are not grey.

    Args:
        colours: uint8, shape (height, width, 3), in any order.

    Returns:
        Both uint8 and of shape (height, width): 255 where coloured, else 0; and the darkest of
        each pixel's channels.
    """
    first, second, third = cv2.split(colours)
    darkest = cv2.min(cv2.min(first, second), third)
    spread = cv2.subtract(cv2.max(cv2.max(first, second), third), darkest)
    colour = cv2.threshold(spread, _COLOUR_SPREAD, 255, cv2.THRESH_BINARY)[1]
    return np.asarray(colour, np.uint8), np.asarray(darkest, np.uint8)


def is_drawing(coloured: int, shape: tuple[int, ...]) -> bool:
    """Tell whether so many coloured pixels are more than noise in a picture: (height, width)."""
    scale = max(1.0, max(shape) / _LONGEST_SIDE)
    return coloured >= _LEAST_DRAWN * scale * scale


def remove_colours(
    grey: NDArray[np.uint8], darkest: NDArray[np.uint8], colour: NDArray[np.uint8]
) -> None:
    """Take what is coloured off a scan, in place: a large one would be held twice.

    A line is filled from what is next to it. A surface, such as a region that was marked and can
    be seen through, keeps its texture: it becomes the darkest of its channels.

    Args:
        grey: uint8, shape (height, width): the luminance.
        darkest: uint8, shape (height, width): of each pixel's channels, as `find_colour` gives it.
        colour: uint8, shape (height, width): 1 where it is coloured, else 0.
    """
    marked = _shrink(colour * np.uint8(255)) > 0
    surface = cv2.morphologyEx(_number(marked), cv2.MORPH_OPEN, np.ones((_STROKE, _STROKE)))
    lines = _widen(marked & (surface == 0)) & (surface == 0)
    _lay_over(grey, darkest, colour)
    _fill(grey, lines)


def remove_rings(grey: NDArray[np.uint8]) -> bool:
    """Take white rings off a scan, uint8 and of shape (height, width), in place.

    Returns:
        Whether there were any.
    """
    step = max(1, min(grey.shape) // _SAMPLE_SIDE)
    top, left = (side // _MARGIN for side in grey.shape)
    sample = grey[top:-top:step, left:-left:step]
    if np.count_nonzero(sample >= _WHITE) < _LEAST_WHITE * sample.size:
        return False
    small = _shrink(grey)
    white = cv2.threshold(small, _WHITE - 1, 1, cv2.THRESH_BINARY)[1]
    contours, hierarchy = cv2.findContours(white, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return False
    places = np.flatnonzero(np.asarray(hierarchy)[0, :, 3] >= 0).tolist()  # a hole has a parent
    holes = [np.asarray(contours[place], np.int32) for place in places]
    rings = [hole for hole in holes if _is_ring(hole, small.size)]
    if not rings:
        return False
    inside = cv2.drawContours(np.zeros_like(small), rings, -1, 1, cv2.FILLED)
    around = cv2.dilate(inside, np.ones((2 * _WIDEST_RING + 1, 2 * _WIDEST_RING + 1)))
    _fill(grey, _widen((around > 0) & (white > 0)))
    return True


def _is_ring(hole: NDArray[np.int32], pixels: int) -> bool:
    """Tell whether a hole's contour, int32 and of shape (points, 1, 2), is an ellipse."""
    if len(hole) < _LEAST_POINTS:
        return False
    area = cv2.contourArea(hole)
    if not _LEAST_RING * pixels <= area <= _LARGEST_RING * pixels:
        return False
    if area < _LEAST_CONVEX * cv2.contourArea(cv2.convexHull(hole)):
        return False
    _, (one, other), _ = cv2.fitEllipse(hole)
    off = abs(area / (np.pi * one * other / 4) - 1)
    return bool(off <= _MOST_OFF_ELLIPSE and max(one, other) <= _MOST_OBLONG * min(one, other))


def _shrink(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give a copy that is at most 512 pixels long."""
    height, width = picture.shape
    shrink = max(1.0, max(height, width) / _LONGEST_SIDE)
    size = max(1, round(width / shrink)), max(1, round(height / shrink))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _number(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.asarray(mask, np.uint8)


def _widen(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(cv2.dilate(_number(mask), np.ones((2 * _REACH + 1, 2 * _REACH + 1))) > 0)


def _fill(grey: NDArray[np.uint8], lines: NDArray[np.bool_]) -> None:
    """Fill lines, marked on a copy of at most 512 pixels, from what is next to them."""
    height, width = grey.shape
    # On the copy: to fill a large scan takes seconds.
    filled = cv2.inpaint(_shrink(grey), _number(lines), _REPAIR_RADIUS, cv2.INPAINT_TELEA)
    on_line = cv2.resize(_number(lines), (width, height), interpolation=cv2.INTER_NEAREST)
    filled = cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR)
    _lay_over(grey, np.asarray(filled, np.uint8), np.asarray(on_line, np.uint8))


def _lay_over(under: NDArray[np.uint8], over: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
    """Write another picture's pixels into one where the mask is not 0."""
    cv2.copyTo(over, mask, under)
