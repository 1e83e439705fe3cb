"""Intensities of any range → 8 bits, windowed by the head as a reader of films would do.

MRI intensities have no fixed unit. From minimum to maximum, one hot pixel or a label of the
scanner's largest value would leave only black, so the window is that of the head.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

# An 8-bit picture is dim where fewer than 2 % of its pixels reach a quarter of the range: none of
# 14,900 public scans is. A label on it is smaller than that.
DIM_VALUE = 64
_DIM_SHARE = 0.02
_SAMPLE_SIDE = 64
_SEARCH_SIDE = 256
_TISSUE_OF_BRIGHT = 45 / 255  # as the crop's threshold
_BRIGHT_PERCENTILE = 95.0  # a label is smaller than the rest, a head larger
_DARK_PERCENTILE = 0.1
_HEAD_PERCENTILES = (99.0, 99.95)
# A label across the head may reach into the last of them; tissue is rarely this much brighter than
# the other.
_MOST_ABOVE_HEAD = 1.6
# Padding is a constant below zero, further below everything else than half of its range.
_PADDING_SHARE = 0.01
_PADDING_GAP = 0.5
# Beyond these, float32 cannot tell the values of a window apart, or does not reach from end to end.
_LEAST_SPREAD, _MOST_SPREAD = 1e-30, 1e38


class Window(NamedTuple):
    """Which intensities become which grey.

    Attributes:
        low: becomes 0, as does all below it.
        high: becomes 255, as does all above it.
        levels: how many different values of the head lie between them.
    """

    low: float
    high: float
    levels: int

    @np.errstate(over="ignore", invalid="ignore")  # what float32 cannot hold becomes infinite
    def apply(self, values: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Map values of any shape and number type to 0 to 255; NaN and infinity to 0."""
        if values.dtype == np.uint8:
            return np.asarray(cv2.LUT(values.view(np.uint8), self.apply(np.arange(256))), np.uint8)
        spread = self.high - self.low
        if not _LEAST_SPREAD < spread < _MOST_SPREAD:
            return np.zeros(values.shape, np.uint8)
        deep = values.astype(np.float32)
        # In place: a large scan would be held four times over.
        np.nan_to_num(deep, copy=False, nan=self.low, posinf=self.low, neginf=self.low)
        np.clip(deep, self.low, self.high, out=deep)
        deep -= self.low
        deep *= 255 / spread
        return np.asarray(np.rint(deep, out=deep), np.uint8)


def is_dim(grey: NDArray[np.uint8]) -> bool:
    """Tell whether a picture, uint8 and of shape (height, width), uses the dark quarter only."""
    step = max(1, min(grey.shape) // _SAMPLE_SIDE)
    sample = grey[::step, ::step]
    return int(np.count_nonzero(sample >= DIM_VALUE)) < _DIM_SHARE * sample.size


def find_brightest(values: NDArray[np.generic]) -> float:
    """Give the largest finite value, at least 0."""
    deep = values.astype(np.float32)
    return float(deep.max(initial=0, where=np.isfinite(deep)))


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is left out later
def negate(values: NDArray[np.generic], brightest: float) -> NDArray[np.float32]:
    """Turn dark into bright: of any shape and number type; the brightest becomes 0."""
    return np.asarray(np.float32(brightest) - values.astype(np.float32))


def choose_step(shape: tuple[int, ...]) -> int:
    """Say which rows and columns of a scan are enough to choose its window by: each n-th."""
    return -(-max(shape) // _SEARCH_SIDE)


@np.errstate(over="ignore", invalid="ignore")
def choose_window(values: NDArray[np.generic]) -> Window:
    """Choose the window of a scan: from the darkest air to the brightest of the head.

    Args:
        values: shape (height, width), of any number type. What is not a finite number is left
            out, and so is padding: a constant below zero, far below all else.
    """
    step = choose_step(values.shape)
    sample = values[::step, ::step].astype(np.float32)
    known = np.isfinite(sample)
    known &= ~_find_padding(sample, known)
    if not known.any():
        return Window(0.0, 0.0, 1)
    low, bright = np.percentile(sample[known], (_DARK_PERCENTILE, _BRIGHT_PERCENTILE))
    threshold = low + _TISSUE_OF_BRIGHT * (bright - low)
    head = sample[_find_biggest(known & (sample > threshold))]
    if not head.size:
        head = sample[known]
    most, peak = np.percentile(head, _HEAD_PERCENTILES)
    high = min(peak, low + _MOST_ABOVE_HEAD * (most - low))
    if high <= low:
        low, high = sample[known].min(), sample[known].max()
    levels = np.unique(sample[known & (sample >= low) & (sample <= high)]).size
    return Window(float(low), float(high), levels)


def _find_padding(sample: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark a constant below zero, far below all else; mostly there is none."""
    lowest = sample[known].min(initial=0)
    padding = known & (sample == lowest)
    rest = sample[known & ~padding]
    if lowest < 0 and rest.size and np.mean(padding) >= _PADDING_SHARE:
        least, most = rest.min(), np.percentile(rest, _HEAD_PERCENTILES[0])
        if least - lowest > _PADDING_GAP * (most - least):
            return np.asarray(padding)
    return np.zeros_like(padding)


def _find_biggest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Give the biggest connected part of a mask, without specks and thin bridges."""
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, parts, statistics, _ = cv2.connectedComponentsWithStats(opened)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    return parts == 1 + int(areas.argmax()) if areas.size else np.zeros_like(mask)
