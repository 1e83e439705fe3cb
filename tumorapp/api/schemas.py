"""What goes into the API and what comes out of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from marshmallow import Schema, ValidationError, fields, post_load, validate
from werkzeug.datastructures import MultiDict

from brainscan.messages import KINDS, Message, Problem
from tumorapp.language.translation import tell
from tumorapp.pictures import link_png

ACCEPTED_OPTIONS = ("model: the name of a served model", "heatmap: 1, true, 0 or false")


@dataclass(frozen=True)
class Options:
    """What a request for a prediction chooses.

    Attributes:
        model: the model's name; None for the default one.
        heatmap: whether each prediction comes with a heat map.
    """

    model: str | None = None
    heatmap: bool = False


class OptionsSchema(Schema):
    """Text of a form or a query string → `Options`."""

    model = fields.String(load_default="", validate=validate.Length(max=100))
    heatmap = fields.Boolean(load_default=False)

    @post_load
    def _build(self, data: dict[str, Any], **_: Any) -> Options:
        return Options(model=data["model"] or None, heatmap=data["heatmap"])


_OPTIONS = OptionsSchema()
# The page's forms and addresses have them beside the options.
_OTHER_FIELDS = ("image", "lang", "preview", "sample")


def read_options(values: MultiDict[str, str]) -> Options:
    """Read the options of a request, such as `request.values`.

    Raises:
        Problem: an unknown option, one given twice, or a value that is not accepted.
    """
    options = {name: value for name, value in values.items() if name not in _OTHER_FIELDS}
    for name in options:
        if name not in _OPTIONS.fields:  # a form's part may have no name at all
            raise Problem(
                "unknown-option",
                accepted=ACCEPTED_OPTIONS,
                option=repr((name or "")[:100]),
                choices="; ".join(ACCEPTED_OPTIONS),
            )
        if len(set(values.getlist(name))) > 1:
            raise Problem("repeated-option", accepted=ACCEPTED_OPTIONS, option=name)
    try:
        return cast(Options, _OPTIONS.load(options))
    except ValidationError as error:
        name = next(iter(error.messages_dict))
        raise refuse_option(name, values[name], ACCEPTED_OPTIONS) from None


def refuse_option(name: str, value: str, accepted: Sequence[str]) -> Problem:
    """Say that an option does not take a value, and what it takes."""
    return Problem(
        "invalid-option",
        accepted=accepted,
        option=name,
        value=repr(value[:100]),
        choices="; ".join(accepted),
    )


class _Picture(fields.Field[bytes]):
    """A PNG, written as a link that holds the picture itself."""

    def _serialize(self, value: bytes | None, *_: Any, **__: Any) -> str | None:
        return None if value is None else link_png(value)


class _Warning(fields.Field[Message]):
    """A message, as programs read it and as people do."""

    def _serialize(self, value: Message | None, *_: Any, **__: Any) -> dict[str, str] | None:
        return None if value is None else describe_message(value)


def describe_message(message: Message) -> dict[str, str]:
    """Give a warning or a problem as the API writes it next to others."""
    return {"code": message.code, "detail": tell(message)}


# A problem of one of many files, or of a job.
MESSAGE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["code", "detail"],
    "properties": {"code": {"type": "string"}, "detail": {"type": "string"}},
}
_WARNINGS = [code for code, kind in KINDS.items() if kind.status is None]
_WARNING_SCHEMA: dict[str, Any] = {
    **MESSAGE_SCHEMA,
    "properties": {**MESSAGE_SCHEMA["properties"], "code": {"type": "string", "enum": _WARNINGS}},
}


class PredictionSchema(Schema):
    """What a model says of one scan; takes a `brainscan.Examination`."""

    filename = fields.String(
        required=True,
        attribute="name",
        metadata={"description": "The name its sender gave."},
    )
    label = fields.String(required=True, metadata={"description": "The most probable class."})
    tumor = fields.Boolean(
        required=True, metadata={"description": "Whether that class is a tumour."}
    )
    confidence = fields.Float(
        required=True, metadata={"description": "Its calibrated probability, 0 to 1."}
    )
    probabilities = fields.Dict(
        keys=fields.String(),
        values=fields.Float(),
        required=True,
        metadata={"description": "Of every class, in the model's order, summing to 1."},
    )
    warnings = fields.List(
        _Warning(metadata=_WARNING_SCHEMA),
        required=True,
        metadata={"description": "What a reader of the prediction should know."},
    )
    heatmap = _Picture(
        metadata={
            "type": ["string", "null"],
            "description": "Only if it was asked for: a PNG, as a data URI, to lay over the scan; "
            "null if the model cannot give one.",
        },
    )


class AnswerSchema(Schema):
    """The answer to a request for predictions, in the order of its images."""

    model = fields.String(required=True)
    version = fields.String(required=True)
    predictions = fields.List(fields.Nested(PredictionSchema), required=True)


class ProblemSchema(Schema):
    """An error, as RFC 9457 has it; `tumorapp.problems` writes it."""

    type = fields.String(
        required=True, metadata={"description": "The code as a URN; it does not change."}
    )
    code = fields.String(
        required=True,
        metadata={
            "enum": [code for code, kind in KINDS.items() if kind.status],
            "description": "Names this kind of problem; it does not change.",
        },
    )
    title = fields.String(required=True, metadata={"description": "The kind, in a few words."})
    status = fields.Integer(required=True, metadata={"minimum": 400, "maximum": 599})
    detail = fields.String(
        required=True, metadata={"description": "What was wrong and what to do about it."}
    )
    accepted = fields.List(
        fields.String(), metadata={"description": "What would have been accepted, if known."}
    )


class ScanSpecificationSchema(Schema):
    """How a scan is prepared for a model."""

    size = fields.Integer(required=True, metadata={"description": "Width and height, in pixels."})
    crop = fields.Boolean(required=True, metadata={"description": "Whether the head is cut out."})


class ModelSchema(Schema):
    """A model that is served; what its card says of it."""

    name = fields.String(required=True)
    version = fields.String(required=True)
    classes = fields.List(fields.String(), required=True)
    default = fields.Boolean(
        required=True, metadata={"description": "Whether it answers where none is named."}
    )
    heatmap = fields.Boolean(required=True, metadata={"description": "Whether it gives heat maps."})
    scan = fields.Nested(ScanSpecificationSchema, required=True)
    precision = fields.String(
        required=True,
        validate=validate.OneOf(["fp16", "int8", "keras"]),
        metadata={
            "description": "What answers: the graph as it was published, the faster int8 graph "
            "beside it, or the Keras model."
        },
    )
    graphs = fields.Dict(
        keys=fields.String(),
        values=fields.Dict(keys=fields.String(), values=fields.Float(allow_none=True)),
        required=True,
        allow_none=True,
        metadata={
            "description": "Of a model that has an int8 graph, what was measured of both on the "
            "test scans, else null; `measurement` is that of the fp16 graph."
        },
    )
    architecture = fields.String(required=True)
    parameters = fields.Integer(required=True)
    created = fields.String(required=True, metadata={"description": "A day, ISO 8601."})
    protocol = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "How the scans of its figures were kept from training."},
    )
    measurement = fields.Dict(
        required=True,
        allow_none=True,
        metadata={"description": "What its card says was measured; null for an imported model."},
    )
    intended_use = fields.String(required=True)
    limits = fields.String(required=True)
    sources = fields.List(fields.Dict(), required=True)


class RefusalSchema(Schema):
    """A bundle that is installed and not served, and why."""

    name = fields.String(required=True)
    version = fields.String(required=True)
    reason = fields.String(required=True)


class ModelsSchema(Schema):
    """The models that are served, and the bundles that were refused."""

    default = fields.String(required=True, allow_none=True)
    models = fields.List(fields.Nested(ModelSchema), required=True)
    refused = fields.List(fields.Nested(RefusalSchema), required=True)


@cache
def answer_schema(*, heatmap: bool) -> AnswerSchema:
    """Give the schema of an answer; only one that was asked for heat maps has that field."""
    return AnswerSchema(exclude=() if heatmap else ("predictions.heatmap",))
