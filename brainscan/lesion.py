"""A lesion map → the region that it marks, where it lies on the whole picture."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from brainscan.bundle import LesionMap
from brainscan.scan import PreparedScan
from brainscan.scan.crop import Outline

Point = tuple[float, float]
Polygon = tuple[Point, ...]

_DECIMALS = 4  # a twentieth of a pixel of a scan of 512
_SMOOTHING = 0.7  # pixels of the prepared scan by which an outline may be off


@dataclass(frozen=True)
class Lesion:
    """A region that a model marks; x and y are shares of the picture's width and height.

    Attributes:
        peak: (x, y) of the map's highest value, from the top left, 0 to 1.
        outline: polygons of (x, y), one for each part of the region, closed, the largest first.
        area: of the region, as a share of the head's, 0 to 1.
        score: the map's highest value, 0 to 1.
    """

    peak: Point
    outline: tuple[Polygon, ...]
    area: float
    score: float


def find_lesion(
    values: NDArray[np.float32], limits: LesionMap, scan: PreparedScan, head: float
) -> Lesion | None:
    """Find what a lesion map marks.

    Args:
        values: float32, shape (rows, columns), 0 to 1, of the prepared scan.
        limits: the card's.
        scan: as the model took it.
        head: the share of the whole picture that the head takes, as `measure_head` gives it.

    Returns:
        The region; None where the map's peak is too low to mark any.
    """
    score = float(values.max())
    if not score >= limits.marked_from:
        return None
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    peak = np.array([[(column + 0.5) / values.shape[1], (row + 0.5) / values.shape[0]]])
    region = draw_region(values, limits, scan.pixels.shape[0])
    contours, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    contours = sorted(contours, key=cv2.contourArea, reverse=True)
    polygons = [cv2.approxPolyDP(contour, _SMOOTHING, True)[:, 0] for contour in contours]
    return Lesion(
        peak=_place(peak, scan)[0],
        outline=tuple(
            _place((polygon + 0.5) / region.shape[0], scan)
            for polygon in polygons
            if len(polygon) > 2
        ),
        area=round(min(1.0, float(region.mean()) * _measure_box(scan) / head), _DECIMALS),
        score=round(score, _DECIMALS),
    )


def measure_head(outline: Outline) -> float:
    """Give the share of a picture, above 0 to 1, within the outline of its head; 1 without one."""
    if outline.contour is None:
        return 1.0
    return max(1.0, cv2.contourArea(outline.contour)) / outline.mask.size


def draw_region(values: NDArray[np.float32], limits: LesionMap, size: int) -> NDArray[np.uint8]:
    """Draw the region that a lesion map marks: uint8, shape (size, size), 0 or 1."""
    fine = cv2.resize(values, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(fine >= limits.region_from, np.uint8)


def _place(points: NDArray[np.float64], scan: PreparedScan) -> tuple[Point, ...]:
    """Give shares of the whole picture for shares of the prepared scan, (points, 2)."""
    box = scan.box
    start, end = np.array([box.left, box.top]), np.array([box.right, box.bottom])
    placed = ((start + points * (end - start)) / scan.whole).round(_DECIMALS)
    return tuple((float(x), float(y)) for x, y in placed)


def _measure_box(scan: PreparedScan) -> float:
    """Give the share of the whole picture that the model saw, 0 to 1."""
    box, (width, height) = scan.box, scan.whole
    return (box.right - box.left) * (box.bottom - box.top) / (width * height)
