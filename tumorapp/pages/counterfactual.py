"""What the model says without the region that it marks, when the page asks for it.

Without the page's script there is the same on the page of all steps.
"""

from typing import Any

from flask import Blueprint, current_app, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from brainscan import Problem
from brainscan.counterfactual import examine_without_lesion
from tumorapp.api.options import PageOptionsSchema, read_options
from tumorapp.catalog import get_catalog
from tumorapp.feature import Feature
from tumorapp.pages.views import PREVIEW_SIDE
from tumorapp.problems import describe_on_page
from tumorapp.uploads import read_file

blueprint = Blueprint("counterfactual", __name__)
FEATURE = Feature("counterfactual", blueprint, page=True)


@blueprint.post("/counterfactual/parts")
def answer_parts() -> ResponseReturnValue:
    """Examine a form's scan, and again without its lesion.

    Raises:
        Problem, HTTPException: for a client that does not read HTML.
    """
    try:
        return render_template("_counterfactual_parts.html", **_examine_twice())
    except (Problem, HTTPException) as error:
        problem, status = describe_on_page(error)
        return render_template("_error.html", problem=problem), status


def _examine_twice() -> dict[str, Any]:
    file = read_file(request)
    options = read_options(request.form, PageOptionsSchema)
    model = get_catalog().get(options.model)
    max_pixels = current_app.config["MAX_PIXELS"]
    found = model.examine_one(file, max_pixels=max_pixels, frame=options.frame)
    without = examine_without_lesion(model, found)
    return {
        "prediction": found.with_picture(found.picture.shrink(PREVIEW_SIDE)),
        "without": without,
    }
