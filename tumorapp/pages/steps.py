"""The steps from a scan to its prediction, each as a picture and figures that a page can show.

They are those of serving itself: what is shown is what the prediction came from.
"""

import base64
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from brainscan import Examination, ImageFile, Model
from brainscan.scan import Box, Picture
from tumorapp.pages.layers import FeatureMaps, Layer, LayerReader, LayersError, choose_channels

PICTURE_SIDE = 640
MOST_MAPS = 8
_QUALITY = 85
_LOSSLESS = 101  # OpenCV's word for it: any above 100


@dataclass(frozen=True)
class Tracing:
    """How the head was found; points are columns and rows in pixels of the scan.

    Attributes:
        mask: a picture as a data URI.
        searched: width and height of the copy that was searched.
        threshold: 0 to 255.
        points: how many the contour has; 0 where there is none.
        contour: the points, as SVG writes them.
        extremes: the outermost of them, by side.
        found: whether the box between them was used.
    """

    mask: str
    searched: tuple[int, int]
    threshold: float
    points: int
    contour: str
    extremes: dict[str, tuple[int, int]]
    found: bool


@dataclass(frozen=True)
class ShownLayer:
    """A layer, and its maps that vary most: the number of each, from 1, and a data URI."""

    layer: Layer
    maps: list[tuple[int, str]]


@dataclass(frozen=True)
class ShownLayers:
    """Some layers of a network, and how many convolutions and poolings it has."""

    convolutions: int
    poolings: int
    layers: list[ShownLayer]


@dataclass(frozen=True)
class Steps:
    """Every step of a prediction.

    Attributes:
        examination: what it came to.
        picture: the scan as a data URI, its longest side at most 640 pixels.
        whole: width and height of the scan, in pixels.
        tracing: how the head was found; None where the model takes the whole scan.
        box: the part of the scan that was kept.
        pixels: what the model got, as a data URI.
        layers: what the layers saw; None where that cannot be shown.
        cells: rows and columns of the heat map; None where there is none.
        heatmap: a PNG to lay over the scan, as a data URI.
    """

    examination: Examination
    picture: str
    whole: tuple[int, int]
    tracing: Tracing | None
    box: Box
    pixels: str
    layers: ShownLayers | None
    cells: tuple[int, int] | None
    heatmap: str | None


def show_steps(model: Model, file: ImageFile, reader: LayerReader | None, max_pixels: int) -> Steps:
    """Predict a scan and keep every step.

    Args:
        model: the one that predicts.
        file: the scan's.
        reader: of the model's layers; None where they cannot be shown.
        max_pixels: the largest scan accepted.

    Raises:
        ScanError: the file is not a scan.
    """
    reading = model.read(file, max_pixels=max_pixels, keep_picture=True)
    [found] = model.conclude([reading])
    return Steps(
        examination=found,
        picture=_write_small(found.picture.grey),
        whole=found.scan.whole,
        tracing=_trace(found.picture) if model.card.scan.crop else None,
        box=found.scan.box,
        pixels=_write_exactly(found.scan.pixels),
        layers=_show_layers(reader, found.scan.pixels) if reader else None,
        cells=None if found.heat is None else (found.heat.shape[0], found.heat.shape[1]),
        heatmap=_link("png", found.heatmap) if found.heatmap else None,
    )


def _trace(picture: Picture) -> Tracing:
    outline = picture.outline
    rows, columns = outline.mask.shape
    width, height = picture.size
    found = (
        np.empty((0, 2)) if outline.contour is None else outline.contour[:, 0].astype(np.float64)
    )
    points = (found + 0.5) * [width / columns, height / rows]  # from the middles of its pixels
    return Tracing(
        mask=_write_exactly(outline.mask),
        searched=(columns, rows),
        threshold=outline.threshold,
        points=len(points),
        contour=" ".join(f"{column:.1f},{row:.1f}" for column, row in points),
        extremes=_find_extremes(points) if len(points) else {},
        found=outline.box is not None,
    )


def _find_extremes(points: NDArray[np.float64]) -> dict[str, tuple[int, int]]:
    """Find the outermost of some points, shape (points, 2): their columns and rows, by side."""
    across, down = points[:, 0], points[:, 1]
    places = {
        "left": across.argmin(),
        "right": across.argmax(),
        "top": down.argmin(),
        "bottom": down.argmax(),
    }
    return {side: (int(across[place]), int(down[place])) for side, place in places.items()}


def _show_layers(reader: LayerReader, pixels: NDArray[np.uint8]) -> ShownLayers | None:
    try:
        seen = reader.read(pixels)
    except LayersError:
        return None
    return ShownLayers(reader.convolutions, reader.poolings, [_show_layer(one) for one in seen])


def _show_layer(seen: FeatureMaps) -> ShownLayer:
    chosen = choose_channels(seen.maps, MOST_MAPS)
    return ShownLayer(
        seen.layer,
        [(channel + 1, _write_exactly(_stretch(seen.maps[channel]))) for channel in chosen],
    )


def _stretch(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Draw a map's smallest value black and its largest white; an even one is black."""
    values = np.nan_to_num(values)
    low, high = float(values.min()), float(values.max())
    scale = 255 / (high - low) if high > low else 0.0
    return np.asarray(np.rint((values - low) * scale), np.uint8)


def _write_small(grey: NDArray[np.uint8]) -> str:
    height, width = grey.shape
    scale = min(1.0, PICTURE_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return _write_webp(np.asarray(small, np.uint8), _QUALITY)


def _write_exactly(picture: NDArray[np.uint8]) -> str:
    return _write_webp(picture, _LOSSLESS)


def _write_webp(picture: NDArray[np.uint8], quality: int) -> str:
    """Give a picture as a data URI; WebP makes the page a third smaller than JPEG and PNG."""
    data = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
    return _link("webp", data)


def _link(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
