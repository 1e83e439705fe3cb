"""What goes into the API and what comes out of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate
from werkzeug.datastructures import MultiDict

from brainscan import Examination
from brainscan.messages import KINDS, Message, Problem
from brainscan.scan.formats import list_media_types, list_names
from tumorapp.language.translation import tell
from tumorapp.pictures import link_png

FILE = {"type": "string", "format": "binary"}
_WARNINGS = [code for code, kind in KINDS.items() if kind.status is None]
_PROBLEMS = [code for code, kind in KINDS.items() if kind.status]
# The page's forms and addresses have them next to the options.
_OTHER_FIELDS = ("image", "lang", "preview", "sample")


def about(description: str, **more: Any) -> dict[str, Any]:
    """Give the arguments of a field that is always there, and what OpenAPI says of it."""
    return {"required": True, "metadata": {"description": description, **more}}


@dataclass(frozen=True)
class Options:
    """What a request for a prediction chooses.

    Attributes:
        model: the model's name; None for the default one.
        heatmap: whether each prediction comes with a heat map.
    """

    model: str | None = None
    heatmap: bool = False


# The fields have no defaults: Swagger UI would send them next to what is chosen in the form.
class ModelOptionSchema(Schema):
    """The option of a request that predicts without heat maps."""

    model = fields.String(
        validate=validate.Length(max=100),
        metadata={
            "description": "The model that predicts. Without it, the default model does.",
            "accepted": "the name of a served model",
        },
    )


class OptionsSchema(ModelOptionSchema):
    """The options of a request for predictions."""

    heatmap = fields.Boolean(
        metadata={
            "description": "Whether each prediction comes with a heat map. Without it, none does.",
            "accepted": "1, true, 0 or false",
        },
    )


def read_options(
    values: MultiDict[str, str], schema: type[ModelOptionSchema] = OptionsSchema
) -> Options:
    """Read the options of a request, such as `request.values`.

    Raises:
        Problem: an unknown option, one given twice, or a value that is not accepted.
    """
    known = schema().fields
    accepted = [f"{name}: {field.metadata['accepted']}" for name, field in known.items()]
    options = {name: value for name, value in values.items() if name not in _OTHER_FIELDS}
    for name in options:
        if name not in known:  # a form's part may have no name at all
            raise Problem(
                "unknown-option",
                accepted=accepted,
                option=repr((name or "")[:100]),
                choices="; ".join(accepted),
            )
        if len(set(values.getlist(name))) > 1:
            raise Problem("repeated-option", accepted=accepted, option=name)
    try:
        chosen = schema().load(options)
    except ValidationError as error:
        name = next(iter(error.messages_dict))
        raise refuse_option(name, values[name], accepted) from None
    return Options(chosen.get("model") or None, chosen.get("heatmap", False))


def refuse_option(name: str, value: str, accepted: Sequence[str]) -> Problem:
    """Say that an option does not take a value, and what it takes."""
    return Problem(
        "invalid-option",
        accepted=accepted,
        option=name,
        value=repr(value[:100]),
        choices="; ".join(accepted),
    )


def describe_body(options: type[ModelOptionSchema], *, several: bool = True) -> dict[str, Any]:
    """Describe a body that holds an image, or several, and a form's options."""
    image: dict[str, Any] = {
        "description": f"An image file. Accepted: {', '.join(list_names())}.",
        **FILE,
    }
    if several:
        image = {
            "description": f"{image['description']} Repeat the field for several images.",
            "type": "array",
            "items": FILE,
            "minItems": 1,
        }
    form = options.from_dict(
        {"image": fields.Raw(required=True, metadata=image)},
        name="ImagesForm" if several else "ImageForm",
    )
    return {
        "multipart/form-data": {"schema": form},
        **{kind: {"schema": FILE} for kind in (*list_media_types(), "application/octet-stream")},
    }


def describe_message(message: Message) -> dict[str, str]:
    """Give a warning or a problem as the API writes it next to others."""
    return {"code": message.code, "detail": tell(message)}


class MessageSchema(Schema):
    """A problem of one of many files, or of a job."""

    code = fields.String(**about("Names this kind of problem; it does not change."))
    detail = fields.Function(tell, **about("A sentence for people.", type="string"))


