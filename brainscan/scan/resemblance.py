"""Whether a picture looks like a slice of a head at all: a cheap look at what is dark or coloured.

A model gives every picture one of its classes, a photograph of a cat too. This asks for what
nearly all exported slices have in common: they are grey, the air around the head is black, and the
head is not.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

# Measured in docs/decisions.md, on real scans and on photographs.
MAX_COLOURED_FRACTION = 0.1
MIN_DARK_EDGE_FRACTION = 0.4
MAX_DARK_FRACTION = 0.95

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
    if coloured > MAX_COLOURED_FRACTION:
        return False
    dark = _find_dark(grey)
    inside = dark[_EDGE:-_EDGE, _EDGE:-_EDGE]
    of_edge = (dark.sum() - inside.sum()) / (dark.size - inside.size)
    return bool(of_edge >= MIN_DARK_EDGE_FRACTION and dark.mean() <= MAX_DARK_FRACTION)


def _find_dark(grey: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Mark what is dark of a picture, made small."""
    step = max(1, min(grey.shape) // (4 * _SIDE))  # a large scan need not be read whole
    small = cv2.resize(grey[::step, ::step], (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    bright = np.partition(small, -_BRIGHTEST, axis=None)[-_BRIGHTEST]
    return np.asarray(small < bright * _DARK_OF_BRIGHT)
