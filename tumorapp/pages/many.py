"""Many scans from the page, a few in each request; a bad file does not stop the rest.

The API refuses a request for one bad image, so that a program sees it; a person who drops a folder
wants the others. This belongs to the page, which no key is asked for.
"""

from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

from flask import Blueprint, current_app, request

from brainscan import Examination, ImageFile, Model, ScanError
from brainscan.scan import read_picture
from tumorapp.api.schemas import PredictionSchema, read_options
from tumorapp.catalog import get_catalog
from tumorapp.feature import Feature
from tumorapp.language import wording
from tumorapp.language.translation import tell, translate
from tumorapp.pictures import link_picture
from tumorapp.uploads import read_files

THUMBNAIL_SIDE = 96  # pixels: 48 on a screen with twice as many
# Names of folders that say what their scans show, less case and anything but letters.
FOLDERS = {
    "glioma": ("glioma", "gliomatumor", "gliomatumour"),
    "meningioma": ("meningioma", "meningiomatumor", "meningiomatumour"),
    "notumor": ("notumor", "notumour", "no", "healthy", "notcancer", "normal", "negative"),
    "pituitary": ("pituitary", "pituitarytumor", "pituitarytumour"),
    "tumor": ("tumor", "tumour", "braintumor", "braintumour", "yes", "cancer", "positive"),
}

_PREDICTION = PredictionSchema(exclude=("heatmap",))

blueprint = Blueprint("many", __name__)
FEATURE = Feature("many", blueprint, page=True)


@blueprint.post("/many")
def answer_many() -> dict[str, Any]:
    """Predict the images of a form, each by itself.

    Returns:
        `model`, `version`, and `results` in the order of the images. A result is a prediction as
        the API gives it without a heat map, its warnings in the page's language, with `words` for
        what the table says of it and a `thumbnail` as a data URI, whatever its format; or a
        `filename` and the `error` that says why there is none.
    """
    config = current_app.config
    files = read_files(request, config["MAX_IMAGES"])
    options = read_options(request.form)
    model = get_catalog().get(options.model)
    return {
        "model": model.card.name,
        "version": str(model.card.version),
        "results": _examine_each(model, files, config["MAX_PIXELS"]),
    }


def _examine_each(model: Model, files: Sequence[ImageFile], max_pixels: int) -> list[Any]:
    results: list[dict[str, Any]] = []
    readings = []
    for file in files:
        try:
            start = perf_counter()
            picture = read_picture(file.data, max_pixels=max_pixels)
            reading = model.prepare(file.name, picture, sha256=file.sha256, start=start)
        except ScanError as error:
            told = {"code": error.code, "detail": tell(error.about("").message)}
            results.append({"filename": file.name, "error": told})
        else:
            results.append({"thumbnail": link_picture(picture.grey, THUMBNAIL_SIDE)})
            readings.append(replace(reading, picture=None))
    found = iter(model.conclude(readings))
    for result in results:
        if "thumbnail" in result:
            result.update(_describe(next(found)))
    return results


def _describe(found: Examination) -> dict[str, Any]:
    return {**_PREDICTION.dump(found), "words": _put_into_words(found)}


def _put_into_words(found: Examination) -> dict[str, Any]:
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
