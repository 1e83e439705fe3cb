"""Random variations of a scan together with its lesion mask; OpenCV on the processor.

Geometry, exposure and noise as scanners, viewers and people vary them; annotations that viewers
draw, so that a ring does not suggest a tumour; and crops. A crop of a tumour's scan that leaves the
tumour out is healthy tissue from the same scanner, plane and contrast: without it, those stand in
for "tumour".
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

_TRIES = 20
_MARGIN = 10 / 192  # between a lesion-free crop and the outline, as a share of the scan's side
_TISSUE = 30  # brighter is tissue


class Sample(NamedTuple):
    """A scan, its lesion mask, and whether a crop has left the lesion out.

    Attributes:
        pixels: uint8, shape (size, size).
        mask: uint8, shape (size, size), 0 or 255.
        lesion_free: whether the scan no longer shows its tumour.
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    lesion_free: bool = False


@dataclass(frozen=True)
class Augmentation:
    """How often and how strongly scans vary.

    Attributes:
        strength: 0 leaves a scan as it is; 1 is the usual one.
        crops: the share of outlined tumours that are cropped; half as many heads without a tumour
            are, so that a crop suggests neither.
        lesion_free: the share of those crops that leave the tumour out.
        turns: the share of scans that are turned by a quarter or a half, or upside down.
        drawn: the share of scans that get an annotation.
    """

    strength: float = 1.0
    crops: float = 0.4
    lesion_free: float = 0.55
    turns: float = 0.1
    drawn: float = 0.2

    def vary(
        self, sample: Sample, random: np.random.Generator, *, outlined: bool, healthy: bool
    ) -> Sample:
        """Vary a scan.

        Args:
            sample: the scan and its mask.
            random: draws.
            outlined: whether it shows a tumour and the mask says where.
            healthy: whether it is known to show none.
        """
        if self.strength == 0:
            return sample
        if outlined and random.random() < self.crops:
            sample = crop_tumor(sample, random, lesion_free=random.random() < self.lesion_free)
        elif healthy and random.random() < self.crops / 2:
            sample = crop_window(sample, *_draw_window(sample.pixels, random))
        if random.random() < self.turns:
            sample = _turn(sample, int(random.integers(1, 8)))
        pixels, mask = _move(sample.pixels, sample.mask, random, self.strength)
        pixels = _expose(pixels, random, self.strength)
        if random.random() < self.drawn:
            pixels = annotate(pixels, random)
        return Sample(_degrade(pixels, random, self.strength), mask, sample.lesion_free)


def crop_tumor(sample: Sample, random: np.random.Generator, *, lesion_free: bool) -> Sample:
    """Crop the scan of an outlined tumour, without it or with nine tenths of it.

    It stays whole where no such window is found.
    """
    size = sample.pixels.shape[0]
    margin = round(_MARGIN * size)
    near = cv2.dilate(sample.mask, np.ones((2 * margin + 1,) * 2, np.uint8))
    whole = int(np.count_nonzero(sample.mask))
    for _ in range(_TRIES):
        window = _draw_window(sample.pixels, random)
        left, top, right, bottom = window
        if lesion_free:
            if not near[top:bottom, left:right].any():
                return crop_window(sample, *window)._replace(lesion_free=True)
        elif np.count_nonzero(sample.mask[top:bottom, left:right]) >= 0.9 * whole:
            return crop_window(sample, *window)
    return sample


def crop_window(sample: Sample, left: int, top: int, right: int, bottom: int) -> Sample:
    """Crop a scan and its mask, and enlarge both to their size."""
    size = 2 * (sample.pixels.shape[0],)
    pixels, mask = (
        np.asarray(cv2.resize(one[top:bottom, left:right], size), np.uint8) for one in sample[:2]
    )
    return Sample(pixels, mask)


