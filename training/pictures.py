"""Pictures that are not MRI slices of a head, so that a model can learn to refuse them."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images

Picture = NDArray[np.uint8]
_Random = np.random.Generator

_LETTERS = np.array(list("abcdefghijklmnoprstuvwxyz ABCDEF 0123456789 .,:-/"))


def draw_pictures(count: int, seed: int) -> Iterator[tuple[str, Picture]]:
    """Draw pictures of every kind by turns.

    Args:
        count: how many.
        seed: of all that is drawn by chance.

    Yields:
        The kind, such as "photograph", and the picture: uint8, shape (rows, columns) or (rows,
        columns, 3), 64 to 300 pixels wide and high.
    """
    random = np.random.default_rng(seed)
    kinds = list(_KINDS.items())
    for number in range(count):
        kind, draw = kinds[number % len(kinds)]
        rows, columns = random.integers(64, 301, 2).tolist()
        yield kind, np.clip(draw(random, rows, columns), 0, 255).astype(np.uint8)


def draw_montages(
    scans: Sequence[Picture] | NDArray[np.uint8], count: int, seed: int
) -> Iterator[Picture]:
    """Put scans, uint8 (rows, columns) and all of one size, next to each other: 2 × 2 to 4 × 4."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        down, across = random.integers(2, 5, 2).tolist()
        drawn = random.integers(0, len(scans), (down, across))
        yield np.block([[np.squeeze(scans[one]) for one in row] for row in drawn])


def _photograph(random: _Random, rows: int, columns: int) -> NDArray[Any]:
    """Cut a piece out of one of scikit-learn's photographs, in colour or grey."""
    images = _load_photographs()
    whole = images[random.integers(len(images))]
    share = random.uniform(0.15, 1)
    high, wide = (max(32, int(side * share)) for side in whole.shape[:2])
    top, left = (
        random.integers(0, side - kept + 1)
        for side, kept in zip(whole.shape[:2], (high, wide), strict=True)
    )
    piece = cv2.resize(whole[top : top + high, left : left + wide], (columns, rows))
    piece = piece[:, :: random.choice([1, -1])]
    if random.random() < 0.5:
        piece = cv2.cvtColor(np.ascontiguousarray(piece), cv2.COLOR_RGB2GRAY)
    if random.random() < 0.3:
        piece = _vignette(random, piece)
    return piece * random.uniform(0.6, 1.3) + random.uniform(-30, 30)


@cache
def _load_photographs() -> list[Picture]:
    """Decode the two photographs once, and not for each of the pieces."""
    images: list[Picture] = load_sample_images().images
    return images


def _vignette(random: _Random, picture: NDArray[Any]) -> NDArray[Any]:
    """Show a picture through an oval on black, as a scan shows a head."""
    oval = _ellipse(random, *picture.shape[:2])
    return picture * (oval[..., np.newaxis] if picture.ndim == 3 else oval)


def _ellipse(random: _Random, rows: int, columns: int) -> NDArray[np.float64]:
    """Draw an oval of 1 on 0, float64 (rows, columns)."""
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    x, y = (axis - random.uniform(-0.25, 0.25) for axis in (x, y))
    across, down = random.uniform(0.3, 0.95, 2)
    oval: NDArray[np.float64] = ((x / across) ** 2 + (y / down) ** 2 < 1).astype(float)
    return oval


def _noise(random: _Random, rows: int, columns: int) -> NDArray[Any]:
    """Draw noise between white and as smooth as clouds, on all of the picture or within an oval."""
    y, x = np.meshgrid(np.fft.fftfreq(rows), np.fft.rfftfreq(columns), indexing="ij")
    falling = np.maximum(np.hypot(x, y), 1 / max(rows, columns)) ** -random.choice([0, 0.5, 1, 1.5])
    noise = np.fft.irfft2(
        np.fft.rfft2(random.normal(size=(rows, columns))) * falling, (rows, columns)
    )
    picture = 127 + random.uniform(30, 80) * noise / noise.std()
    return _vignette(random, picture) if random.random() < 0.4 else picture


