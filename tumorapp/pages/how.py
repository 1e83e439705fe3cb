"""How it works: the page that shows every step from a scan to its prediction, on that scan."""

import logging
from typing import Any

from flask import Blueprint, current_app, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from brainscan import Examination, ImageFile, Problem
from brainscan.counterfactual import examine_without_lesion
from brainscan.engine import EngineError
from tumorapp.api.options import Options, PageOptionsSchema, read_options
from tumorapp.catalog import get_catalog
from tumorapp.feature import Feature, Menu
from tumorapp.language.translation import mark
from tumorapp.pages import samples
from tumorapp.pages.layers import read_layers
from tumorapp.pages.steps import ShownLayer, show_layer, show_tracing
from tumorapp.pages.views import PREVIEW_SIDE, describe_formats
from tumorapp.problems import describe_on_page
from tumorapp.uploads import read_file

logger = logging.getLogger(__name__)

blueprint = Blueprint("how", __name__)
FEATURE = Feature("how", blueprint, page=True, menu=Menu(mark("How it works"), "show_page", 30))


@blueprint.route("/how", methods=["GET", "POST"])
def show_page() -> ResponseReturnValue:
    """Show the steps of a form's scan, or of a sample; an error is shown at the form.

    The query string may name the sample, and the model.

    Raises:
        Problem, HTTPException: for a client that does not read HTML.
    """
    options = Options()
    try:
        options = read_options(request.values, PageOptionsSchema)
        return _render(options, **_explain(options, _read_scan()))
    except (Problem, HTTPException) as error:
        problem, status = describe_on_page(error)
        return _render(options, problem=problem), status


def _read_scan() -> ImageFile | None:
    """Give the scan that was sent, where one was."""
    if request.method != "POST":
        return None
    try:
        return read_file(request)
    except Problem as problem:
        if problem.code in ("missing-image", "no-file-chosen"):
            return None
        raise


def _explain(options: Options, file: ImageFile | None) -> dict[str, Any]:
    model = get_catalog().get(options.model)
    scan = file or samples.read_sample(request.values.get("sample") or samples.NAMES[0])
    max_pixels = current_app.config["MAX_PIXELS"]
    found = model.examine_one(scan, max_pixels=max_pixels, frame=options.frame)
    return {
        "prediction": found.with_picture(found.picture.shrink(PREVIEW_SIDE)),
        "tracing": show_tracing(found.picture) if model.card.scan.crop else None,
        "layers": _show_layers(found),
        "sample": file is None,
        "without": examine_without_lesion(model, found),
    }


def _show_layers(found: Examination) -> list[ShownLayer]:
    """Show what the layers saw; nothing where that cannot be shown."""
    config, card = current_app.config, found.card
    has_maps = card.feature_layer is not None or card.has_lesion_map
    if config["ENGINE"] != "openvino" or not has_maps:
        return []
    folder = config["MODELS_DIR"] / card.name / str(card.version)
    try:
        seen = read_layers(folder, config["INFERENCE_THREADS"], found.scan.pixels)
    except EngineError as error:
        logger.warning("The layers of %s/%s cannot be shown: %s", card.name, card.version, error)
        return []
    return [show_layer(layer) for layer in seen]


def _render(options: Options, **names: Any) -> str:
    catalog = get_catalog()
    return render_template(
        "how.html",
        models=[model.card for model in catalog.models.values()],
        chosen=options.model or catalog.default_name,
        frame=options.frame,
        **describe_formats(),
        max_megabytes=current_app.config["MAX_UPLOAD_MB"],
        **names,
    )