def _draw_window(
    pixels: NDArray[np.uint8], random: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draw a window of 42 to 80 % of each side, half of it tissue."""
    size = pixels.shape[0]
    for _ in range(_TRIES):
        width, height = (int(size * share) for share in random.uniform(0.42, 0.8, 2))
        left, top = int(random.integers(size - width)), int(random.integers(size - height))
        window = left, top, left + width, top + height
        if (pixels[top : top + height, left : left + width] > _TISSUE).mean() > 0.5:
            break
    return window


def _turn(sample: Sample, number: int) -> Sample:
    """Turn by quarters (the lower two bits of the number) and flip upside down (the third)."""
    turned = (np.rot90(one, number % 4) for one in sample[:2])
    pixels, mask = (np.ascontiguousarray(one[::-1] if number > 3 else one) for one in turned)
    return Sample(pixels, mask, sample.lesion_free)


def _move(
    pixels: NDArray[np.uint8], mask: NDArray[np.uint8], random: np.random.Generator, strength: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Mirror, turn by up to 18°, scale by 0.8 to 1.2, stretch by 8 %, and shift by 6 %."""
    size = pixels.shape[0]
    angle = np.deg2rad(random.uniform(-18, 18) * strength)
    scale = 1 + random.uniform(-0.2, 0.2) * strength
    stretch = 1 + random.uniform(-0.08, 0.08) * strength
    across = scale * stretch * random.choice([-1, 1])
    matrix = np.array(
        [
            [np.cos(angle) * across, -np.sin(angle) * scale / stretch],
            [np.sin(angle) * across, np.cos(angle) * scale / stretch],
        ]
    )
    middle = np.full(2, (size - 1) / 2)
    shift = middle - matrix @ middle + random.uniform(-0.06, 0.06, 2) * strength * size
    affine = np.column_stack([matrix, shift])
    moved = (cv2.warpAffine(one, affine, (size, size)) for one in (pixels, mask))
    first, second = (np.asarray(one, np.uint8) for one in moved)
    return first, second


def _expose(
    pixels: NDArray[np.uint8], random: np.random.Generator, strength: float
) -> NDArray[np.uint8]:
    """Change gamma, contrast and brightness, and lay a smooth field over the scan."""
    values = pixels.astype(np.float32) / 255
    if random.random() < 0.5:
        values **= np.exp(random.uniform(-0.5, 0.5) * strength)
    values *= 1 + random.uniform(-0.3, 0.3) * strength
    values += random.uniform(-0.05, 0.05) * strength * (values > 0.05)
    if random.random() < 0.4:
        coarse = random.uniform(1 - 0.35 * strength, 1 + 0.35 * strength, (3, 3))
        values *= cv2.resize(coarse.astype(np.float32), pixels.shape, interpolation=cv2.INTER_CUBIC)
    return np.asarray((values * 255).clip(0, 255), np.uint8)


def _degrade(
    pixels: NDArray[np.uint8], random: np.random.Generator, strength: float
) -> NDArray[np.uint8]:
    """Blur, lower the resolution, or add noise."""
    draw, size = random.random(), pixels.shape
    if draw < 0.12:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), random.uniform(0.4, 1.4)), np.uint8)
    elif draw < 0.24:
        small = max(16, int(size[0] * random.uniform(0.4, 0.8)))
        shrunk = cv2.resize(pixels, (small, small), interpolation=cv2.INTER_AREA)
        pixels = np.asarray(cv2.resize(shrunk, size), np.uint8)
    if random.random() < 0.25:
        noise = random.normal(0, random.uniform(1, 10) * strength, size).astype(np.float32)
        pixels = np.asarray((pixels + noise).clip(0, 255), np.uint8)
    return pixels


def annotate(pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Draw what people draw on scans: a ring, an arrow, a label, or a grey rectangle."""
    drawn, size = pixels.copy(), pixels.shape[0]
    grey = int(random.choice([255, 255, 200, 128, 0]))
    width = int(random.integers(1, 1 + max(2, size // 64)))
    x, y = (int(value) for value in random.uniform(0.15, 0.85, 2) * size)
    radii = [int(value) for value in random.uniform(0.05, 0.2, 2) * size]
    kind = random.integers(4)
    if kind == 0:
        angle = float(random.uniform(0, 180))
        cv2.ellipse(drawn, (x, y), radii, angle, 0, 360, grey, width, cv2.LINE_AA)
    elif kind == 1:
        end = tuple(int(value) for value in np.array([x, y]) + random.uniform(-0.2, 0.2, 2) * size)
        cv2.arrowedLine(drawn, end, (x, y), grey, width, cv2.LINE_AA, tipLength=0.3)
    elif kind == 2:
        text = "".join(random.choice(list("ABDHLRT0123456789"), 3))
        cv2.putText(drawn, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size / 400, grey, 1, cv2.LINE_AA)
    else:
        cv2.rectangle(drawn, (x, y), (x + radii[0], y + radii[1]), grey, -1)
    return drawn
