"""How it works: every step from a scan to its prediction, shown on the visitor's own scan.

The steps are those of serving itself: what is shown here is what the prediction came from.
"""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from flask import Blueprint, current_app, render_template, request
from flask.typing import ResponseReturnValue
from numpy.typing import NDArray
from werkzeug.exceptions import HTTPException

from training.bundle import Card
from training.scan import Box, Outline, PreparedScan, decode_scan, trace_head
from tumorapp.catalog import Catalog, LoadedModel
from tumorapp.errors import IMAGE_TYPES, MissingImageError, ProblemError, describe, wants_page
from tumorapp.inference import Prediction, Upload, examine_scans
from tumorapp.layers import (
    FeatureMaps,
    Layer,
    LayerReader,
    LayerReaders,
    LayersError,
    choose_channels,
)
from tumorapp.schemas import Options, read_options
from tumorapp.uploads import FORM_OVERHEAD, read_uploads

PICTURE_SIDE = 640
MOST_MAPS = 8
_JPEG_QUALITY = 88

blueprint = Blueprint("how", __name__)


@dataclass(frozen=True)
class Tracing:
    """How the head was found; points are columns and rows in pixels of the scan.

    Attributes:
        mask: a PNG, as a data URI.
        searched: width and height of the copy that was searched.
        threshold: 0 to 255.
        contour: its points, as SVG's `points` has them.
        extremes: its outermost points, by side; none where there is no contour.
        cropped: whether the box between them was used.
    """

    mask: str
    searched: tuple[int, int]
    threshold: float
    contour: str
    extremes: dict[str, tuple[int, int]]
    cropped: bool


@dataclass(frozen=True)
class ShownLayer:
    """A layer, and its maps that vary most: the number of each, from 1, and a PNG as a data URI."""

    layer: Layer
    maps: list[tuple[int, str]]


@dataclass(frozen=True)
class Explanation:
    """Every step of a prediction, as the page shows it.

    Attributes:
        card: the model's.
        prediction: what it came to.
        sample: whether the scan is the page's own.
        picture: the scan as a JPEG in a data URI.
        whole: its width and height in pixels.
        tracing: how the head was found; None where the model takes the whole scan.
        box: the part that was kept.
        pixels: what the model got, a PNG as a data URI.
        network: the model's layers; None where they cannot be shown.
        layers: some of them, and what they saw.
        fault: why there are none.
        cells: rows and columns of the heat map; None where there is none.
        heatmap: a PNG to lay over the scan, as a data URI.
    """

    card: Card
    prediction: Prediction
    sample: bool
    picture: str
    whole: tuple[int, int]
    tracing: Tracing | None
    box: Box
    pixels: str
    network: LayerReader | None
    layers: list[ShownLayer]
    fault: str
    cells: tuple[int, int] | None
    heatmap: str | None


@blueprint.get("/how")
def show_sample() -> ResponseReturnValue:
    """Explain with a sample; the model may be named in the query string."""
    return _answer(None)


@blueprint.post("/how")
def show_steps() -> ResponseReturnValue:
    """Explain with the scan of a form, or with a sample where it has none."""
    try:
        return _answer(read_uploads(request, max_images=1)[0])
    except MissingImageError:
        return _answer(None)
    except (ProblemError, HTTPException) as error:
        return _refuse(error, Options())


def _answer(upload: Upload | None) -> ResponseReturnValue:
    options = Options()
    try:
        options = read_options(request.values)
        catalog: Catalog = current_app.extensions["catalog"]
        steps = explain(catalog.get(options.model), upload or draw_sample(), sample=upload is None)
    except (ProblemError, HTTPException) as error:
        return _refuse(error, options)
    return _render(options, steps=steps)


def _refuse(error: ProblemError | HTTPException, options: Options) -> ResponseReturnValue:
    """Say at the form what was wrong; who does not read HTML gets the problem itself."""
    if not wants_page(request):
        raise error
    problem = describe(error)
    return _render(options, problem=problem), problem.status


def _render(options: Options, **names: Any) -> str:
    catalog: Catalog = current_app.extensions["catalog"]
    return render_template(
        "how.html",
        models=[model.card for _, model in sorted(catalog.models.items())],
        chosen=options.model or catalog.default_name,
        accepted_types=",".join(IMAGE_TYPES),
        max_megabytes=current_app.config["MAX_UPLOAD_MB"],
        max_bytes=current_app.config["MAX_CONTENT_LENGTH"] - FORM_OVERHEAD,
        **names,
    )
