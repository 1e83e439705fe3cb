"""Draws the page's sample slices into the ICBM 152 template; see static/samples/README.txt.

    python -m deploy.draw_samples mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz

The template is an average healthy brain without a skull. A skull and a scalp are drawn around it,
and something that looks like a tumour is drawn into two of the slices.
"""

import argparse
from pathlib import Path

import cv2
import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Picture = NDArray[np.float32]  # shape (256, 256), 0 to 1

_SIDE = 256
_SAMPLES = Path(__file__).parent.parent / "static" / "samples"


def draw_head(brain: Picture) -> Picture:
    """Put a slice of a brain, shape (rows, columns), into a skull and a scalp."""
    head: Picture = np.zeros((_SIDE, _SIDE), np.float32)
    top, left = (_SIDE - brain.shape[0]) // 2, (_SIDE - brain.shape[1]) // 2
    head[top : top + brain.shape[0], left : left + brain.shape[1]] = 0.72 * brain
    tissue = (head > 0.05).astype(np.uint8)
    whole = cv2.morphologyEx(tissue, cv2.MORPH_CLOSE, _disc(15))
    fluid = cv2.dilate(whole, _disc(3)) - whole
    scalp = cv2.dilate(whole, _disc(14)) - cv2.dilate(whole, _disc(7))
    for layer, brightness in ((fluid, 0.12), (scalp, 0.6)):
        head += cv2.GaussianBlur(brightness * layer.astype(np.float32), (0, 0), 1.1)
    return head


def draw_blob(
    centre: tuple[int, int], radii: tuple[int, int], degrees: float, wobble: float, seed: int
) -> Picture:
    """Give each pixel's distance from a centre, in radii of an ellipse with an uneven edge."""
    rows, columns = np.mgrid[:_SIDE, :_SIDE].astype(np.float32)
    x, y, angle = columns - centre[0], rows - centre[1], np.deg2rad(degrees)
    along = (x * np.cos(angle) + y * np.sin(angle)) / radii[0]
    across = (y * np.cos(angle) - x * np.sin(angle)) / radii[1]
    noise = np.random.default_rng(seed).normal(size=(9, 9)).astype(np.float32)
    restless = wobble * cv2.resize(noise, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.hypot(along, across) + restless, np.float32)


def cover(distance: Picture, edge: float, softness: float) -> Picture:
    """Give 1 within a distance and 0 beyond, with a soft edge."""
    return np.asarray(expit((edge - distance) / softness), np.float32)


def draw_bright_mass(head: Picture) -> Picture:
    """Draw an even, bright mass at the skull, like a meningioma with contrast agent."""
    mass = cover(draw_blob((178, 100), (27, 23), 75, 0.06, 3), 1, 0.05)
    swelling = cover(draw_blob((174, 100), (38, 32), 75, 0.1, 9), 1, 0.15)
    return np.asarray(head * (1 - 0.25 * swelling) * (1 - mass) + 0.88 * mass, np.float32)


def draw_ring(head: Picture) -> Picture:
    """Draw a ring around a dark core in the brain, like a glioblastoma with contrast agent."""
    distance = draw_blob((92, 118), (36, 31), 30, 0.16, 1)
    core = cover(distance, 0.8, 0.1)
    ring = cover(distance, 1, 0.05) - core
    swelling = cover(draw_blob((96, 120), (56, 46), 30, 0.2, 7), 1, 0.15)
    drawn = head * (1 - 0.3 * swelling) * (1 - core) * (1 - ring) + 0.25 * core + 0.92 * ring
    return np.asarray(drawn, np.float32)


def _disc(radius: int) -> NDArray[np.uint8]:
    side = 2 * radius + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def main() -> None:
    """Draw the four slices."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("template", type=Path)
    volume = nibabel.Nifti1Image.from_filename(parser.parse_args().template).get_fdata(
        dtype=np.float32
    )
    volume /= volume.max()

    def head(height: int) -> Picture:
        return draw_head(volume[:, :, height].T[::-1])

    slices = (draw_bright_mass(head(102)), head(95), draw_ring(head(92)), head(72))
    for number, picture in enumerate(slices, start=1):
        grain = np.random.default_rng(number).normal(0, 0.012, picture.shape)
        grey = np.rint((picture + grain).clip(0, 1) * 255).astype(np.uint8)
        quality = [cv2.IMWRITE_WEBP_QUALITY, 85]
        cv2.imwrite(str(_SAMPLES / f"slice-{number}.webp"), grey, quality)


if __name__ == "__main__":
    main()
