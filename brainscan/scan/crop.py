"""The biggest contour of a scan, its extreme points, and the box they span (document 000)."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

# The contour is searched on a copy of this longest side, so a scan and a smaller copy of it are
# cropped alike, and the blur and the erosions mean the same on both.
_SEARCH_SIDE = 256
# Document 000's recipe uses a threshold of 45 on full-range scans; relative to the bright tissue
# it also fits dim exports.
_THRESHOLD_OF_BRIGHT = 45 / 255
_BRIGHT_PERCENTILE = 99.5
_NEIGHBOURS = np.ones((3, 3), np.uint8)

# A head fills most of a scan. A box smaller or narrower than this is a stray bright spot.
MIN_AREA_FRACTION = 0.15
MIN_SIDE_FRACTION = 0.25
MAX_ASPECT_RATIO = 2.5


class Box(NamedTuple):
    """A rectangle in pixels: columns [left, right), rows [top, bottom)."""

    left: int
    top: int
    right: int
    bottom: int


class Outline(NamedTuple):
    """What a search for a head found, step by step.

    Attributes:
        threshold: 0 to 255; what is brighter may be tissue.
        mask: uint8, shape (rows, columns), 0 or 255: where the blurred copy is brighter, without
            specks and thin bridges. The copy is at most 256 pixels long.
        contour: int32, shape (points, 1, 2), columns and rows of the mask: around its biggest
            part; None where it is black.
        box: between the contour's extreme points, in pixels of the scan; None where that crop is
            degenerate.
    """

    threshold: float
    mask: NDArray[np.uint8]
    contour: NDArray[np.int32] | None
    box: Box | None


def trace_head(grey: NDArray[np.uint8]) -> Outline:
    """Find the biggest contour of a scan, and the box around it.

    Args:
        grey: uint8, shape (height, width).

    Returns:
        The search step by step. Its box is None where that crop is degenerate: no contour, or one
        too small, too narrow or too long to be a head. Document 000 removed such images by hand.
    """
    height, width = grey.shape
    shrink = max(1.0, max(height, width) / _SEARCH_SIDE)
    small = grey
    if shrink > 1.0:
        size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
        small = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    threshold, mask = _separate_bright(small)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    biggest = max(contours, key=cv2.contourArea, default=None)
    if biggest is None:
        return Outline(threshold, mask, None, None)
    contour = np.asarray(biggest, np.int32)
    left, top, columns, rows = cv2.boundingRect(contour)
    across, down = width / small.shape[1], height / small.shape[0]
    box = Box(
        left=int(left * across),
        top=int(top * down),
        right=min(width, int(np.ceil((left + columns) * across))),
        bottom=min(height, int(np.ceil((top + rows) * down))),
    )
    return Outline(threshold, mask, contour, None if _is_degenerate(box, width, height) else box)


def _separate_bright(grey: NDArray[np.uint8]) -> tuple[float, NDArray[np.uint8]]:
    """Give the threshold of a picture, and the mask of what is brighter."""
    blurred = np.asarray(cv2.GaussianBlur(grey, (5, 5), 0), np.uint8)
    threshold = _percentile(blurred, _BRIGHT_PERCENTILE) * _THRESHOLD_OF_BRIGHT
    mask = cv2.threshold(blurred, threshold, 255, cv2.THRESH_BINARY)[1]
    mask = cv2.dilate(cv2.erode(mask, _NEIGHBOURS, iterations=2), _NEIGHBOURS, iterations=2)
    return threshold, np.asarray(mask, np.uint8)


def _percentile(grey: NDArray[np.uint8], percent: float) -> float:
    """Give the percentile of 8-bit values from their histogram: ten times faster than sorting."""
    counts = np.cumsum(cv2.calcHist([grey], [0], None, [256], [0, 256]), dtype=np.int64)
    return float(np.searchsorted(counts, counts[-1] * percent / 100))


def _is_degenerate(box: Box, width: int, height: int) -> bool:
    columns, rows = box.right - box.left, box.bottom - box.top
    return (
        columns * rows < MIN_AREA_FRACTION * width * height
        or columns < MIN_SIDE_FRACTION * width
        or rows < MIN_SIDE_FRACTION * height
        or max(columns, rows) > MAX_ASPECT_RATIO * min(columns, rows)
    )
