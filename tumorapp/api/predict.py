"""The REST API: predictions, and the models that make them."""

from typing import Any

from flask import Blueprint, current_app, request

from brainscan import Model
from brainscan.bundle.plain import to_plain
from tumorapp.api import examples
from tumorapp.api.openapi import PREDICTION_PROBLEMS, Answer, Operation, document
from tumorapp.api.schemas import AnswerSchema, ModelsSchema, answer_schema, read_options
from tumorapp.catalog import Catalog
from tumorapp.feature import Feature
from tumorapp.uploads import read_files

blueprint = Blueprint("api", __name__, url_prefix="/api")
FEATURE = Feature("api", blueprint)


@blueprint.post("/predict")
@document(
    Operation(
        summary="Predict scans",
        tag="images",
        answers={200: Answer("The predictions.", AnswerSchema, examples.show_answer)},
        problems=PREDICTION_PROBLEMS,
        body=examples.describe_body,
        parameters=examples.PREDICT_PARAMETERS,
    )
)
def predict() -> dict[str, Any]:
    """Predict the images of a request; options come from the form or the query string.

    Send a form with one or more images, or the bytes of one image with its own type. How many
    images and how many megabytes are accepted is said where there are more.
    """
    config = current_app.config
    files = read_files(request, config["MAX_IMAGES"])
    options = read_options(request.values)
    model = _catalog().get(options.model)
    readings = [model.read(file, max_pixels=config["MAX_PIXELS"]) for file in files]
    found = model.conclude(readings, want_heatmaps=options.heatmap)
    answer: dict[str, Any] = answer_schema(heatmap=options.heatmap).dump(
        {"model": model.card.name, "version": str(model.card.version), "predictions": found}
    )
    return answer


def _show_models() -> dict[str, Any]:
    catalog = _catalog()
    default = catalog.default_name
    return {
        "default": default,
        "models": [
            _describe(model, default=name == default)
            for name, model in sorted(catalog.models.items())
        ],
        "refused": catalog.refused,
    }


@blueprint.get("/models")
@document(
    Operation(
        summary="List the models",
        tag="images",
        answers={200: Answer("The models.", ModelsSchema, _show_models)},
    )
)
def list_models() -> dict[str, Any]:
    """List the models that are served, and the bundles that were refused."""
    return _show_models()


def _describe(model: Model, *, default: bool) -> dict[str, Any]:
    card = model.card
    facts = to_plain(card)
    return {
        "name": card.name,
        "version": str(card.version),
        "classes": card.classes,
        "default": default,
        "heatmap": card.feature_layer is not None,
        "scan": card.scan,
        "precision": model.engine.precision,
        "graphs": facts["graphs"],
        "architecture": card.architecture,
        "parameters": card.parameters,
        "created": card.created,
        "protocol": card.measurement.protocol if card.measurement else None,
        "measurement": facts["measurement"],
        "intended_use": card.intended_use,
        "limits": card.limits,
        "sources": facts["sources"],
    }


def _catalog() -> Catalog:
    catalog: Catalog = current_app.extensions["catalog"]
    return catalog
