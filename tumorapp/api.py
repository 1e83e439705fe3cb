"""The REST API: predictions, and the models that make them."""

from typing import Any

from flask import Blueprint, current_app, request

from tumorapp.catalog import Catalog, LoadedModel
from tumorapp.inference import predict_uploads
from tumorapp.schemas import read_options
from tumorapp.uploads import read_uploads

blueprint = Blueprint("api", __name__)


@blueprint.post("/predict")
def predict() -> dict[str, Any]:
    """Predict the images of a request; options come from the form or the query string."""
    config = current_app.config
    uploads = read_uploads(request, config["MAX_IMAGES"])
    options = read_options(request.values)
    model = _catalog().get(options.model)
    return predict_uploads(model, uploads, heatmap=options.heatmap, max_pixels=config["MAX_PIXELS"])


@blueprint.get("/models")
def list_models() -> dict[str, Any]:
    """List the models that are served, and the bundles that were refused."""
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


def _describe(model: LoadedModel, *, default: bool) -> dict[str, Any]:
    card = model.card
    return {
        "name": card.name,
        "version": str(card.version),
        "classes": card.classes,
        "default": default,
        "heatmap": card.feature_layer is not None,
        "scan": card.scan,
        "architecture": card.architecture,
        "parameters": card.parameters,
        "created": card.created,
        "protocol": card.metrics.get("protocol"),
        "metrics": card.metrics,
        "intended_use": card.intended_use,
        "limits": card.limits,
        "sources": card.sources,
    }


def _catalog() -> Catalog:
    catalog: Catalog = current_app.extensions["catalog"]
    return catalog
