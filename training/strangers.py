"""Scans as scanners and viewers that no training scan comes from might show them."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_Image = NDArray[Any]  # float32, shape (size, size), about 0 to 1
_Random = np.random.Generator


def vary_scan(random: _Random, scan: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Show a scan in another frame, turned, without a skull, in other contrast, sharpness, noise.

    Each by chance; nothing makes it another picture than an MRI slice of a head.

    Args:
        random: draws.
        scan: uint8, shape (size, size, 1), 0 to 255.
    """
    image: _Image = scan[..., 0].astype(np.float32) / np.float32(255)
    for chance, change in _CHANGES:
        if random.random() < chance:
            image = change(random, image)
    pixels: NDArray[np.uint8] = (np.clip(image, 0, 1) * 255).astype(np.uint8)
    return pixels[..., np.newaxis]


def _resize(image: _Image, size: int) -> _Image:
    return np.asarray(cv2.resize(image, (size, size)), np.float32)


def _crop(random: _Random, image: _Image) -> _Image:
    side = len(image)
    kept = int(side * random.uniform(0.5, 1))
    top, left = random.integers(0, side - kept + 1, 2)
    return _resize(image[top : top + kept, left : left + kept], side)


def _frame(random: _Random, image: _Image) -> _Image:
    left, right, top, bottom = random.integers(0, len(image) // 5 + 1, 4).tolist()
    framed = np.pad(image, ((top, bottom), (left, right)))
    return _resize(np.asarray(framed, np.float32), len(image))


def _turn(random: _Random, image: _Image) -> _Image:
    side = len(image)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), random.uniform(-25, 25), 1)
    return np.asarray(cv2.warpAffine(image, turn, (side, side)), np.float32)


def _strip_skull(random: _Random, image: _Image) -> _Image:
    """Keep an oval of the middle, as a tool that takes the skull away leaves the brain."""
    side = len(image)
    across, down = random.uniform(0.6, 0.95, 2)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    inside = ((x / across) ** 2 + (y / down) ** 2 < 1).astype(np.float32)
    brain: _Image = image * cv2.GaussianBlur(inside, (0, 0), 1)
    if random.random() < 0.3:
        return brain
    top, left = int(side * (1 - down) / 2), int(side * (1 - across) / 2)
    return _resize(brain[top : side - top, left : side - left], side)


def _change_contrast(random: _Random, image: _Image) -> _Image:
    return np.asarray(image ** np.exp(random.normal(0, 0.35)), np.float32)


def _shade(random: _Random, image: _Image) -> _Image:
    """Let a coil be nearer to one side."""
    coarse = random.normal(0, 0.25, (3, 3)).astype(np.float32)
    field = cv2.resize(coarse, image.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(image * np.exp(field), np.float32)


def _change_sharpness(random: _Random, image: _Image) -> _Image:
    side = len(image)
    match random.integers(3):
        case 0:
            return np.asarray(cv2.GaussianBlur(image, (0, 0), random.uniform(0.4, 1.6)))
        case 1:
            soft = cv2.GaussianBlur(image, (0, 0), 1.5)
            return np.asarray(image + random.uniform(0.2, 1) * (image - soft), np.float32)
        case _:
            coarse = int(side * random.uniform(0.35, 0.8))
            small = cv2.resize(image, (coarse, coarse), interpolation=cv2.INTER_AREA)
            return _resize(np.asarray(small), side)


def _add_noise(random: _Random, image: _Image) -> _Image:
    noise = random.normal(0, random.uniform(0.005, 0.05), image.shape)
    where = image > 0.02 if random.random() < 0.5 else True
    return np.asarray(image + noise * where, np.float32)


def _change_brightness(random: _Random, image: _Image) -> _Image:
    return np.asarray(
        np.clip(image, 0, 1) * random.uniform(0.6, 1.2) + random.uniform(-0.03, 0.05), np.float32
    )


_CHANGES = (
    (0.25, _crop),
    (0.25, _frame),
    (0.5, _turn),
    (0.35, _strip_skull),
    (0.9, _change_contrast),
    (0.3, _shade),
    (0.6, _change_sharpness),
    (0.4, _add_noise),
    (0.6, _change_brightness),
)