def _gradient(random: _Random, rows: int, columns: int) -> NDArray[Any]:
    """Draw a ramp, straight or round, once or in bands."""
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    angle = random.uniform(0, 2 * np.pi)
    round_one = random.random() < 0.5
    ramp = np.hypot(x, y) if round_one else x * np.cos(angle) + y * np.sin(angle)
    bands = random.choice([1, 2, 5, 12])
    shape: NDArray[Any] = 0.5 + 0.5 * np.sin(ramp * bands * np.pi / 2 + random.uniform(0, 6))
    return shape * random.uniform(80, 255)


def _disc(random: _Random, rows: int, columns: int) -> NDArray[Any]:
    """Draw a disc, or a ring with another disc in it, plain or soft."""
    picture: NDArray[Any] = _ellipse(random, rows, columns) * random.uniform(60, 255)
    for _ in range(random.integers(0, 3)):
        inner = _ellipse(random, rows, columns)
        picture = np.where((inner > 0) & (picture > 0), random.uniform(0, 255), picture)
    if random.random() < 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), random.uniform(1, 8))
    return picture + random.normal(0, random.choice([0, 4, 12]), picture.shape)


def _drawing(random: _Random, rows: int, columns: int) -> NDArray[Any]:
    """Draw lines, boxes, polygons and circles, such as a diagram or a plot has."""
    paper, ink = (255, 0) if random.random() < 0.6 else (0, 255)
    picture = np.full((rows, columns, 3), paper, np.uint8)
    for _ in range(random.integers(3, 25)):
        (x1, x2), (y1, y2) = (random.integers(0, side, 2).tolist() for side in (columns, rows))
        free = random.integers(0, 256, 3).tolist()
        colour = (ink,) * 3 if random.random() < 0.6 else free
        width = int(random.integers(1, 5))
        match random.integers(4):
            case 0:
                cv2.line(picture, (x1, y1), (x2, y2), colour, width)
            case 1:
                cv2.rectangle(picture, (x1, y1), (x2, y2), colour, random.choice([width, -1]))
            case 2:
                radius = int(random.integers(3, min(rows, columns) // 3))
                cv2.circle(picture, (x1, y1), radius, colour, random.choice([width, -1]))
            case _:
                corners = random.integers(0, (columns, rows), (random.integers(3, 7), 2))
                cv2.polylines(picture, [corners.astype(np.int32)], True, colour, width)
    return picture


def _text(random: _Random, rows: int, columns: int) -> NDArray[Any]:
    """Write lines of letters, dark on light or light on dark."""
    paper, ink = (255, 0) if random.random() < 0.7 else (0, 230)
    picture = np.full((rows, columns), paper, np.uint8)
    scale = random.uniform(0.3, 1.2)
    for line in range(int(rows / (30 * scale)) + 1):
        words = "".join(random.choice(_LETTERS, random.integers(5, 40)))
        place = (int(random.integers(0, 20)), int((line + 0.8) * 30 * scale))
        cv2.putText(picture, words, place, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, 1, cv2.LINE_AA)
    return picture


def _pattern(random: _Random, rows: int, columns: int) -> NDArray[Any]:
    """Draw a checkerboard, stripes or bricks."""
    y, x = np.mgrid[:rows, :columns]
    width, height = random.integers(3, 40, 2)
    style = random.integers(3)
    cells = (x // width) + (y // height if style else 0)
    if style == 2:
        return np.where((x % width == 0) | (y % height == 0), 20, random.uniform(90, 250))
    return np.where(cells % 2, random.uniform(0, 90), random.uniform(120, 255))


_KINDS: dict[str, Callable[[_Random, int, int], NDArray[Any]]] = {
    "photograph": _photograph,
    "noise": _noise,
    "gradient": _gradient,
    "disc": _disc,
    "drawing": _drawing,
    "text": _text,
    "pattern": _pattern,
}
