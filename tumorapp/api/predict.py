"""The REST API: predictions, and the models that make them."""

from typing import Any

from flask import Blueprint, current_app, request

from brainscan import Lesion, Model, Problem
from brainscan.bundle import HEALTHY_CLASSES
from brainscan.bundle.plain import to_plain
from brainscan.verdict import judge
from tumorapp.api.openapi import PREDICTION_PROBLEMS, Answer, Operation
from tumorapp.api.schemas import (
    AnswerSchema,
    ModelsSchema,
    PredictOptionsSchema,
    describe_body,
    read_options,
)
from tumorapp.catalog import get_catalog
from tumorapp.feature import Feature
from tumorapp.uploads import read_files

_ANSWER = AnswerSchema(exclude=("predictions.heatmap",))
_ANSWER_WITH_HEATMAPS = AnswerSchema()
_MODELS = ModelsSchema()
_LESION = Lesion((0.41, 0.5), (((0.38, 0.46), (0.45, 0.47), (0.43, 0.55)),), 0.012, 0.98)

blueprint = Blueprint("api", __name__, url_prefix="/api")
FEATURE = Feature("api", blueprint)


def show_answer() -> dict[str, Any] | None:
    """Give an answer as the default model writes it, with made-up probabilities, for OpenAPI."""
    catalog = get_catalog()
    model = catalog.models.get(catalog.default_name or "")
    if model is None:
        return None
    first, *others = sorted(model.card.classes, key=HEALTHY_CLASSES.__contains__)
    shares = {first: 0.97, **dict.fromkeys(others, 0.03 / len(others))}
    probabilities = {name: shares[name] for name in model.card.classes}
    prediction = {
        "name": "scan.jpg",
        **vars(judge(model.card, probabilities, distance=None if model.familiarity is None else 0)),
        "uncertain": False,
        "probabilities": probabilities,
        "lesion": _LESION if model.card.has_lesion_map else None,
        "header": {},
        "warnings": [],
    }
    answer = {"model": model.card.name, "version": model.card.version, "predictions": [prediction]}
    written: dict[str, Any] = _ANSWER.dump(answer)
    return written


@blueprint.post("/predict")
@Operation(
    "images",
    {200: Answer("The predictions.", AnswerSchema, show_answer)},
    (*PREDICTION_PROBLEMS, "not-recognised"),
    body=lambda: describe_body(PredictOptionsSchema),
    query=PredictOptionsSchema,
)
def predict() -> dict[str, Any]:
    """Predict scans.

    Send a form with one or more images, JSON with images in base64, or the bytes of one image with
    its own content type. Options come from the form, the JSON or the query string. A
    request with too many images, or too many megabytes, is refused; the error says how many are
    accepted.
    """
    config = current_app.config
    files = read_files(request, config["MAX_IMAGES"])
    options = read_options(request.values, PredictOptionsSchema)
    model = get_catalog().get(options.model)
    readings = [model.read(file, max_pixels=config["MAX_PIXELS"]) for file in files]
    found = model.conclude(readings, want_heatmaps=options.heatmap)
    for one in found:
        if options.strict and one.verdict == "not-recognised":
            raise Problem("not-recognised", subject=one.name)
    answer = {"model": model.card.name, "version": model.card.version, "predictions": found}
    schema = _ANSWER_WITH_HEATMAPS if options.heatmap else _ANSWER
    written: dict[str, Any] = schema.dump(answer)
    return written


def _list_models() -> dict[str, Any]:
    catalog = get_catalog()
    default = catalog.default_name
    models = [
        {**_describe(model), "default": name == default} for name, model in catalog.models.items()
    ]
    listed = {"default": default, "models": models, "refused": catalog.refused}
    written: dict[str, Any] = _MODELS.dump(listed)
    return written


@blueprint.get("/models")
@Operation("images", {200: Answer("The models.", ModelsSchema, _list_models)})
def list_models() -> dict[str, Any]:
    """List the models.

    These are the models that are served, with what their cards say of them, and the bundles that
    were refused.
    """
    return _list_models()


def _describe(model: Model) -> dict[str, Any]:
    card = model.card
    return {
        **to_plain(card),
        "heatmap": card.has_reliable_map,
        "lesion": card.has_lesion_map,
        "precision": model.engine.precision,
        "protocol": card.measurement.protocol if card.measurement else None,
    }
