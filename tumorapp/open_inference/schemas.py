"""What goes into the Open Inference Protocol's operations and what comes out, for OpenAPI too."""

from typing import Any

from marshmallow import EXCLUDE, Schema, fields, validate

from tumorapp.api.openapi import Answer

_PARAMETERS = {"description": "Extensions; those that are not known are passed over."}


class ErrorSchema(Schema):
    """An error, as the protocol has it."""

    error = fields.String(required=True)
    code = fields.String(metadata={"description": "Names this kind of problem."})


class _ServerSchema(Schema):
    name = fields.String(required=True)
    version = fields.String(required=True)
    extensions = fields.List(fields.String(), required=True)


class _LiveSchema(Schema):
    live = fields.Boolean(required=True)


class _ReadySchema(Schema):
    ready = fields.Boolean(required=True)


class _ModelReadySchema(Schema):
    name = fields.String(required=True)
    ready = fields.Boolean(required=True)


class _TensorMetadataSchema(Schema):
    name = fields.String(required=True)
    datatype = fields.String(required=True)
    shape = fields.List(
        fields.Integer(), required=True, metadata={"description": "-1 stands for any length."}
    )
    parameters = fields.Dict()


class _ModelMetadataSchema(Schema):
    name = fields.String(required=True)
    versions = fields.List(fields.String(), required=True)
    platform = fields.String(required=True)
    inputs = fields.List(fields.Nested(_TensorMetadataSchema), required=True)
    outputs = fields.List(fields.Nested(_TensorMetadataSchema), required=True)
    parameters = fields.Dict(
        metadata={"description": "classes: their names, by commas, in the outputs' order."}
    )


class _Lenient(Schema):
    class Meta:
        unknown = EXCLUDE  # clients may send what other servers know


class _InputTensorSchema(_Lenient):
    name = fields.String(required=True, metadata={"description": "scans or image."})
    shape = fields.List(
        fields.Integer(strict=True, validate=validate.Range(min=1)),
        required=True,
        validate=validate.Length(min=1, max=8),
    )
    datatype = fields.String(
        required=True, metadata={"description": "UINT8 for scans, BYTES for image."}
    )
    parameters = fields.Dict(allow_none=True, metadata=_PARAMETERS)
    data = fields.List(
        fields.Raw(allow_none=True),
        required=True,
        metadata={"description": "The values, row by row: flat, or nested as the shape says."},
    )


class _WantedTensorSchema(_Lenient):
    name = fields.String(
        required=True, metadata={"description": "probabilities, label or heatmap."}
    )
    parameters = fields.Dict(allow_none=True, metadata=_PARAMETERS)


class _InferenceRequestSchema(_Lenient):
    id = fields.String(allow_none=True, metadata={"description": "Comes back with the answer."})
    parameters = fields.Dict(allow_none=True, metadata=_PARAMETERS)
    inputs = fields.List(
        fields.Nested(_InputTensorSchema), required=True, validate=validate.Length(equal=1)
    )
    outputs = fields.List(
        fields.Nested(_WantedTensorSchema),
        allow_none=True,
        metadata={"description": "Which to answer with; probabilities and label without it."},
    )


class _OutputTensorSchema(Schema):
    name = fields.String(required=True)
    shape = fields.List(fields.Integer(), required=True)
    datatype = fields.String(required=True)
    data = fields.List(fields.Raw(), required=True)


class _InferenceSchema(Schema):
    model_name = fields.String(required=True)
    model_version = fields.String(required=True)
    id = fields.String()
    parameters = fields.Dict(
        metadata={
            "description": "warnings: JSON with the warnings of each scan that has some, as "
            "/api/predict writes them."
        }
    )
    outputs = fields.List(fields.Nested(_OutputTensorSchema), required=True)


REQUEST = _InferenceRequestSchema()


def _path_parameter(name: str, description: str, example: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": {"type": "string"},
        "example": example,
    }


NAME = _path_parameter("name", "The model's name.", "mobilenet-v2")
VERSION = _path_parameter("version", "One of the model's versions.", "2")

SERVER = Answer(
    "The server.", _ServerSchema, {"name": "tumorapp", "version": "0.1.0", "extensions": []}
)
LIVE = Answer("It lives.", _LiveSchema, {"live": True})
READY = Answer("It can predict.", _ReadySchema, {"ready": True})
NOT_READY = Answer("The default model is not served.", _ReadySchema, {"ready": False})
MODEL_READY = Answer(
    "The model can predict.", _ModelReadySchema, {"name": "mobilenet-v2", "ready": True}
)
MODEL = Answer(
    "The model.",
    _ModelMetadataSchema,
    {
        "name": "mobilenet-v2",
        "versions": ["2"],
        "platform": "openvino_ir",
        "inputs": [{"name": "scans", "datatype": "UINT8", "shape": [-1, 160, 160, 1]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 4]}],
        "parameters": {"classes": "glioma,meningioma,notumor,pituitary"},
    },
)
INFERENCE = Answer(
    "What the model says.",
    _InferenceSchema,
    {
        "model_name": "mobilenet-v2",
        "model_version": "2",
        "id": "42",
        "outputs": [
            {
                "name": "probabilities",
                "shape": [1, 4],
                "datatype": "FP32",
                "data": [0.973374, 0.00438, 0.011912, 0.010334],
            },
            {"name": "label", "shape": [1], "datatype": "BYTES", "data": ["glioma"]},
        ],
    },
)
INFERENCE_BODY = {
    "application/json": {
        "schema": _InferenceRequestSchema,
        "example": {
            "id": "42",
            "inputs": [
                {
                    "name": "image",
                    "shape": [1],
                    "datatype": "BYTES",
                    "parameters": {"content_type": "base64"},
                    "data": ["/9j/4AAQSkZJRgABAQAAAQABAAD…"],
                }
            ],
            "outputs": [{"name": "probabilities"}, {"name": "label"}],
        },
    }
}
