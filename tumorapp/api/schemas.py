"""What goes into the API and what comes out of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate
from werkzeug.datastructures import MultiDict

from brainscan import Answer
from brainscan.messages import KINDS, Message, Problem, ScanError
from brainscan.scan.formats import list_media_types, list_names
from brainscan.verdict import VERDICTS
from tumorapp.language.translation import tell
from tumorapp.pictures import link_png
from tumorapp.uploads import FIELDS, JSON, JSON_EXAMPLE

FILE = {"type": "string", "format": "binary"}
_WARNINGS = [code for code, kind in KINDS.items() if kind.status is None]
_PROBLEMS = [code for code, kind in KINDS.items() if kind.status]
# The page's forms and addresses have them next to the options.
_OTHER_FIELDS = (*FIELDS, "lang", "preview", "sample", "series")


def about(description: str, **more: Any) -> dict[str, Any]:
    """Give the arguments of a field that is always there, and what OpenAPI says of it."""
    return {"required": True, "metadata": {"description": description, **more}}


@dataclass(frozen=True)
class Options:
    """What a request for a prediction chooses.

    Attributes:
        model: the model's name; None for the default one.
        heatmap: whether each prediction comes with a heat map.
        strict: whether a picture that is not recognised is refused.
        frame: the index of a volume's slice in its file; None for the one in the middle.
    """

    model: str | None = None
    heatmap: bool = False
    strict: bool = False
    frame: int | None = None


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
    """The options of a request that may ask for heat maps."""

    heatmap = fields.Boolean(
        metadata={
            "description": "Whether each prediction comes with a heat map. Without it, none does.",
            "accepted": "1, true, 0 or false",
        },
    )


class FrameOptionSchema(ModelOptionSchema):
    """The options of a request for one picture, which may be a slice of a volume."""

    frame = fields.Integer(
        validate=validate.Range(min=0),
        metadata={
            "description": "The slice of a volume: its place in its file, from 0. Without it, the "
            "one in the middle.",
            "accepted": "a whole number from 0",
        },
    )


class PageOptionsSchema(FrameOptionSchema, OptionsSchema):
    """The options of the page's form."""


class PredictOptionsSchema(OptionsSchema):
    """The options of a request for predictions."""

    strict = fields.Boolean(
        metadata={
            "description": "Whether the request is refused if an image is not recognised as an MRI "
            "slice of a head. Without it, such an image gets the verdict `not-recognised`.",
            "accepted": "1, true, 0 or false",
        },
    )


_make = cache(lambda schema: schema())  # takes longer than reading with it


def read_options(
    values: MultiDict[str, str], schema: type[ModelOptionSchema] = OptionsSchema
) -> Options:
    """Read the options of a request, such as `request.values`.

    Raises:
        Problem: an unknown option, one given twice, or a value that is not accepted.
    """
    reader = _make(schema)
    known = reader.fields
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
        chosen = reader.load(options)
    except ValidationError as error:
        name = next(iter(error.messages_dict))
        raise refuse_option(name, values[name], accepted) from None
    return Options(**{**chosen, "model": chosen.get("model") or None})


def refuse_option(name: str, value: str, accepted: Sequence[str]) -> Problem:
    """Say that an option does not take a value, and what it takes."""
    return Problem(
        "invalid-option",
        accepted=accepted,
        option=name,
        value=repr(value[:100]),
        choices="; ".join(accepted),
    )


class JsonImageSchema(Schema):
    """An image in a JSON body."""

    data = fields.String(
        **about("The image file in base64, or a data URL of it. A third larger than the file.")
    )
    name = fields.String(metadata={"description": "The file's name, for the answer."})


