"""Pictures as pages and reports show them."""

import base64
from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from brainscan.scan import Picture

_QUALITY = 85
_LOSSLESS = 101  # OpenCV's word for it: any above 100


def link_picture(grey: NDArray[np.uint8], longest: int | None = None) -> str:
    """Write a picture as a data URI.

    WebP makes a page a third smaller than PNG and JPEG do.

    Args:
        grey: uint8, shape (height, width).
        longest: shrink it to this, at some loss; None keeps every pixel exactly.
    """
    quality = _LOSSLESS
    if longest is not None:
        grey, quality = Picture(grey).shrink(longest).grey, _QUALITY
    data = cv2.imencode(".webp", grey, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
    return _link("webp", data)


def link_jpeg(grey: NDArray[np.uint8]) -> str:
    """Write a picture, uint8 of shape (height, width), as a data URI, at some loss.

    WebP makes one of many a third smaller, and takes thirty times as long.
    """
    return _link(
        "jpeg", cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
    )


def link_png(data: bytes) -> str:
    """Write a PNG as a data URI."""
    return _link("png", data)


def write_points(points: Iterable[tuple[float, float]], size: tuple[float, float] = (1, 1)) -> str:
    """Write points as SVG does: "12.5,40.0 13.0,41.5".

    Args:
        points: x and y.
        size: what each is multiplied by, such as width and height where points are shares of them.
    """
    width, height = size
    return " ".join(f"{x * width:.1f},{y * height:.1f}" for x, y in points)


def _link(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
