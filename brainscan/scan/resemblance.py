"""Whether a picture looks like a slice of a head at all: a cheap look at its edge and its colour.

A model gives every picture one of its classes, a photograph of a cat too. This asks for what
nearly all exported slices have in common: they are grey, and the air around the head is black.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

# Measured in docs/decisions.md, on real scans and on photographs.
MAX_COLOURED_FRACTION = 0.1
MIN_DARK_EDGE_FRACTION = 0.4

_SIDE = 64  # enough to see a head by, and small enough to cost nothing
_EDGE = 3
_DARK_OF_BRIGHT = 0.2
_BRIGHTEST = _SIDE * _SIDE // 200  # half a percent of the pixels may be brighter: labels, flow


def looks_like_scan(grey: NDArray[np.uint8], coloured: float) -> bool:
    """Tell whether a picture may be a slice of a head.

    Args:
        grey: uint8, shape (height, width), as `read_picture` gives it.
        coloured: the share of its pixels that are coloured, 0 to 1.
    """
    return coloured <= MAX_COLOURED_FRACTION and _measure_edge(grey) >= MIN_DARK_EDGE_FRACTION


def _measure_edge(grey: NDArray[np.uint8]) -> float:
    """Give the share of a picture's edge that is dark, 0 to 1."""
    step = max(1, min(grey.shape) // (4 * _SIDE))  # a large scan need not be read whole
    small = cv2.resize(grey[::step, ::step], (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    bright = np.partition(small, -_BRIGHTEST, axis=None)[-_BRIGHTEST]
    dark = small < bright * _DARK_OF_BRIGHT
    inside = dark[_EDGE:-_EDGE, _EDGE:-_EDGE]
    return float((dark.sum() - inside.sum()) / (dark.size - inside.size))