def describe_body(options: type[ModelOptionSchema], *, several: bool = True) -> dict[str, Any]:
    """Describe a body that holds an image, or several, and a form's options."""
    image: dict[str, Any] = {
        "description": f"An image file. Accepted: {', '.join(list_names())}. The fields "
        f"{' and '.join(FIELDS[1:])} are taken for this one.",
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
    number = validate.Length(min=1) if several else validate.Length(equal=1)
    images = fields.List(fields.Nested(JsonImageSchema), required=True, validate=number)
    in_json = options.from_dict({"images": images}, name="ImagesJson" if several else "ImageJson")
    return {
        "multipart/form-data": {"schema": form},
        JSON: {"schema": in_json, "example": json.loads(JSON_EXAMPLE)},
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


_POINT = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
_POLYGONS = {"type": "array", "items": {"type": "array", "items": _POINT}}


class _ObjectSchema(Schema):
    """Writes what objects hold."""

    def get_attribute(self, obj: Any, attr: str, default: Any) -> Any:
        """Ask for it by its name; marshmallow would try first whether the object is a mapping."""
        if "." in attr:
            return super().get_attribute(obj, attr, default)
        return getattr(obj, attr, default)


class LesionSchema(_ObjectSchema):
    """The region that a model marks; takes a `brainscan.Lesion`."""

    # Raw, for these are numbers already: to look at each takes longer than all the rest.
    peak = fields.Raw(
        **about(
            "[x, y] of the point where the model's map is highest: shares of the picture's width "
            "and height from its top left.",
            **_POINT,
        ),
    )
    outline = fields.Raw(
        **about("A polygon of [x, y] for each part of the region, the largest first.", **_POLYGONS)
    )
    area = fields.Float(**about("The region's area as a share of the head's, 0 to 1."))
    score = fields.Float(**about("The map's highest value, 0 to 1."))


class SliceSchema(_ObjectSchema):
    """The prediction for one slice; takes a `brainscan.Examination`."""

    verdict = fields.String(
        **about(
            "The answer: a tumour of the kind that `label` names; a tumour of unclear kind; no "
            "tumour found; unclear whether there is one; or not recognised as an MRI slice of a "
            "head, so that the rest may be meaningless.",
            enum=VERDICTS,
        )
    )
    label = fields.String(
        **about(
            "The most probable kind of tumour if the probability of a tumour is high enough for "
            "one, else the class without a tumour."
        )
    )
    tumor = fields.Boolean(**about("Whether that class is a tumour."))
    tumor_probability = fields.Float(**about("The probability of a tumour of any kind, 0 to 1."))
    confidence = fields.Float(**about("The label's calibrated probability, 0 to 1."))
    uncertain = fields.Boolean(
        **about(
            "Whether the confidence is too low to rely on, the kind of tumour is unclear, or it is "
            "unclear whether there is one."
        )
    )
    in_distribution = fields.Boolean(
        allow_none=True,
        **about(
            "Whether the image is like the scans that the model knows; null if the model cannot "
            "tell."
        ),
    )
    probabilities = fields.Dict(
        keys=fields.String(),
        values=fields.Float(),
        **about("The probability of every class, in the model's order; they add up to 1."),
    )
    lesion = fields.Nested(
        LesionSchema,
        allow_none=True,
        **about("The region that the model marks; null if it marks none, or cannot mark any."),
    )
    warnings = fields.List(
        fields.Nested(WarningSchema), **about("What limits how far the prediction can be trusted.")
    )


class FileSchema(_ObjectSchema):
    """What was examined."""

    filename = fields.String(
        attribute="name", **about("The file's name, as it was sent; of a series, its folder's.")
    )


def _add_heatmap() -> fields.Function:
    """Make the field of what comes with a prediction only if it was asked for."""
    return fields.Function(
        lambda found: found.heatmap and link_png(found.heatmap),
        metadata={
            "type": ["string", "null"],
            "description": "Only if it was asked for: a PNG, as a data URI, to lay over the scan "
            "(of a series, over its strongest slice); null if the model marks nothing, or has no "
            "heat map that can be relied on.",
        },
    )


class SliceOfSeriesSchema(SliceSchema, FileSchema):
    """The prediction for one slice of a series; takes a `brainscan.SliceExamination`."""

    index = fields.Integer(**about("Its place in the series, from 0."))
    position_mm = fields.Float(
        attribute="position",
        allow_none=True,
        **about("Where it lies: mm towards the head, the back or the left; null if unknown."),
    )
    frame = fields.Integer(
        attribute="reading.place.frame", **about("Its place in its file, from 0.")
    )
    votes = fields.Boolean(**about("Whether it shows enough of the head to count."))
    shows_tumor = fields.Boolean(
        attribute="shows", **about("Whether it shows the tumour that the series has.")
    )
    region = fields.Raw(
        **about(
            "The tumour: the polygons of `lesion` that continue on the slices next to it, or touch "
            "such ones.",
            **_POLYGONS,
        ),
    )
    heatmap = _add_heatmap()


class PredictionSchema(SliceSchema, FileSchema):
    """The prediction for one scan or one series; takes a `brainscan.Answer`."""

    header = fields.Dict(
        keys=fields.String(),
        **about(
            "What the header of a DICOM or NIfTI file says of how the scan was made, with units in "
            "the names, such as `plane`, `matrix`, `slices`, `pixel_spacing_mm`, `echo_time_ms` "
            "and `field_strength_t`: numbers, and words of DICOM's own lists. Empty for other "
            "formats; what a header does not say is left out, and so is what may identify a "
            "patient."
        ),
    )
    strongest = fields.Integer(
        metadata={
            "description": "Only of a series: the index of the slice that shows most of the tumour."
        }
    )
    volume_ml = fields.Float(
        attribute="volume",
        allow_none=True,
        metadata={
            "description": "Only of a series: the volume that the model marks, in ml; null if it "
            "marks none, or the distances between slices or pixels are unknown."
        },
    )
    slices = fields.List(
        fields.Nested(SliceOfSeriesSchema),
        metadata={
            "description": "Only of a series: its slices, in order towards the patient's head, "
            "back or left."
        },
    )
    heatmap = _add_heatmap()


class FailureSchema(Schema):
    """A file that could not be predicted, and why."""

    filename = fields.String(required=True)
    error = fields.Nested(MessageSchema, required=True)


ANSWER: dict[str, Any] = {
    "type": "object",
    "required": ["model", "version", "predictions"],
    "properties": {
        "model": {"type": "string"},
        "version": {"type": "string"},
        "predictions": {
            "type": "array",
            "items": {"anyOf": [PredictionSchema, FailureSchema]},
            "description": "A prediction for each picture and each series, in the order of their "
            "first files; of a ZIP or a job, an error for each file that cannot be read.",
        },
    },
}
_WRITTEN = {
    True: PredictionSchema(),
    False: PredictionSchema(exclude=("heatmap", "slices.heatmap")),
}


def write_outcome(found: Answer | ScanError, *, heatmap: bool = False) -> dict[str, Any]:
    """Write what became of a picture or a series, with a heat map where one is wanted."""
    if isinstance(found, ScanError):
        return write_failure(found.message.subject, found.message)
    written: dict[str, Any] = _WRITTEN[heatmap].dump(found)
    return written


def write_failure(name: str, message: Message) -> dict[str, Any]:
    """Write why a file could not be predicted."""
    return {"filename": name, "error": describe_message(message)}


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
    heatmap = fields.Boolean(
        **about("Whether it gives heat maps that were shown to point at tumours.")
    )
    lesion = fields.Boolean(**about("Whether it marks where a tumour is."))
    decision = fields.Dict(
        allow_none=True,
        **about(
            "The thresholds, chosen on validation scans, that make a verdict of its probabilities; "
            "null if none were chosen, so that the most probable class is the answer."
        ),
    )
    refusal = fields.Dict(
        allow_none=True,
        **about(
            "The thresholds beyond which it does not recognise an image; null if it cannot tell, "
            "so that `in_distribution` is never true."
        ),
    )
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
