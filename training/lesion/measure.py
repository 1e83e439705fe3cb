"""How well maps point at tumours whose outline is known."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from brainscan.bundle import LesionMap, Pointing
from brainscan.lesion import draw_region
from training.data.outlines import Outline, draw_mask

_TISSUE = 30  # brighter is part of the head


def measure_pointing(
    maps: NDArray[np.float32],
    pixels: NDArray[np.uint8],
    outlines: Sequence[Outline | None],
    limits: LesionMap | None = None,
    seen: NDArray[np.bool_] | None = None,
) -> Pointing | None:
    """Measure how well maps point at tumours.

    Args:
        maps: float32, shape (scans, rows, columns), 0 to 1.
        pixels: uint8, shape (scans, size, size, 1): the scans that they are of.
        outlines: of each scan; empty where there is no tumour, None where nobody knows.
        limits: when a map marks a region; None for a map that marks none.
        seen: bool, shape (scans,): whether the answer is a tumour; in other scans nothing is
            marked. None where all are.

    Returns:
        The figures; None where no scan has an outline.
    """
    outlined = [row for row, outline in enumerate(outlines) if outline]
    if not outlined:
        return None
    size = pixels.shape[1]
    marking = maps if seen is None else maps * seen[:, np.newaxis, np.newaxis]
    figures = []
    for row in outlined:
        mask = draw_mask(outlines[row] or (), size) > 0
        head = pixels[row, ..., 0] > _TISSUE
        fine = cv2.resize(maps[row], (size, size), interpolation=cv2.INTER_LINEAR)
        peak = np.unravel_index(int(fine.argmax()), fine.shape)
        middle = (
            tuple(np.argwhere(head).mean(axis=0).astype(int)) if head.any() else (size // 2,) * 2
        )
        figures.append(
            (
                mask[peak],
                fine[mask].sum() / max(float(fine.sum()), 1e-9),
                _measure_dice(mask, marking[row], limits) if limits else 0.0,
                mask[middle],
                (mask & head).sum() / max(1, int(head.sum())),
            )
        )
    peak_inside, energy, dice, centre, random = np.mean(figures, axis=0).tolist()
    blank = marking[[row for row, outline in enumerate(outlines) if outline == ()]]
    return Pointing(
        peak=peak_inside,
        energy=energy,
        dice=dice if limits else None,
        centre=centre,
        random=random,
        marked_healthy=(
            float((blank.max(axis=(1, 2)) >= limits.marked_from).mean())
            if limits and len(blank)
            else None
        ),
        scans=len(outlined),
    )


def _measure_dice(mask: NDArray[np.bool_], values: NDArray[np.float32], limits: LesionMap) -> float:
    """Give twice the shared area over the sum of both; a map that marks nothing shares none."""
    if not values.max() >= limits.marked_from:
        return 0.0
    region = draw_region(values, limits, mask.shape[0]) > 0
    return float(2 * (region & mask).sum() / max(1, int(region.sum()) + int(mask.sum())))
