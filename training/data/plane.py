"""In which plane a slice of a head was cut, guessed from the shape of the head."""

import cv2
import numpy as np
from numpy.typing import NDArray

from brainscan.scan.picture import Picture

PLANES = ("axial", "coronal", "sagittal")
UNKNOWN = "unknown"

_SIDE = 128
_OPENING = np.ones((3, 3), np.uint8)
_HEAD_OF_BRIGHT = 0.12
_BAND = slice(-2, None)
# A logistic regression, fitted as docs/decisions.md says: a row for each plane.
_WEIGHTS = np.array(
    [
        [4.0, -4.1, -8.8, 1.3, 12.7, 1.6, -3.3, -3.1, -2.5, -0.3, -4.6, 1.4, 1.7, -13.0, -0.8],
        [-1.9, 4.5, 4.8, -12.0, -6.8, 2.8, 1.5, 2.5, -2.3, 0.8, -0.7, 1.2, -9.5, 10.5, 0.2],
        [-2.1, -0.4, 4.0, 10.8, -6.0, -4.4, 1.8, 0.6, 4.8, -0.5, 5.3, -2.6, 7.8, 2.5, 0.6],
    ]
)
_INTERCEPTS = np.array([-0.5, 12.1, -11.6])


def guess_plane(picture: Picture) -> str:
    """Name the likeliest of `PLANES`, or `UNKNOWN` where no head is seen.

    An axial slice is an ellipse; a coronal one is alike on both sides and has a neck; a sagittal
    one has a face on one side. Right for about nine scans in ten: enough for a table of counts.
    """
    measured = measure_shape(picture.grey)
    if measured is None:
        return UNKNOWN
    return PLANES[int(np.argmax(_WEIGHTS @ measured + _INTERCEPTS))]


def measure_shape(grey: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    """Measure the outline of a head.

    Args:
        grey: uint8, shape (height, width).

    Returns:
        float64, shape (15,): how much of its box the head fills, in eight bands from the top; how
        much its sides differ, in the upper, middle and lower part; how well it correlates with its
        mirror image; width over height; how much it differs from itself upside down; how much of
        the picture's lower edge it fills. None where there is no head.
    """
    scale = _SIDE / max(grey.shape)
    size = tuple(max(1, round(length * scale)) for length in grey.shape[::-1])
    small = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    blurred = np.asarray(cv2.GaussianBlur(small, (5, 5), 0))
    bright = blurred > _HEAD_OF_BRIGHT * np.percentile(blurred, 99)
    mask = cv2.morphologyEx(bright.astype(np.uint8), cv2.MORPH_OPEN, _OPENING, iterations=2)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return None
    biggest = max(contours, key=cv2.contourArea)
    left, top, columns, rows = cv2.boundingRect(biggest)
    filled = np.zeros(small.shape, np.float32)
    cv2.drawContours(filled, [biggest], -1, 1, cv2.FILLED)
    box = np.s_[top : top + rows, left : left + columns]
    coarse, fine = _shrink(filled[box], 8), _shrink(filled[box], 32)
    sides = np.abs(coarse - coarse[:, ::-1])
    picture = _shrink(small[box].astype(np.float32), 32)
    deviation = picture - picture.mean()
    likeness = np.sum(deviation * deviation[:, ::-1]) / max(np.sum(deviation**2), 1e-6)
    return np.array(
        [
            *coarse.mean(axis=1),
            sides[:3].mean(),
            sides[3:5].mean(),
            sides[5:].mean(),
            likeness,
            columns / rows,
            np.abs(fine - fine[::-1]).mean(),
            filled[_BAND].mean(),
        ],
        np.float64,
    )


def _shrink(picture: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), np.float32)
