"""The biggest contour of a scan, its extreme points, and the box they span (document 000)."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from brainscan.scan.frame import Box, find_panel

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
# In a montage, the parts of the mask are nearly of one size; the halves of a single head are not.
_HEAD_OF_BIGGEST = 0.5
_HEAD_SIDE = 0.75
_HEAD_OF_PICTURE = 0.02


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
        panel: the part of the scan that was searched, in its pixels: what is within a border or a
            viewer's tools.
        heads: how many parts of the mask are as large as a head; more than one in a montage.
    """

    threshold: float
    mask: NDArray[np.uint8]
    contour: NDArray[np.int32] | None
    box: Box | None
    panel: Box
    heads: int


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
    panel = find_panel(small, threshold)
    if panel != (0, 0, small.shape[1], small.shape[0]):
        within = np.s_[panel.top : panel.bottom, panel.left : panel.right]
        mask = np.zeros_like(mask)
        threshold, mask[within] = _separate_bright(small[within])
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    across, down = width / small.shape[1], height / small.shape[0]

    def enlarge(box: Box) -> Box:
        return Box(
            left=int(box.left * across),
            top=int(box.top * down),
            right=min(width, int(np.ceil(box.right * across))),
            bottom=min(height, int(np.ceil(box.bottom * down))),
        )

    searched = enlarge(panel)
    if not contours:
        return Outline(threshold, mask, None, None, searched, 0)
    areas = [cv2.contourArea(contour) for contour in contours]
    most = max(areas)
    contour = np.asarray(contours[areas.index(most)], np.int32)
    left, top, columns, rows = cv2.boundingRect(contour)
    box = enlarge(Box(left, top, left + columns, top + rows))
    least = max(_HEAD_OF_BIGGEST * most, _HEAD_OF_PICTURE * small.size)
    heads = sum(
        area >= least and _is_as_large(cv2.boundingRect(one), columns, rows)
        for one, area in zip(contours, areas, strict=True)
    )
    sides = searched.right - searched.left, searched.bottom - searched.top
    found = None if _is_degenerate(box, *sides, heads) else box
    return Outline(threshold, mask, contour, found, searched, heads)


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


def _is_as_large(box: Sequence[int], columns: int, rows: int) -> bool:
    """Tell whether a box (left, top, columns, rows) has about so many columns and rows."""
    return (
        _HEAD_SIDE * columns <= box[2] <= columns / _HEAD_SIDE
        and _HEAD_SIDE * rows <= box[3] <= rows / _HEAD_SIDE
    )


def _is_degenerate(box: Box, width: int, height: int, heads: int) -> bool:
    columns, rows = box.right - box.left, box.bottom - box.top
    alone = heads == 1
    return (
        columns * rows < (MIN_AREA_FRACTION if alone else _HEAD_OF_PICTURE) * width * height
        or columns < MIN_SIDE_FRACTION * width * alone
        or rows < MIN_SIDE_FRACTION * height * alone
        or max(columns, rows) > MAX_ASPECT_RATIO * min(columns, rows)
    )
