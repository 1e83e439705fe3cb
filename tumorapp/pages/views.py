"""The page: a form that works by itself, and faster with the script that comes with it.

Without the script a post is answered with the whole page; the script asks for the parts that
changed. Both are rendered from the same templates, so there is one markup of a result.
"""

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
from flask import Blueprint, current_app, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from brainscan import Examination, ImageFile, Problem
from brainscan.scan import Picture, PreparedScan
from brainscan.scan.formats import list_endings, list_media_types, list_names
from tumorapp.api.schemas import Options, PredictionSchema, read_options
from tumorapp.catalog import Catalog
from tumorapp.config import ON_OFF, Setting
from tumorapp.feature import Feature, Menu
from tumorapp.language import wording
from tumorapp.language.translation import mark, tell
from tumorapp.pages import samples
from tumorapp.pages.comparison import compare_models
from tumorapp.problems import describe, to_problem, wants_page
from tumorapp.uploads import read_file

PREVIEW_SIDE = 1024
# What a form adds to its file: names, boundaries and the other fields.
_FORM_OVERHEAD = 4096
_PREDICTIONS = {True: PredictionSchema(), False: PredictionSchema(exclude=("heatmap",))}

blueprint = Blueprint("pages", __name__)
FEATURE = Feature(
    "pages",
    blueprint,
    page=True,
    menu=Menu(mark("Predict"), "show_form", 10),
    settings=(Setting("PAGES", "on", ON_OFF),),
)
for _filter in (*wording.FILTERS, tell):
    blueprint.add_app_template_filter(_filter)


@dataclass(frozen=True)
class _Outcome:
    """What became of a form that was sent: a template's names for it, and the HTTP status."""

    options: Options
    names: dict[str, Any]
    status: int = 200


# What a form asks for: the template's names for what became of its scan.
_Step = Callable[[Options, Examination], dict[str, Any]]


@blueprint.get("/")
def show_form() -> str:
    """Show the page with nothing predicted yet."""
    return _render_page(Options(heatmap=True))


@blueprint.post("/")
def answer_form() -> ResponseReturnValue:
    """Answer a form that a browser sent by itself with the whole page."""
    outcome = _answer(_predict)
    return _render_page(outcome.options, **outcome.names), outcome.status


@blueprint.post("/compare")
def compare() -> ResponseReturnValue:
    """Answer a form that a browser sent by itself with the whole page, all models compared."""
    outcome = _answer(_predict, _compare)
    return _render_page(outcome.options, **outcome.names), outcome.status


@blueprint.post("/parts")
def answer_parts() -> ResponseReturnValue:
    """Answer the page's script with the parts that changed."""
    outcome = _answer(_predict)
    return render_template("_parts.html", **outcome.names), outcome.status


@blueprint.post("/compare/parts")
def compare_parts() -> ResponseReturnValue:
    """Answer the page's script with the comparison of all models."""
    outcome = _answer(_compare)
    return render_template("_parts.html", **outcome.names), outcome.status


def _render_page(options: Options, **names: Any) -> str:
    catalog: Catalog = current_app.extensions["catalog"]
    return render_template(
        "index.html",
        models=[model for _, model in sorted(catalog.models.items())],
        default=catalog.default_name,
        chosen=options.model or catalog.default_name,
        samples=samples.NAMES,
        wants_heatmap=options.heatmap,
        **describe_formats(),
        max_megabytes=current_app.config["MAX_UPLOAD_MB"],
        max_bytes=current_app.config["MAX_CONTENT_LENGTH"] - _FORM_OVERHEAD,
        **names,
    )


def describe_formats() -> dict[str, Any]:
    """Give a template what a file field accepts, and the formats' names."""
    return {
        "accepted_types": ",".join((*list_media_types(), *list_endings())),
        "endings": list_endings(),
        "formats": list_names(),
    }


def _answer(*steps: _Step) -> _Outcome:
    """Do with the scan of a form what it asks for; an error becomes part of the outcome.

    Raises:
        Problem, HTTPException: for a client that does not read HTML.
    """
    options = Options(heatmap=True)
    try:
        options = read_options(request.form)
        file = _read_file()
        found, seconds = _examine(options, file)
        names: dict[str, Any] = {"milliseconds": max(1, round(seconds * 1000))}
        for step in steps:
            names |= step(options, found)
        return _Outcome(options, names)
    except (Problem, HTTPException) as error:
        if not wants_page(request):
            raise
        problem = to_problem(error)
        return _Outcome(options, {"problem": describe(problem)}, problem.status)


def _read_file() -> ImageFile:
    """Give the scan of a form, or the sample that it names."""
    if name := request.form.get("sample"):
        return samples.read_sample(name)
    return read_file(request)


def _examine(options: Options, file: ImageFile) -> tuple[Examination, float]:
    """Let the model that was chosen examine a scan; says how many seconds it took, too."""
    catalog: Catalog = current_app.extensions["catalog"]
    model = catalog.get(options.model)
    start = time.perf_counter()
    reading = model.read(file, max_pixels=current_app.config["MAX_PIXELS"], keep_picture=True)
    [found] = model.conclude([reading], want_heatmaps=options.heatmap)
    return found, time.perf_counter() - start


def _predict(options: Options, found: Examination) -> dict[str, Any]:
    # The script shows the scan itself, and asks for a preview only where the browser cannot.
    preview = "preview" in request.form
    return {
        "card": found.card,
        "precision": found.precision,
        "prediction": _PREDICTIONS[options.heatmap].dump(found),
        "crop": _outline_crop(found.scan),
        "preview": _draw_preview(found.picture) if preview else None,
    }


def _compare(_: Options, found: Examination) -> dict[str, Any]:
    catalog: Catalog = current_app.extensions["catalog"]
    models = [model for _, model in sorted(catalog.models.items())]
    return {"comparison": compare_models(models, found)}


def _outline_crop(scan: PreparedScan) -> dict[str, Any] | None:
    """Give the part of a scan that the model saw, in its pixels; None where it saw all of it."""
    width, height = scan.whole
    if scan.box == (0, 0, width, height):
        return None
    return {"box": scan.box, "width": width, "height": height}


def _draw_preview(picture: Picture) -> str:
    """Draw the scan as it was decoded: any accepted format, grey, the right way up.

    Returns:
        A PNG as a data URI, its longest side at most 1024 pixels.
    """
    width, height = picture.size
    scale = min(1.0, PREVIEW_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    png = cv2.imencode(".png", cv2.resize(picture.grey, size, interpolation=cv2.INTER_AREA))[1]
    return f"data:image/png;base64,{base64.b64encode(png.tobytes()).decode('ascii')}"
