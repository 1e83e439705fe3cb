"""What goes into the Open Inference Protocol's operations and what comes out, for OpenAPI too."""

from typing import Any

from marshmallow import EXCLUDE, Schema, fields, validate

from tumorapp.api.schemas import about

_PARAMETERS = {"description": "Extensions; unknown ones are ignored."}


class ServerSchema(Schema):
    """The server."""

    name = fields.String(required=True)
    version = fields.String(required=True)
    extensions = fields.List(fields.String(), required=True)


class LiveSchema(Schema):
    """Whether the server is running."""

    live = fields.Boolean(required=True)


class ReadySchema(Schema):
    """Whether the server can predict."""

    ready = fields.Boolean(required=True)


class ModelReadySchema(ReadySchema):
    """Whether a model can predict."""

    name = fields.String(required=True)


class TensorMetadataSchema(Schema):
    """What a tensor looks like."""

    name = fields.String(required=True)
    datatype = fields.String(required=True)
    shape = fields.List(fields.Integer(), **about("-1 is any length."))
    parameters = fields.Dict()


class ModelMetadataSchema(Schema):
    """What a model takes and gives."""

    name = fields.String(required=True)
    versions = fields.List(fields.String(), required=True)
    platform = fields.String(required=True)
    inputs = fields.List(fields.Nested(TensorMetadataSchema), required=True)
    outputs = fields.List(fields.Nested(TensorMetadataSchema), required=True)
    parameters = fields.Dict(
        metadata={"description": "`classes`: their names, separated by commas, in output order."}
    )


class _Lenient(Schema):
    class Meta:
        unknown = EXCLUDE  # clients may send what other servers know


class InputTensorSchema(_Lenient):
    """A tensor of a request."""

    name = fields.String(**about("`scans` or `image`."))
    shape = fields.List(
        fields.Integer(strict=True, validate=validate.Range(min=1)),
        required=True,
        validate=validate.Length(min=1, max=8),
    )
    datatype = fields.String(**about("UINT8 for `scans`, BYTES for `image`."))
    parameters = fields.Dict(allow_none=True, metadata=_PARAMETERS)
    data = fields.List(
        fields.Raw(allow_none=True),
        **about("The values in row-major order: flat, or nested as the shape says."),
    )


class WantedTensorSchema(_Lenient):
    """A tensor that the answer is to have."""

    name = fields.String(
        **about(
            "`probabilities`, `label`, `verdict` (as in /api/predict), `tumor_probability`, "
            "`uncertain`, or a map that the model's metadata lists: `lesion`, where a tumour is, "
            "or `heatmap`, what spoke for the answer; both are of the prepared scan."
        )
    )
    parameters = fields.Dict(allow_none=True, metadata=_PARAMETERS)


class InferenceRequestSchema(_Lenient):
    """A request for inference."""

    id = fields.String(allow_none=True, metadata={"description": "It is repeated in the answer."})
    parameters = fields.Dict(allow_none=True, metadata=_PARAMETERS)
    inputs = fields.List(
        fields.Nested(InputTensorSchema), required=True, validate=validate.Length(equal=1)
    )
    outputs = fields.List(
        fields.Nested(WantedTensorSchema),
        allow_none=True,
        metadata={
            "description": "The tensors to answer with; else `probabilities`, `label` and "
            "`verdict`."
        },
    )


class OutputTensorSchema(Schema):
    """A tensor of an answer."""

    name = fields.String(required=True)
    shape = fields.List(fields.Integer(), required=True)
    datatype = fields.String(required=True)
    data = fields.List(fields.Raw(), required=True)


class InferenceSchema(Schema):
    """The answer to a request for inference."""

    model_name = fields.String(required=True)
    model_version = fields.String(required=True)
    id = fields.String()
    parameters = fields.Dict(
        metadata={
            "description": "`warnings`: JSON with the name and the warnings of each scan that has "
            "any; the warnings are those of /api/predict."
        }
    )
    outputs = fields.List(fields.Nested(OutputTensorSchema), required=True)


REQUEST: dict[str, Any] = {
    "id": "42",
    "inputs": [
        {
            "name": "image",
            "shape": [1],
            "datatype": "BYTES",
            "data": ["/9j/4AAQSkZJRgABAQAAAQABAAD…"],
        }
    ],
    "outputs": [{"name": "probabilities"}, {"name": "verdict"}],
}
