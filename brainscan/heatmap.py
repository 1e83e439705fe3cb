"""A model's coarse heat map → a transparent picture to lay over the scan it came from."""

import cv2
import numpy as np
from numpy.typing import NDArray

from brainscan.scan import Box

# A map has some ten cells on a side: more pixels hold nothing more, and cost most of its time.
# Whatever shows it draws it larger, and smoothly.
LONGEST_SIDE = 128
COLD = 0.15
STRONGEST_COVER = 0.65


def render_heatmap(heat: NDArray[np.float32], box: Box, whole: tuple[int, int]) -> bytes:
    """Draw a heat map where it belongs on the whole scan.

    Args:
        heat: float32, shape (rows, columns), 0 to 1, of the part of the scan that the model saw.
        box: that part, in pixels of the whole scan.
        whole: width and height of the whole scan, the right way up.

    Returns:
        A PNG with transparency and the scan's proportions, longest side at most 128 pixels: clear
        where it is cold or outside the box, and the more covering the hotter it is.
    """
    width, height = whole
    scale = min(1.0, LONGEST_SIDE / max(width, height))
    canvas = np.zeros((max(1, round(height * scale)), max(1, round(width * scale)), 4), np.uint8)
    left, right = _span(box.left, box.right, scale, canvas.shape[1])
    top, bottom = _span(box.top, box.bottom, scale, canvas.shape[0])
    warm = cv2.resize(heat, (right - left, bottom - top), interpolation=cv2.INTER_CUBIC)
    warm = np.nan_to_num(warm).clip(0.0, 1.0)
    levels = np.rint(warm * 255).astype(np.uint8)
    place = canvas[top:bottom, left:right]
    place[..., :3] = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)
    cover = ((warm - COLD) / (1.0 - COLD)).clip(0.0, 1.0) * STRONGEST_COVER
    place[..., 3] = np.rint(cover * 255)
    place[place[..., 3] == 0] = 0  # clear pixels of one colour pack better
    return bytes(cv2.imencode(".png", canvas)[1])


def lay_over(grey: NDArray[np.uint8], heatmap: bytes) -> NDArray[np.uint8]:
    """Lay a heat map over its scan.

    Args:
        grey: uint8, shape (height, width): the whole scan.
        heatmap: the PNG that `render_heatmap` drew for it.

    Returns:
        uint8, shape (height, width, 3), in BGR.
    """
    heat = np.asarray(cv2.imdecode(np.frombuffer(heatmap, np.uint8), cv2.IMREAD_UNCHANGED))
    heat = cv2.resize(heat, grey.shape[::-1], interpolation=cv2.INTER_LINEAR)
    cover = heat[..., 3:] / np.float32(255)
    picture = grey[..., np.newaxis] * (1 - cover) + heat[..., :3] * cover
    return np.asarray(np.rint(picture), np.uint8)


def _span(start: int, end: int, scale: float, length: int) -> tuple[int, int]:
    """Scale an interval of pixels, at least one pixel long and within (0, length)."""
    first = min(round(start * scale), length - 1)
    return first, max(first + 1, min(round(end * scale), length))
