"""The OpenAPI document, made from the views as they are, and the page that shows it.

A view says what OpenAPI cannot see with `@document(Operation(…))`. The document is made when it is
first asked for: neither the start nor any other request pays for it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Blueprint, Flask, Response, current_app, render_template
from marshmallow import Schema, fields
from werkzeug.routing import Rule

from brainscan.messages import KINDS, Kind
from tumorapp.api.schemas import ProblemSchema
from tumorapp.feature import Feature, Menu, feature_of
from tumorapp.problems import PROBLEM_JSON

if TYPE_CHECKING:
    from apispec import APISpec

VERSION = "0.1.0"
_DESCRIPTION = """\
Says what a brain MRI slice shows, how sure it is, and where it looked.
For research and teaching. **Not a medical device, not for diagnosis.**

The operations under `/api` are the ones to use with images. Those under `/v2` speak the
[Open Inference Protocol](https://github.com/kserve/open-inference-protocol) (KServe V2), so that
clients made for it work unchanged."""

_KEY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}

View = TypeVar("View", bound=Callable[..., Any])

# The codes of the problems that a file may have, and an operation that predicts images.
FILE_PROBLEMS = tuple(
    code
    for code, kind in KINDS.items()
    if kind.title in (KINDS["image-too-large"].title, KINDS["empty-file"].title)
    and code not in ("file-too-large", "not-unpacked")  # a job's
)
MODEL_PROBLEMS = ("unknown-model", "no-model", "default-model-missing")
OPTION_PROBLEMS = ("unknown-option", "repeated-option", "invalid-option")
PREDICTION_PROBLEMS = (
    "missing-image",
    "no-file-chosen",
    "image-is-text",
    "no-boundary",
    *OPTION_PROBLEMS,
    "request-too-large",
    "too-many-images",
    "unsupported-body",
    "untyped-body",
    *FILE_PROBLEMS,
    *MODEL_PROBLEMS,
)


@dataclass(frozen=True)
class Answer:
    """What an operation answers with one status.

    Attributes:
        description: when it is given.
        schema: of its JSON; None where it has none.
        example: such a JSON, or a function that gives one in the application's context.
        others: examples of what is given instead of JSON, by content type.
    """

    description: str
    schema: type[Schema] | None = None
    example: Any = None
    others: Mapping[str, str] = field(default_factory=dict)


def _write_problem(kind: Kind) -> dict[str, Any]:
    return {
        "type": f"urn:problem-type:tumorapp:{kind.code}",
        "code": kind.code,
        "title": kind.title,
        "status": kind.status,
        "detail": show_text(kind),
    }


@dataclass(frozen=True)
class ErrorShape:
    """How the errors of an operation look.

    Attributes:
        content_type: of the answer.
        schema: of its JSON.
        write: gives an example of a kind of problem.
    """

    content_type: str = PROBLEM_JSON
    schema: type[Schema] = ProblemSchema
    write: Callable[[Kind], dict[str, Any]] = _write_problem


@dataclass(frozen=True)
class Operation:
    """What a view takes and gives.

    Attributes:
        summary: what it does, in a few words; the view's docstring says more.
        tag: the group it is shown in.
        answers: by status, those that are not errors.
        problems: the codes of those it may end with; an internal error is always possible.
        error_shape: how they are written.
        body: gives what it takes, by content type: OpenAPI's media type objects.
        parameters: OpenAPI's parameter objects; those in a path count where it has them.
    """

    summary: str
    tag: str
    answers: Mapping[int, Answer]
    problems: Sequence[str] = ()
    error_shape: ErrorShape = field(default_factory=ErrorShape)
    body: Callable[[], Mapping[str, Any]] = dict
    parameters: Sequence[Mapping[str, Any]] = ()


def show_text(kind: Kind) -> str:
    """Write the text of a kind of problem with the names of its values in their places."""
    return re.sub(r"%\((\w+)\)s", r"<\1>", kind.text)


_OPERATIONS: dict[Callable[..., Any], Operation] = {}

blueprint = Blueprint("openapi", __name__, url_prefix="/api")
DOCUMENT = Feature("openapi", blueprint, open=True)

# Its own files are large: they lie apart from those of the other pages.
page_blueprint = Blueprint(
    "api_page",
    __name__,
    url_prefix="/api/docs",
    static_folder="swagger_ui",
    static_url_path="/swagger-ui",
)
PAGE = Feature("api_page", page_blueprint, page=True, menu=Menu("API", "show_page", 40))


def document(operation: Operation) -> Callable[[View], View]:
    """Note what a view takes and gives; the view itself stays as it is."""

    def note(view: View) -> View:
        _OPERATIONS[view] = operation
        return view

    return note


class _DocumentSchema(Schema):
    openapi = fields.String(required=True)
    info = fields.Dict(required=True)
    paths = fields.Dict(required=True)


@blueprint.get("/openapi.json")
@document(
    Operation(
        summary="Get this document",
        tag="service",
        answers={
            200: Answer(
                "This document.",
                _DocumentSchema,
                {"openapi": "3.1.0", "info": {"title": "TumorApp", "version": VERSION}},
            )
        },
    )
)
def show_document() -> Response:
    """Describe every operation in the terms of OpenAPI 3.1."""
    text = current_app.extensions.get("openapi")
    if text is None:
        text = current_app.json.dumps(build_document(current_app))
        current_app.extensions["openapi"] = text
    return Response(text, mimetype="application/json")


@page_blueprint.get("")
def show_page() -> str:
    """Show the document as a page to read and to try the operations on."""
    return render_template("api.html")


def build_document(app: Flask) -> dict[str, Any]:
    """Describe the documented views of an application; needs its context."""
    from apispec import APISpec
    from apispec.ext.marshmallow import MarshmallowPlugin

    spec = APISpec(
        title="TumorApp",
        version=VERSION,
        openapi_version="3.1.0",
        tags=[{"name": "images"}],  # the page shows it first, and the others as they come
        plugins=[MarshmallowPlugin(schema_name_resolver=_name_schema)],
        info={"description": _DESCRIPTION, "license": {"name": "MIT", "identifier": "MIT"}},
    )
    if app.config["API_KEYS"] == "on":
        for name, scheme in _KEY_SCHEMES.items():
            spec.components.security_scheme(name, dict(scheme))
    for rule in app.url_map.iter_rules():
        operation = _OPERATIONS.get(app.view_functions[rule.endpoint])
        if operation is not None:
            _add_operation(spec, rule, operation, app.view_functions[rule.endpoint].__doc__ or "")
    found: dict[str, Any] = spec.to_dict()
    return found


def _name_schema(schema: Schema | type[Schema]) -> str:
    kind = schema if isinstance(schema, type) else type(schema)
    return kind.__name__.strip("_").removesuffix("Schema")


def _add_operation(spec: "APISpec", rule: Rule, operation: Operation, text: str) -> None:
    refusals = _list_refusals(rule)
    answers = {
        str(status): _describe_answer(answer, "application/json")
        for status, answer in operation.answers.items()
    }
    described: dict[str, Any] = {
        "operationId": rule.endpoint.replace(".", "_"),
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": re.sub(r"\s*\n\s*", " ", text.partition("\n\nRaises:")[0]).strip(),
        "parameters": [
            dict(parameter)
            for parameter in operation.parameters
            if parameter["in"] != "path" or parameter["name"] in rule.arguments
        ],
        "responses": {**answers, **_describe_errors(operation, refusals)},
    }
    if "missing-key" in refusals:
        described["security"] = [{name: []} for name in _KEY_SCHEMES]
    if body := operation.body():
        content = {kind: dict(media) for kind, media in body.items()}
        described["requestBody"] = {"required": True, "content": content}
    path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
    for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
        spec.path(path=path, operations={method.lower(): described})


def _describe_answer(answer: Answer, content_type: str) -> dict[str, Any]:
    content: dict[str, Any] = {
        kind: {"schema": {"type": "string"}, "example": example}
        for kind, example in answer.others.items()
    }
    if answer.schema is not None:
        example = answer.example() if callable(answer.example) else answer.example
        content[content_type] = {"schema": answer.schema, "example": example}
    return {"description": answer.description, **({"content": content} if content else {})}


def _list_refusals(rule: Rule) -> list[str]:
    """List the problems that an operation may end with before its view is called."""
    from tumorapp.security import SAFE_METHODS

    feature = feature_of(current_app, rule.endpoint)
    refusals = []
    if current_app.config["API_KEYS"] == "on" and feature.needs_key:
        refusals += ["missing-key", "invalid-key"]
    if (rule.methods or set()) - SAFE_METHODS:
        refusals.append("cross-site")
    if current_app.config["RATE_LIMIT"] is not None and feature.limited:
        refusals.append("rate-limited")
    return refusals


def _describe_errors(operation: Operation, refusals: Sequence[str]) -> dict[str, Any]:
    """Describe an operation's errors by status, with one of each kind as its examples."""
    shape = operation.error_shape
    by_status: dict[int, list[Kind]] = {}
    for code in (*refusals, *operation.problems, "overloaded", "internal-error"):
        kind = KINDS[code]
        by_status.setdefault(int(kind.status or 0), []).append(kind)
    return {
        str(status): {
            "description": f"{'; '.join(dict.fromkeys(kind.title for kind in kinds))}.",
            "content": {
                shape.content_type: {
                    "schema": shape.schema,
                    "examples": {
                        kind.code: {"summary": kind.title, "value": shape.write(kind)}
                        for kind in kinds
                    },
                }
            },
        }
        for status, kinds in by_status.items()
    }
