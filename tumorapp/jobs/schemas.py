"""What the jobs' part of the API takes and answers, with examples, for the OpenAPI document."""

from typing import Any

from marshmallow import Schema, fields, validate

from tumorapp.api.options import FILE, ModelOptionSchema
from tumorapp.api.schemas import MessageSchema, about


class JobFormSchema(ModelOptionSchema):
    """A form with the images of a job."""

    image = fields.List(
        fields.Raw(metadata=FILE),
        validate=validate.Length(min=1),
        metadata={"description": "Image files. Repeat the field for several images."},
    )
    archive = fields.Raw(
        metadata={"description": "A ZIP of image files, instead of `image`.", **FILE}
    )


class FormatSchema(Schema):
    """The option of a request for results."""

    format = fields.String(
        validate=validate.OneOf(["json", "csv", "ndjson"]),
        metadata={"description": "The format of the results. Without it, the Accept header's."},
    )


class JobLinksSchema(Schema):
    """The addresses of a job."""

    self = fields.String(required=True)
    results = fields.String(required=True)


class JobSchema(Schema):
    """A job and its progress."""

    id = fields.String(
        **about("It cannot be guessed. Anyone who knows it can read and erase the job.")
    )
    state = fields.String(
        validate=validate.OneOf(["waiting", "running", "done", "failed"]),
        **about(
            "A job fails as a whole if, for example, its model is gone. A file that cannot be "
            "read does not make it fail."
        ),
    )
    model = fields.String(required=True)
    version = fields.String(required=True)
    total = fields.Integer(**about("How many files the job has."))
    done = fields.Integer(**about("How many of them have a result."))
    failed = fields.Integer(**about("How many of them could not be predicted."))
    created = fields.DateTime(required=True)
    finished = fields.DateTime(required=True, allow_none=True)
    expires = fields.DateTime(
        **about("When the job and its results are erased. It moves until the job is done.")
    )
    error = fields.Nested(MessageSchema, metadata={"description": "Why the job failed."})
    links = fields.Nested(JobLinksSchema, required=True)


_PATH = "/api/jobs/nX0gk1aUV9uXr5m0Zq1c2Q"
JOB: dict[str, Any] = {
    "id": _PATH.rpartition("/")[2],
    "state": "running",
    "model": "lesion-lite0",
    "version": "2",
    "total": 60,
    "done": 24,
    "failed": 1,
    "created": "2026-11-21T14:00:00+00:00",
    "finished": None,
    "expires": "2026-11-22T14:00:00+00:00",
    "links": {"self": _PATH, "results": f"{_PATH}/results"},
}
