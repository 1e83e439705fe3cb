"""The bodies that the REST API takes and examples of what it answers, for the OpenAPI document."""

from typing import Any

from tumorapp.errors import IMAGE_TYPES

_FILE = {"type": "string", "format": "binary"}
_MODEL = {
    "type": "string",
    "maxLength": 100,
    "description": "The model that answers; the default one where none is named.",
}
_HEATMAP = {"type": "boolean", "description": "Whether each prediction comes with a heat map."}
_FORM = {
    "type": "object",
    "required": ["image"],
    "additionalProperties": False,
    "properties": {
        "image": {
            "type": "array",
            "items": _FILE,
            "minItems": 1,
            "description": "Image files: JPEG, PNG, TIFF, BMP or WebP. Repeat it for several.",
        },
        "model": {**_MODEL, "default": ""},
        "heatmap": {**_HEATMAP, "default": False},
    },
}
# Without defaults: a page that fills them in would contradict what is chosen in the form.
PREDICT_PARAMETERS: list[dict[str, Any]] = [
    {"in": "query", "name": name, "description": schema["description"], "schema": schema}
    for name, schema in (("model", _MODEL), ("heatmap", _HEATMAP))
]
PREDICT_BODY: dict[str, Any] = {
    "multipart/form-data": {"schema": _FORM},
    **{kind: {"schema": _FILE} for kind in (*IMAGE_TYPES, "application/octet-stream")},
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
