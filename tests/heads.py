"""Volumes of heads that are drawn, with a bright spot that wanders from slice to slice."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tests.conftest import draw_head
from tests.volumes import write_nifti, write_slices

SPOTS = (0.35, 0.45, 0.55, 0.65)  # how far from the left: one for each slice


def draw_slices(spots: Sequence[float] = SPOTS) -> list[NDArray[np.uint8]]:
    """Draw a slice for each spot: uint8, shape (110, 100)."""
    return [np.asarray(draw_head(100, 110, spot)) for spot in spots]


def write_volume(spots: Sequence[float] = SPOTS) -> bytes:
    """Write them as a NIfTI file, 2 mm apart and the way up that they were drawn."""
    voxels = np.stack([drawn.T for drawn in draw_slices(spots)], axis=-1)
    return write_nifti(voxels, np.diag([-1.0, -1.0, 2.0, 1.0]))


def write_series(spots: Sequence[float] = SPOTS) -> list[tuple[str, bytes]]:
    """Write them as the files of a DICOM series, the last slice first."""
    pixels = [drawn.astype(np.uint16) * 10 for drawn in draw_slices(spots)]
    files = write_slices(range(0, 2 * len(pixels), 2), pixels=pixels, PixelSpacing=[1, 1])
    return [(f"{index}.dcm", data) for index, data in enumerate(files)][::-1]
