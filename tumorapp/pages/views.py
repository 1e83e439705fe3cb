"""The page: a form that works by itself, and faster with the script that comes with it.

Without the script a post is answered with the whole page; the script asks for the parts that
changed. Both are rendered from the same templates, so there is one markup of a result.
"""

import time
from dataclasses import dataclass, field
from typing import Any

from flask import Blueprint, current_app, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from brainscan import (
    Answer,
    ImageFile,
    Message,
    Model,
    Problem,
    ScanError,
    SeriesExamination,
    examine_files,
)
from brainscan.classes import SPELLINGS
from brainscan.scan.formats import list_endings, list_media_types, list_names
from tumorapp.api.options import Options, PageOptionsSchema, read_options
from tumorapp.catalog import get_catalog
from tumorapp.config import ON_OFF, Setting
from tumorapp.feature import Feature, Menu
from tumorapp.language import cards, header, wording
from tumorapp.language.translation import mark, tell, translate
from tumorapp.pages import copies, samples
from tumorapp.pages.comparison import compare_models
from tumorapp.pages.slices import SIDE, show_slices
from tumorapp.pictures import link_picture, link_png, write_points
from tumorapp.problems import describe_on_page
from tumorapp.uploads import holds_slices, read_file, read_files, refuse_number

# The longest side of the copy that a template gets: what a template had stays in memory until
# Python looks for cycles, and eight large pictures took 400 MB.
PREVIEW_SIDE = 1024
# What a form adds to its file: names, boundaries and the other fields.
_FORM_OVERHEAD = 4096

blueprint = Blueprint("pages", __name__)
FEATURE = Feature(
    "pages",
    blueprint,
    page=True,
    menu=Menu(mark("Predict"), "show_form", 10),
    settings=(Setting("PAGES", "on", ON_OFF),),
)
_FILTERS = (*wording.FILTERS, *cards.FILTERS, *header.FILTERS, *copies.FILTERS, tell, translate)
for _filter in (*_FILTERS, link_picture, link_png, write_points):
    blueprint.add_app_template_filter(_filter)


@dataclass(frozen=True)
class _Outcome:
    """What became of a form that was sent: a template's names for it, and the HTTP status."""

    options: Options
    names: dict[str, Any] = field(default_factory=dict)
    status: int = 200


@blueprint.get("/")
def show_form() -> str:
    """Show the page with nothing predicted yet."""
    return _render_page(_Outcome(Options(heatmap=True)))


@blueprint.post("/", defaults={"compares": False})
@blueprint.post("/compare", endpoint="compare", defaults={"compares": True})
def answer_form(*, compares: bool) -> ResponseReturnValue:
    """Answer a form that a browser sent by itself with the whole page."""
    outcome = _answer(compares=compares)
    return _render_page(outcome), outcome.status


@blueprint.post("/parts", defaults={"compares": False})
@blueprint.post("/compare/parts", endpoint="compare_parts", defaults={"compares": True})
def answer_parts(*, compares: bool) -> ResponseReturnValue:
    """Answer the page's script with the parts that changed: at a comparison, that alone."""
    outcome = _answer(compares=compares)
    names = {**outcome.names, "prediction": None} if compares else outcome.names
    return render_template("_parts.html", **names), outcome.status


def _render_page(outcome: _Outcome) -> str:
    catalog = get_catalog()
    return render_template(
        "index.html",
        models=list(catalog.models.values()),
        default=catalog.default_name,
        chosen=outcome.options.model or catalog.default_name,
        samples=samples.NAMES,
        wants_heatmap=outcome.options.heatmap,
        folders=SPELLINGS,
        class_names={label: wording.class_name(label) for label in SPELLINGS},
        **describe_formats(),
        max_megabytes=current_app.config["MAX_UPLOAD_MB"],
        max_bytes=current_app.config["MAX_CONTENT_LENGTH"] - _FORM_OVERHEAD,
        **outcome.names,
    )


def describe_formats() -> dict[str, Any]:
    """Give a template what a file field accepts, and the formats' names."""
    return {
        "accepted_types": ",".join((*list_media_types(), *list_endings())),
        "endings": list_endings(),
        "formats": list_names(),
    }


def _answer(*, compares: bool) -> _Outcome:
    """Predict the scan of a form, by all models too where asked; an error is part of the outcome.

    Raises:
        Problem, HTTPException: for a client that does not read HTML.
    """
    options = Options(heatmap=True)
    try:
        options = read_options(request.form, PageOptionsSchema)
        return _Outcome(options, _predict(options, compares=compares))
    except (Problem, HTTPException) as error:
        problem, status = describe_on_page(error)
        return _Outcome(options, {"problem": problem}, status)


def _predict(options: Options, *, compares: bool) -> dict[str, Any]:
    model = get_catalog().get(options.model)
    start = time.perf_counter()
    if compares:
        left_out: list[Message] = []
        found: Answer = model.examine_one(
            _read_sample() or read_file(request),
            max_pixels=current_app.config["MAX_PIXELS"],
            frame=options.frame,
            want_heatmap=options.heatmap,
        )
    else:
        found, left_out = _examine(model, options)
    seconds = time.perf_counter() - start
    shown = found.slices[found.strongest] if isinstance(found, SeriesExamination) else found
    comparison = compare_models(get_catalog().models.values(), shown) if compares else None
    # A series comes with its pictures: no browser can show them by itself.
    wants_preview = "preview" in request.form or shown is not found
    names: dict[str, Any] = {
        "milliseconds": max(1, round(seconds * 1000)),
        # The script shows the scan itself, and asks for this only where the browser cannot.
        "preview": link_picture(shown.picture.grey, PREVIEW_SIDE) if wants_preview else None,
        "comparison": comparison,
        "left_out": left_out,
    }
    if isinstance(found, SeriesExamination):
        found, slices = show_slices(found, want_heatmaps=options.heatmap)
        shown = found.slices[found.strongest]
        names["slices"] = slices
    else:
        found = shown = found.with_picture(found.picture.shrink(PREVIEW_SIDE))
    return names | {
        "prediction": found,
        "shown": shown,
        # A lesion map is shown by the outline of what it marks.
        "heatmap": shown.heatmap if options.heatmap and shown.lesion_map is None else None,
    }


def _examine(model: Model, options: Options) -> tuple[Answer, list[Message]]:
    """Examine a picture, or a head by all of its slices; gives what was left out, too.

    Raises:
        ScanError: nothing of it can be read.
        Problem: the files are of several heads.
    """
    config = current_app.config
    sample = _read_sample()
    files = [sample] if sample else read_files(request, 1, config["MAX_SLICES"])
    is_series = len(files) > 1 or holds_slices(files[0].data)
    answers = examine_files(
        model,
        files,
        max_pixels=config["MAX_PIXELS"],
        max_slices=config["MAX_SLICES"],
        longest_kept=SIDE if is_series else PREVIEW_SIDE,
        want_heatmaps=options.heatmap,
    )
    found = [one for one in answers if not isinstance(one, ScanError)]
    refused = [one for one in answers if isinstance(one, ScanError)]
    if not found:
        raise refused[0]
    left_out = [one.message for one in refused]
    if len(found) > 1:  # of one file, a scout in several planes
        if len(files) > 1:
            raise refuse_number(len(found), 1)
        left_out.append(Message("one-volume", {"volumes": len(found)}))
    return found[0], left_out


def _read_sample() -> ImageFile | None:
    sample = request.form.get("sample")
    return samples.read_sample(sample) if sample else None
