"""The steps from a scan to its prediction, each as a picture and figures that a page can show.

They are those of serving itself: what is shown is what the prediction came from.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainscan.scan import Picture
from tumorapp.pages.layers import Layer, choose_channels
from tumorapp.pictures import link_picture, write_points

MOST_MAPS = 8


@dataclass(frozen=True)
class Tracing:
    """How the head was found; points are columns and rows in pixels of the scan.

    Attributes:
        mask: a picture as a data URI.
        searched: width and height of the copy that was searched.
        threshold: 0 to 255.
        points: how many the contour has; 0 if no contour was found.
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

    number: int
    count: int
    channels: int
    rows: int
    columns: int
    maps: list[tuple[int, str]]
    decoder: bool


def show_tracing(picture: Picture) -> Tracing:
    """Show how the head was found in a picture."""
    outline = picture.outline
    rows, columns = outline.mask.shape
    width, height = picture.size
    found = np.empty((0, 2)) if outline.contour is None else outline.contour[:, 0]
    points = (found + 0.5) * [width / columns, height / rows]  # from the middles of its pixels
    return Tracing(
        mask=link_picture(outline.mask),
        searched=(columns, rows),
        threshold=outline.threshold,
        points=len(points),
        contour=write_points(points),
        extremes=_find_extremes(points) if len(points) else {},
        found=outline.box is not None,
    )


def show_layer(layer: Layer) -> ShownLayer:
    """Show the maps of a layer that vary most over the scan."""
    chosen = choose_channels(layer.maps, MOST_MAPS)
    maps = [(channel + 1, link_picture(_stretch(layer.maps[channel]))) for channel in chosen]
    channels, rows, columns = layer.maps.shape
    return ShownLayer(layer.number, layer.count, channels, rows, columns, maps, layer.decoder)


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


def _stretch(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Draw a map's smallest value black and its largest white; an even one is black."""
    values = np.nan_to_num(values)
    low, high = float(values.min()), float(values.max())
    scale = 255 / (high - low) if high > low else 0.0
    return np.asarray(np.rint((values - low) * scale), np.uint8)
