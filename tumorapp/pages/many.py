"""Many scans from the page, a few in each request; a bad file does not stop the rest.

The API refuses a request for one bad image, so that a program sees it; a person who drops a folder
wants the others. This belongs to the page, which no key is asked for.
"""

from collections.abc import Sequence
from typing import Any

from flask import Blueprint, current_app, request

from tumorapp.api.schemas import read_options
from tumorapp.catalog import Catalog, LoadedModel
from tumorapp.errors import OversizedImageError, UnreadableScanError
from tumorapp.feature import Feature
from tumorapp.inference import Upload, predict_uploads
from tumorapp.language.sentences import translate_sentence
from tumorapp.language.wording import class_name, probability
from tumorapp.uploads import read_uploads

blueprint = Blueprint("many", __name__)
FEATURE = Feature("many", blueprint, page=True)


@blueprint.post("/many")
def answer_many() -> dict[str, Any]:
    """Predict the images of a form, each by itself.

    Returns:
        `model`, `version`, and `results` in the order of the images. A result is a prediction as
        the API gives it without a heat map, with `words` in the page's language for its label,
        confidence and warnings; or a `filename` and the `error` that says why there is none.
    """
    config = current_app.config
    uploads = read_uploads(request, config["MAX_IMAGES"])
    options = read_options(request.form)
    catalog: Catalog = current_app.extensions["catalog"]
    model = catalog.get(options.model)
    return {
        "model": model.card.name,
        "version": str(model.card.version),
        "results": _predict_each(model, uploads, config["MAX_PIXELS"]),
    }


def _predict_each(
    model: LoadedModel, uploads: Sequence[Upload], max_pixels: int
) -> list[dict[str, Any]]:
    """Predict scans together where all can be read, which is nearly always, else one by one."""
    try:
        answer = predict_uploads(model, uploads, max_pixels=max_pixels)
    except (OversizedImageError, UnreadableScanError) as error:
        if len(uploads) == 1:
            # The cause says the same without the name before it.
            told = translate_sentence(str(error.__cause__ or error))
            return [{"filename": uploads[0].filename, "error": told}]
        alone = ([upload] for upload in uploads)
        return [result for each in alone for result in _predict_each(model, each, max_pixels)]
    return [{**prediction, "words": _word(prediction)} for prediction in answer["predictions"]]


def _word(prediction: dict[str, Any]) -> dict[str, Any]:
    return {
        "label": class_name(prediction["label"]),
        "confidence": probability(prediction["confidence"]),
        "warnings": [translate_sentence(warning) for warning in prediction["warnings"]],
    }
