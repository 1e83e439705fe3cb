"""The page: a form that works by itself, and faster with the script that comes with it.

Without the script a post is answered with the whole page; the script asks for the parts that
changed. Both are rendered from the same templates, so there is one markup of a result.
"""

import base64
import time
from dataclasses import dataclass
from typing import Any

import cv2
from flask import Blueprint, current_app, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from training.scan import decode_scan
from tumorapp import wording
from tumorapp.catalog import Catalog
from tumorapp.errors import IMAGE_TYPES, ProblemError, describe, wants_page
from tumorapp.inference import predict_uploads
from tumorapp.schemas import Options, read_options
from tumorapp.uploads import read_uploads

PREVIEW_SIDE = 1024
# What a form adds to its file: names, boundaries and the other fields.
_FORM_OVERHEAD = 4096

blueprint = Blueprint("pages", __name__)
for _filter in wording.FILTERS:
    blueprint.add_app_template_filter(_filter)


@dataclass(frozen=True)
class _Outcome:
    """What became of a form that was sent: a template's names for it, and the HTTP status."""

    options: Options
    names: dict[str, Any]
    status: int = 200


@blueprint.get("/")
def show_form() -> str:
    """Show the page with nothing predicted yet."""
    return _render_page(Options(heatmap=True))


@blueprint.post("/")
def answer_form() -> ResponseReturnValue:
    """Answer a form that a browser sent by itself with the whole page."""
    outcome = _answer()
    return _render_page(outcome.options, **outcome.names), outcome.status


@blueprint.post("/parts")
def answer_parts() -> ResponseReturnValue:
    """Answer the page's script with the parts that changed."""
    outcome = _answer()
    return render_template("_parts.html", **outcome.names), outcome.status


def _render_page(options: Options, **names: Any) -> str:
    catalog: Catalog = current_app.extensions["catalog"]
    cards = [model.card for _, model in sorted(catalog.models.items())]
    return render_template(
        "index.html",
        models=cards,
        default=catalog.default_name,
        chosen=options.model or catalog.default_name,
        wants_heatmap=options.heatmap,
        accepted_types=",".join(IMAGE_TYPES),
        max_megabytes=current_app.config["MAX_UPLOAD_MB"],
        max_bytes=current_app.config["MAX_CONTENT_LENGTH"] - _FORM_OVERHEAD,
        **names,
    )


def _answer() -> _Outcome:
    """Predict the scan of a form; an error becomes part of the outcome, to be told at the form.

    Raises:
        ProblemError, HTTPException: for a client that does not read HTML.
    """
    options = Options(heatmap=True)
    try:
        options = read_options(request.form)
        return _Outcome(options, _predict(options))
    except (ProblemError, HTTPException) as error:
        if not wants_page(request):
            raise
        problem = describe(error)
        return _Outcome(options, {"problem": problem}, problem.status)


def _predict(options: Options) -> dict[str, Any]:
    catalog: Catalog = current_app.extensions["catalog"]
    max_pixels: int = current_app.config["MAX_PIXELS"]
    start = time.perf_counter()
    uploads = read_uploads(request, max_images=1)
    model = catalog.get(options.model)
    answer = predict_uploads(model, uploads, heatmap=options.heatmap, max_pixels=max_pixels)
    seconds = time.perf_counter() - start
    # The script shows the scan itself, and asks for a preview only where the browser cannot.
    preview = "preview" in request.form
    return {
        "card": model.card,
        "prediction": answer["predictions"][0],
        "milliseconds": max(1, round(seconds * 1000)),
        "preview": _draw_preview(uploads[0].data, max_pixels) if preview else None,
    }


def _draw_preview(data: bytes, max_pixels: int) -> str:
    """Draw the scan as it was decoded: any accepted format, grey, the right way up.

    Returns:
        A PNG as a data URI, its longest side at most 1024 pixels.
    """
    grey = decode_scan(data, max_pixels=max_pixels)
    height, width = grey.shape
    scale = min(1.0, PREVIEW_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    png = cv2.imencode(".png", cv2.resize(grey, size, interpolation=cv2.INTER_AREA))[1]
    return f"data:image/png;base64,{base64.b64encode(png.tobytes()).decode('ascii')}"
