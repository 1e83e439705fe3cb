"""What the jobs' part of the API takes and answers, with examples, for the OpenAPI document."""

from typing import Any

from marshmallow import Schema, fields

from tumorapp.api import examples
from tumorapp.api.schemas import MESSAGE_SCHEMA
from tumorapp.jobs.archive import ARCHIVE_FIELD, ZIP_TYPES
from tumorapp.uploads import FIELD

_FORM = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        FIELD: {
            "type": "array",
            "items": examples.FILE,
            "minItems": 1,
            "description": "Image files. Repeat it for several.",
        },
        ARCHIVE_FIELD: {
            **examples.FILE,
            "description": "A ZIP of image files, in place of images.",
        },
        "model": examples.MODEL,
    },
}
BODY: dict[str, Any] = {
    "multipart/form-data": {"schema": _FORM},
    ZIP_TYPES[0]: {"schema": examples.FILE},
}
_EXAMPLE_ID = "nX0gk1aUV9uXr5m0Zq1c2Q"
ID_PARAMETER: dict[str, Any] = {
    "in": "path",
    "name": "job",
    "required": True,
    "description": "The job's id.",
    "schema": {"type": "string"},
    "example": _EXAMPLE_ID,
}
FORMAT_PARAMETER: dict[str, Any] = {
    "in": "query",
    "name": "format",
    "description": "How the results are written; without it, as the Accept header asks.",
    "schema": {"type": "string", "enum": ["json", "csv"]},
}
_FAILURE = {
    "type": "object",
    "required": ["filename", "error"],
    "properties": {"filename": {"type": "string"}, "error": MESSAGE_SCHEMA},
}


class JobLinksSchema(Schema):
    """Where a job is found."""

    self = fields.String(required=True)
    results = fields.String(required=True)


def _describe(text: str) -> dict[str, Any]:
    return {"required": True, "metadata": {"description": text}}


class JobSchema(Schema):
    """A job and its progress."""

    id = fields.String(**_describe("It cannot be guessed; it lets you read and erase the job."))
    state = fields.String(
        required=True,
        metadata={
            "enum": ["waiting", "running", "done", "failed"],
            "description": "A job fails as a whole where, say, its model is gone; a file that "
            "cannot be read does not fail it.",
        },
    )
    model = fields.String(required=True)
    version = fields.String(required=True)
    total = fields.Integer(**_describe("Its files."))
    done = fields.Integer(**_describe("Those with an outcome."))
    failed = fields.Integer(**_describe("Those of them that could not be predicted."))
    created = fields.DateTime(required=True)
    finished = fields.DateTime(required=True, allow_none=True)
    expires = fields.DateTime(
        **_describe("When it is erased, with its results; moves until it is done.")
    )
    error = fields.Dict(metadata={**MESSAGE_SCHEMA, "description": "Why the job failed."})
    links = fields.Nested(JobLinksSchema, required=True)


class JobResultsSchema(Schema):
    """The results of a job, in the order of its files."""

    model = fields.String(required=True)
    version = fields.String(required=True)
    predictions = fields.Raw(
        required=True,
        metadata={
            "type": "array",
            "items": {"anyOf": [{"$ref": "#/components/schemas/Prediction"}, _FAILURE]},
            "description": "One for each file, or its name and why it could not be predicted.",
        },
    )


JOB: dict[str, Any] = {
    "id": _EXAMPLE_ID,
    "state": "running",
    "model": "mobilenet-v2",
    "version": "2",
    "total": 60,
    "done": 24,
    "failed": 1,
    "created": "2026-11-21T14:00:00+00:00",
    "finished": None,
    "expires": "2026-11-22T14:00:00+00:00",
    "links": {
        "self": f"/api/jobs/{_EXAMPLE_ID}",
        "results": f"/api/jobs/{_EXAMPLE_ID}/results",
    },
}
NEW_JOB = {**JOB, "state": "waiting", "done": 0, "failed": 0}


def show_results() -> dict[str, Any]:
    """Give the results of a job with a scan and a file that is not one."""
    answer = examples.show_answer()
    error = {
        "code": "not-an-image",
        "detail": "notes.txt: The file is not an image that can be read. Accepted: …",
    }
    failed = {"filename": "notes.txt", "error": error}
    return {**answer, "predictions": [*answer["predictions"], failed]}


RESULTS_TABLE = (
    "file,model,version,label,tumor,confidence,p_glioma,p_meningioma,p_notumor,p_pituitary,"
    "warnings,error,codes\n"
    "scan.jpg,mobilenet-v2,2,glioma,True,0.973374,0.973374,0.00438,0.011912,0.010334,,,\n"
)