class WarningSchema(MessageSchema):
    """A warning; takes a `brainscan.Message`."""

    code = fields.String(**about("Names this kind of warning; it does not change.", enum=_WARNINGS))


def _write_heatmap(found: Examination) -> str | None:
    """Write a heat map as a link that holds the picture itself."""
    if found.heatmap is None:
        return None
    return link_png(found.heatmap)


class PredictionSchema(Schema):
    """The prediction for one scan; takes a `brainscan.Examination`."""

    filename = fields.String(attribute="name", **about("The file's name, as it was sent."))
    label = fields.String(**about("The most probable class."))
    tumor = fields.Boolean(**about("Whether that class is a tumour."))
    confidence = fields.Float(**about("Its calibrated probability, 0 to 1."))
    probabilities = fields.Dict(
        keys=fields.String(),
        values=fields.Float(),
        **about("The probability of every class, in the model's order; they add up to 1."),
    )
    warnings = fields.List(
        fields.Nested(WarningSchema), **about("What limits how far the prediction can be trusted.")
    )
    heatmap = fields.Function(
        _write_heatmap,
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

    type = fields.String(**about("The code as a URN; it does not change."))
    code = fields.String(**about("Names this kind of problem; it does not change.", enum=_PROBLEMS))
    title = fields.String(**about("The kind of problem, in a few words."))
    status = fields.Integer(**about("The HTTP status.", minimum=400, maximum=599))
    detail = fields.String(**about("What was wrong with this request, and what to do about it."))
    accepted = fields.List(
        fields.String(), metadata={"description": "What would have been accepted, if known."}
    )


class ErrorSchema(Schema):
    """An error, as the Open Inference Protocol has it; `tumorapp.problems` writes it."""

    error = fields.String(**about("What was wrong with this request, and what to do about it."))
    code = fields.String(metadata={"description": "Names this kind of problem."})


class ScanSpecificationSchema(Schema):
    """How a scan is prepared for a model."""

    size = fields.Integer(**about("Width and height of the array, in pixels."))
    crop = fields.Boolean(**about("Whether the scan is cropped around the head first."))


class ModelSchema(Schema):
    """A model that is served; what its card says of it."""

    name = fields.String(required=True)
    version = fields.String(required=True)
    classes = fields.List(fields.String(), required=True)
    default = fields.Boolean(**about("Whether it answers requests that name no model."))
    heatmap = fields.Boolean(**about("Whether it gives heat maps."))
    scan = fields.Nested(ScanSpecificationSchema, required=True)
    precision = fields.String(
        validate=validate.OneOf(["fp16", "int8", "keras"]),
        **about(
            "What is run: the published graph (fp16), the faster quantized graph (int8) or the "
            "Keras model."
        ),
    )
    graphs = fields.Dict(
        keys=fields.String(),
        values=fields.Dict(keys=fields.String(), values=fields.Float(allow_none=True)),
        allow_none=True,
        **about(
            "If the model also has an int8 graph: what was measured of both graphs on the test "
            "scans. `measurement` is that of the fp16 graph."
        ),
    )
    architecture = fields.String(required=True)
    parameters = fields.Integer(required=True)
    created = fields.String(**about("The day it was published, ISO 8601."))
    protocol = fields.String(
        allow_none=True, **about("How the data was divided into training and test scans.")
    )
    measurement = fields.Dict(
        allow_none=True, **about("What its card says was measured; null for an imported model.")
    )
    intended_use = fields.String(required=True)
    limits = fields.String(required=True)
    sources = fields.List(fields.Dict(), required=True)


class RefusalSchema(Schema):
    """A bundle that is installed but not served, and why."""

    name = fields.String(required=True)
    version = fields.String(required=True)
    reason = fields.String(required=True)


class ModelsSchema(Schema):
    """The models that are served, and the bundles that were refused."""

    default = fields.String(allow_none=True, **about("The model that answers if none is named."))
    models = fields.List(fields.Nested(ModelSchema), required=True)
    refused = fields.List(fields.Nested(RefusalSchema), required=True)
