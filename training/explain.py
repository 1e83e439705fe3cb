"""Whether a model's maps show what its answers come from: the scans are changed, and it is asked.

Deletion and insertion after Petsiuk et al. (RISE, 2018), the check with randomised weights after
Adebayo et al. (2018). Their figures mean little alone: each stands next to that of a map that knows
nothing of the scan.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from brainscan.bundle import Card, CurveAreas, Faithfulness
from brainscan.counterfactual import replace_region
from brainscan.scan import Picture
from brainscan.verdict import judge

# Scans, uint8 (scans, size, size, 1) → probabilities, float32 (scans, classes).
Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

_STEPS = 20
_BLUR = 1 / 12  # deviation, as a share of the scan: of a head, only its shape is left


def measure_faithfulness(
    predict: Predict,
    pixels: NDArray[np.uint8],
    maps: NDArray[np.float32],
    unlearned: NDArray[np.float32],
) -> Faithfulness:
    """Measure maps next to the middle of the head, to chance, and to what was not learned.

    Args:
        predict: the model.
        pixels: uint8, shape (scans, size, size, 1): test scans with a tumour.
        maps: float32, shape (scans, rows, columns): the model's, of these scans.
        unlearned: likewise, of the same network with `shuffle_weights`.
    """
    return Faithfulness(
        map=measure_areas(predict, pixels, maps),
        centre=measure_areas(predict, pixels, draw_centre_maps(maps.shape)),
        random=measure_areas(predict, pixels, shuffle_maps(maps)),
        unlearned=compare_maps(maps, unlearned),
        scans=len(pixels),
    )


def measure_areas(
    predict: Predict, pixels: NDArray[np.uint8], maps: NDArray[np.float32]
) -> CurveAreas:
    """Measure how confidence falls when what a map marks is blurred, and rises when it returns.

    The confidence is that in the most probable class of the unchanged scan.

    Args:
        predict: the model.
        pixels: uint8, shape (scans, size, size, 1), at least one.
        maps: float32, shape (scans, rows, columns), of any range.
    """
    answers = predict(pixels).argmax(axis=1)
    blurred = np.stack([_blur(scan) for scan in pixels])
    ranks = _rank_pixels(maps, pixels.shape[1])

    def measure(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
        confidence = []
        for share in np.linspace(0, 1, _STEPS + 1):
            changed = np.where(ranks < share, after, before)
            confidence.append(predict(changed)[np.arange(len(answers)), answers].mean())
        return float(np.trapezoid(confidence, dx=1 / _STEPS))

    return CurveAreas(deletion=measure(pixels, blurred), insertion=measure(blurred, pixels))


def draw_centre_maps(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Draw maps that are highest in the middle, whatever the scan: float32, of that shape."""
    _, rows, columns = shape
    down, across = np.linspace(-1, 1, rows), np.linspace(-1, 1, columns)
    one = -np.hypot(down[:, np.newaxis], across)
    return np.broadcast_to(one.astype(np.float32), shape)


def shuffle_maps(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give maps of the same values in other places: (scans, rows, columns)."""
    cells = maps.reshape(len(maps), -1)
    return np.random.default_rng(0).permuted(cells, axis=1).reshape(maps.shape)


def shuffle_weights(weights: Sequence[NDArray[np.floating]]) -> list[NDArray[np.floating]]:
    """Shuffle the values within each array of weights, so that what was learned is lost.

    Their distribution stays, so the network still answers, and its maps are of the same kind:
    `model.set_weights(shuffle_weights(model.get_weights()))`.
    """
    random = np.random.default_rng(0)
    return [random.permutation(values.ravel()).reshape(values.shape) for values in weights]


def compare_maps(maps: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    """Give the mean rank correlation of maps of the same scans, -1 to 1.

    A map of one value has no order: it counts as 0.
    """
    found = [
        spearmanr(one, other, axis=None).statistic if np.ptp(one) and np.ptp(other) else 0.0
        for one, other in zip(maps, others, strict=True)
    ]
    return float(np.mean(found))


def measure_flips(
    predict: Predict, card: Card, pixels: NDArray[np.uint8], regions: NDArray[np.uint8]
) -> float | None:
    """Measure how often a model sees no tumour once the marked region is replaced by other tissue.

    Args:
        predict: the model.
        card: its classes, and how its probabilities become a verdict.
        pixels: uint8, shape (scans, size, size, 1): test scans with a tumour.
        regions: uint8, shape (scans, size, size), 0 or 1: what it marks in them, as
            `brainscan.lesion.draw_region` gives it; blank where it marks nothing.

    Returns:
        The share, 0 to 1, of the scans in which it sees a tumour and marks a region that can be
        replaced; None without such scans.
    """
    changed = [
        replace_region(Picture(scan[..., 0]), region)
        for scan, region, verdict in zip(
            pixels, regions, _judge(predict, card, pixels), strict=True
        )
        if verdict != "no-tumor"
    ]
    without = [picture.grey for picture in changed if picture is not None]
    if not without:
        return None
    return _judge(predict, card, np.stack(without)[..., np.newaxis]).count("no-tumor") / len(
        without
    )


def _judge(predict: Predict, card: Card, pixels: NDArray[np.uint8]) -> list[str]:
    rows = predict(pixels).tolist()
    return [judge(card, dict(zip(card.classes, row, strict=True))).verdict for row in rows]


def _blur(scan: NDArray[np.uint8]) -> NDArray[np.uint8]:
    deviation = _BLUR * scan.shape[0]
    return np.asarray(cv2.GaussianBlur(scan, (0, 0), deviation), np.uint8).reshape(scan.shape)


def _rank_pixels(maps: NDArray[np.float32], size: int) -> NDArray[np.float64]:
    """Give the rank of each pixel of a scan, 0 for the highest to just below 1."""
    fine = np.stack([cv2.resize(one, (size, size), interpolation=cv2.INTER_LINEAR) for one in maps])
    order = (-fine.reshape(len(maps), -1)).argsort(axis=1, kind="stable").argsort(axis=1)
    return (order / size**2).reshape(-1, size, size, 1)
