"""The bodies that the REST API takes and examples of what it answers, for the OpenAPI document."""

from typing import Any

from brainscan.scan.formats import list_media_types, list_names

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


ANSWER = {
    "model": "mobilenet-v2",
    "version": "2",
    "predictions": [
        {
            "filename": "scan.jpg",
            "label": "glioma",
            "tumor": True,
            "confidence": 0.973374,
            "probabilities": {
                "glioma": 0.973374,
                "meningioma": 0.00438,
                "notumor": 0.011912,
                "pituitary": 0.010334,
            },
            "warnings": [],
        }
    ],
}
MODELS = {
    "default": "binary-cnn",
    "models": [
        {
            "name": "binary-cnn",
            "version": "2",
            "classes": ["healthy", "tumor"],
            "default": True,
            "heatmap": True,
            "scan": {"size": 128, "crop": True},
            "precision": "int8",
            "graphs": {
                "fp16": {"accuracy": 0.9624, "milliseconds": 0.54},
                "int8": {"accuracy": 0.9638, "milliseconds": 0.32, "other_answers": 0.003},
            },
            "architecture": "four convolutions, global average pooling, softmax",
            "parameters": 390_000,
            "created": "2026-11-21",
            "protocol": "grouped",
            "metrics": {"protocol": "grouped", "scans": 2129, "accuracy": 0.9624},
            "intended_use": "Research and teaching.",
            "limits": "Not for diagnosis.",
            "sources": [{"name": "Brain Tumor MRI Dataset", "licence": "CC0"}],
        }
    ],
    "refused": [],
}
