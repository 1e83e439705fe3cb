"""What goes into the API: the options of a request, and the bodies that hold images."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate
from werkzeug.datastructures import MultiDict

from brainscan.messages import Problem
from brainscan.scan.formats import list_media_types, list_names
from tumorapp.api.schemas import about
from tumorapp.json_body import JSON, JSON_EXAMPLE
from tumorapp.uploads import FIELDS

FILE = {"type": "string", "format": "binary"}
# The page's forms and addresses have them next to the options.
_OTHER_FIELDS = (*FIELDS, "lang", "preview", "sample", "series")


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
