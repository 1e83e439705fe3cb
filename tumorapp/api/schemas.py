"""What comes out of the API: predictions and problems; and what describes a schema's fields."""

from typing import Any

from marshmallow import Schema, fields

from brainscan import Answer
from brainscan.messages import KINDS, Message, ScanError
from brainscan.verdict import VERDICTS
from tumorapp.language.translation import tell
from tumorapp.pictures import link_png

_WARNINGS = [code for code, kind in KINDS.items() if kind.status is None]
_PROBLEMS = [code for code, kind in KINDS.items() if kind.status]


def about(description: str, **more: Any) -> dict[str, Any]:
    """Give the arguments of a field that is always there, and what OpenAPI says of it."""
    return {"required": True, "metadata": {"description": description, **more}}


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
