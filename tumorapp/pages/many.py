"""Many scans from the page, a few in each request; a bad file does not stop the rest.

The API refuses a request for one bad image, so that a program sees it; a person who drops a folder
wants the others. This belongs to the page, which no key is asked for.
"""

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, current_app, request

from brainscan import Answer, ImageFile, Model, Problem, SeriesExamination, examine_files
from tumorapp.api.options import read_options
from tumorapp.api.schemas import PredictionSchema
from tumorapp.catalog import get_catalog
from tumorapp.feature import Feature
from tumorapp.language import wording
from tumorapp.language.translation import tell, translate
from tumorapp.pictures import link_picture
from tumorapp.uploads import read_files

THUMBNAIL_SIDE = 96  # pixels: 48 on a screen with twice as many

_PREDICTION = PredictionSchema(exclude=("heatmap", "slices"))

blueprint = Blueprint("many", __name__)
FEATURE = Feature("many", blueprint, page=True)


@blueprint.post("/many")
def answer_many() -> dict[str, Any]:
    """Predict the images of a form: each by itself, or with `series` all of them as one.

    Returns:
        `model`, `version`, and `results` in the order of the images. A result is a prediction as
        the API gives it without a heat map and slices, its warnings in the page's language, with
        `words` for what the table says of it and a `thumbnail` as a data URI, whatever its format;
        or a `filename` and the `error` that says why it has no answer.
    """
    config = current_app.config
    if "series" in request.form:
        rows = [read_files(request, 1, config["MAX_SLICES"])]
    else:
        rows = [[file] for file in read_files(request, config["MAX_IMAGES"])]
    model = get_catalog().get(read_options(request.form).model)
    return {
        "model": model.card.name,
        "version": str(model.card.version),
        "results": [_answer(model, row) for row in rows],
    }


def _answer(model: Model, files: Sequence[ImageFile]) -> dict[str, Any]:
    """Answer for what is a row of the table: a file, or the files of a series."""
    config = current_app.config
    answers: Sequence[Answer | Problem]
    try:
        answers = examine_files(
            model,
            files,
            max_pixels=config["MAX_PIXELS"],
            max_slices=config["MAX_SLICES"],
            longest_kept=THUMBNAIL_SIDE,
        )
    except Problem as error:  # there are too many slices
        answers = [error]
    found = next((one for one in answers if not isinstance(one, Problem)), answers[0])
    if isinstance(found, Problem):
        told = {"code": found.code, "detail": tell(found.about("").message)}
        return {"filename": files[0].name, "error": told}
    shown = found.slices[found.strongest] if isinstance(found, SeriesExamination) else found
    return {
        **_PREDICTION.dump(found),
        "words": _put_into_words(found),
        "thumbnail": link_picture(shown.picture.grey, THUMBNAIL_SIDE),
    }


def _put_into_words(found: Answer) -> dict[str, Any]:
    """Give what the table says: a finding, its share in words and as a number, remarks."""
    share = wording.stated_share(found)
    remarks = [tell(warning) for warning in wording.remarks(found)]
    if found.verdict == "tumor-kind-unclear":
        remarks.insert(0, wording.list_possible(found))
    return {
        "finding": wording.headline(found),
        "share": share,
        "confidence": "" if share is None else wording.probability(share),
        "of": translate("of a tumour") if wording.is_open(found) else "",
        "remarks": " ".join(remarks),
    }
