"""The bodies that the REST API takes and examples of what it answers, for the OpenAPI document."""

from typing import Any

from flask import current_app

from brainscan.bundle import HEALTHY_CLASSES
from brainscan.scan.formats import list_media_types, list_names
from tumorapp.catalog import Catalog

FILE = {"type": "string", "format": "binary"}
MODEL = {
    "type": "string",
    "maxLength": 100,
    "description": "The model that answers; the default one where none is named.",
}
_HEATMAP = {"type": "boolean", "description": "Whether each prediction comes with a heat map."}
# Without defaults: a page that fills them in would contradict what is chosen in the form.
MODEL_PARAMETER: dict[str, Any] = {
    "in": "query",
    "name": "model",
    "description": MODEL["description"],
    "schema": MODEL,
}
PREDICT_PARAMETERS: list[dict[str, Any]] = [
    MODEL_PARAMETER,
    {
        "in": "query",
        "name": "heatmap",
        "description": _HEATMAP["description"],
        "schema": _HEATMAP,
    },
]


def describe_body(*, several: bool = True) -> dict[str, Any]:
    """Describe a body that holds an image, or several and whether heat maps are wanted."""
    accepted = f"Accepted: {', '.join(list_names())}."
    one = {**FILE, "description": f"An image file. {accepted}"}
    many = {
        "type": "array",
        "items": FILE,
        "minItems": 1,
        "description": f"Image files; repeat it for several. {accepted}",
    }
    form = {
        "type": "object",
        "required": ["image"],
        "additionalProperties": False,
        "properties": {
            "image": many if several else one,
            "model": {**MODEL, "default": ""},
            **({"heatmap": {**_HEATMAP, "default": False}} if several else {}),
        },
    }
    return {
        "multipart/form-data": {"schema": form},
        **{kind: {"schema": FILE} for kind in (*list_media_types(), "application/octet-stream")},
    }


def show_answer() -> dict[str, Any]:
    """Give an answer as the default model writes it, with made-up probabilities."""
    catalog: Catalog = current_app.extensions["catalog"]
    model = catalog.models.get(catalog.default_name or "")
    name, version = (model.card.name, model.card.version) if model else ("mobilenet-v2", 1)
    classes = model.card.classes if model else ("glioma", "notumor")
    label = next((one for one in classes if one not in HEALTHY_CLASSES), classes[0])
    others = round(0.03 / (len(classes) - 1), 6)
    confidence = round(1 - others * (len(classes) - 1), 6)
    return {
        "model": name,
        "version": str(version),
        "predictions": [
            {
                "filename": "scan.jpg",
                "label": label,
                "tumor": label not in HEALTHY_CLASSES,
                "confidence": confidence,
                "probabilities": {one: confidence if one == label else others for one in classes},
                "warnings": [],
            }
        ],
    }
