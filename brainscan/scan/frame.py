"""What is around a scan in a picture of it: borders, a viewer's tools, or white air."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

# Lines of a frame are of one grey: first whole ones (a border), then ones with buttons and text on
# them (a viewer's tools), which may be interrupted by a row of large buttons.
_SHARES_OF_LINE = (0.95, 0.6)
_MOST_INTERRUPTED = 0.08
_SAME_GREY = 6
_LINE_SAMPLE = 64  # pixels of a line that are looked at
_LEAST_FRAME_CORNERS = 2  # of the picture's four
_LEAST_PANEL = 0.2  # of either side: what is left within

_SEARCH_SIDE = 256
_BRIGHT_CORNER = 100
_WHITE, _DARK = 190, 50
_LEAST_WHITE_EDGE = 0.4
_LEAST_WHITE_CORNERS = 3


class Box(NamedTuple):
    """A rectangle in pixels: columns [left, right), rows [top, bottom)."""

    left: int
    top: int
    right: int
    bottom: int


def find_panel(grey: NDArray[np.uint8], threshold: float) -> Box:
    """Find the part of a picture that is within a border or a viewer's tools.

    Args:
        grey: uint8, shape (height, width), at most a few hundred pixels long.
        threshold: 0 to 255; what is darker is the air around a head, not a frame.

    Returns:
        The part within; the whole picture where there is no frame.
    """
    whole = Box(0, 0, grey.shape[1], grey.shape[0])
    if _count_bright_corners(grey, threshold) < _LEAST_FRAME_CORNERS:  # as nearly every scan
        return whole
    outermost = grey[[0, -1]], grey[:, [0, -1]].T
    if not any(_find_framing(lines, threshold, _SHARES_OF_LINE[-1]).any() for lines in outermost):
        return whole
    panel = _peel_all(grey, threshold)
    # What is bright to its edge is a scan that fills its picture, in air that is grey.
    return panel if np.median(_list_edge(grey, panel)) <= threshold else whole


def is_inverted(grey: NDArray[np.uint8]) -> bool:
    """Tell whether the air around the head is white: uint8, shape (height, width)."""
    if _count_bright_corners(grey, _BRIGHT_CORNER) < _LEAST_WHITE_CORNERS:
        return False
    shrink = max(1.0, max(grey.shape) / _SEARCH_SIDE)
    size = [max(1, round(side / shrink)) for side in grey.shape[::-1]]
    small = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    panel = _peel_all(small, _BRIGHT_CORNER)
    edge = _list_edge(small, panel)
    white = np.mean(edge >= _WHITE)
    return bool(white >= _LEAST_WHITE_EDGE and white > np.mean(edge <= _DARK))


def _count_bright_corners(grey: NDArray[np.uint8], threshold: float) -> int:
    corners = grey.item(0, 0), grey.item(0, -1), grey.item(-1, 0), grey.item(-1, -1)
    return sum(corner > threshold for corner in corners)


def _list_edge(grey: NDArray[np.uint8], panel: Box) -> NDArray[np.uint8]:
    """List the outermost pixels of a panel."""
    within = grey[panel.top : panel.bottom, panel.left : panel.right]
    return np.concatenate((within[0], within[-1], within[:, 0], within[:, -1]))


def _peel_all(grey: NDArray[np.uint8], threshold: float) -> Box:
    """Take a frame off a picture: all that is left; the whole picture where that is very little."""
    height, width = grey.shape
    whole = panel = Box(0, 0, width, height)
    for share in _SHARES_OF_LINE:
        before = None
        while panel != before:
            before = panel
            panel = _peel(grey, panel, threshold, share)
    large = (
        panel.right - panel.left >= _LEAST_PANEL * width
        and panel.bottom - panel.top >= _LEAST_PANEL * height
    )
    return panel if large else whole


def _peel(grey: NDArray[np.uint8], panel: Box, threshold: float, share: float) -> Box:
    """Take the lines of a frame off all four sides of a panel."""
    within = grey[panel.top : panel.bottom, panel.left : panel.right]
    top, bottom = _count_lines(within, threshold, share)
    rows = within[top : len(within) - bottom]
    left, right = _count_lines(rows.T, threshold, share)
    return Box(panel.left + left, panel.top + top, panel.right - right, panel.bottom - bottom)


def _count_lines(lines: NDArray[np.uint8], threshold: float, share: float) -> tuple[int, int]:
    """Count the lines of a frame that come first and last."""
    framing = _find_framing(lines, threshold, share)
    most = 0 if share == _SHARES_OF_LINE[0] else int(_MOST_INTERRUPTED * len(lines))
    first = _count_first(framing, most)
    return first, _count_first(framing[first:][::-1], most)


def _find_framing(lines: NDArray[np.uint8], threshold: float, share: float) -> NDArray[np.bool_]:
    """Tell of each line, shape (lines, pixels), whether it is of a frame."""
    if not lines.size:
        return np.zeros(len(lines), np.bool_)
    step = max(1, lines.shape[1] // _LINE_SAMPLE)
    sample = lines[:, ::step].astype(np.int16)  # eight times faster to partition than uint8
    half = sample.shape[1] // 2
    middle = np.partition(sample, half, axis=1)[:, half]
    even = np.mean(np.abs(sample - middle[:, np.newaxis]) <= _SAME_GREY, axis=1)
    return np.asarray((even >= share) & (middle > threshold))


def _count_first(framing: NDArray[np.bool_], most_interrupted: int) -> int:
    """Count the lines up to the last of the frame, where so many others may lie in between."""
    count = 0
    for place in np.flatnonzero(framing):
        if place - count > most_interrupted:
            break
        count = int(place) + 1
    return count
