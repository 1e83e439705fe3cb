"""Which of the regions that are marked on the slices of a head are one tumour."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from brainscan.lesion import Polygon

_SIDE = 128  # pixels of the grid on which regions of neighbouring slices are compared
_LEAST = 0.1  # of the largest tumour: what is smaller is taken for a mistake


class _Region(NamedTuple):
    """A region on one slice: the slice's index, its outline, and the pixels within it."""

    slice: int
    outline: Polygon
    pixels: NDArray[np.uint8]


def find_extent(marked: Sequence[Sequence[Polygon]], strong: Sequence[bool]) -> list[list[Polygon]]:
    """Find the regions that make up tumours: over each other on neighbouring slices.

    As in Canny's edges, what is weaker counts where it touches what is strong.

    Args:
        marked: for each slice, in order, the outlines of regions, in shares of its picture.
        strong: for each slice, whether it is among those that agree on a tumour.

    Returns:
        For each slice the outlines that belong to a tumour.
    """
    extent: list[list[Polygon]] = [[] for _ in marked]
    if not any(strong):
        return extent
    regions = [
        _Region(index, outline, _draw(outline))
        for index, outlines in enumerate(marked)
        for outline in outlines
    ]
    tumors = [
        connected for connected in _connect(regions) if any(strong[one.slice] for one in connected)
    ]
    sizes = [sum(int(one.pixels.sum()) for one in tumor) for tumor in tumors]
    for tumor, size in zip(tumors, sizes, strict=True):
        if size >= _LEAST * max(sizes):
            for one in tumor:
                extent[one.slice].append(one.outline)
    return extent


def measure(outlines: Sequence[Polygon]) -> float:
    """Give the area within outlines as a share of their picture, 0 to 1."""
    return sum(cv2.contourArea(np.array(one, np.float32)) for one in outlines)


def _draw(outline: Polygon) -> NDArray[np.uint8]:
    pixels = np.zeros((_SIDE, _SIDE), np.uint8)
    cv2.fillPoly(pixels, [np.rint(np.array(outline) * _SIDE).astype(np.int32)], 1)
    return pixels


def _connect(regions: Sequence[_Region]) -> Iterator[list[_Region]]:
    """Give the regions in groups of which each lies over, or below, another of its group."""
    left = list(regions)
    while left:
        group = [left.pop()]
        for one in group:  # it grows meanwhile
            touching = [
                other
                for other in left
                if abs(other.slice - one.slice) == 1 and (other.pixels & one.pixels).any()
            ]
            left = [other for other in left if not any(other is found for found in touching)]
            group.extend(touching)
        yield group
