"""The OpenAPI document, made from the views as they are, and the page that shows it.

A view says what OpenAPI cannot see with `@Operation(…)` above it; its docstring is the text. The
document is made when it is first asked for: neither the start nor any other request pays for it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Blueprint, Flask, Response, current_app, render_template, request
from marshmallow import Schema
from werkzeug.routing import Rule

from brainscan.messages import KINDS, Problem
from tumorapp.api.schemas import ErrorSchema, ProblemSchema
from tumorapp.feature import Feature, Menu, feature_of
from tumorapp.problems import PROBLEM_JSON, PROTOCOL_PREFIX, describe, describe_for_protocol

if TYPE_CHECKING:
    from apispec import APISpec

VERSION = "0.1.0"
_DESCRIPTION = """\
Predicts what a brain MRI slice shows, with probabilities and a heat map.
For research and teaching. **Not a medical device, not for diagnosis.**

To send images, use the operations under `/api`. Those under `/v2` implement the
[Open Inference Protocol](https://github.com/kserve/open-inference-protocol) (KServe V2), so clients
written for it work unchanged."""

_KEY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
# What stands between slashes in the paths: a description and an example of each.
_PATH_PARAMETERS = {
    "job": ("The job's id.", "nX0gk1aUV9uXr5m0Zq1c2Q"),
    "name": ("The model's name.", "lesion-lite0"),
    "version": ("The version of the model that is served.", "2"),
}

View = TypeVar("View", bound=Callable[..., Any])

# The codes of the problems that a file may have, and an operation that predicts images.
FILE_PROBLEMS = (
    "image-too-large",
    "empty-file",
    "not-an-image",
    "format-not-read",
    "archive-not-read",
    "git-lfs-pointer",
    "web-page",
    "damaged-image",
    "image-too-complex",
    "blank-image",
    "image-too-small",
)
ARCHIVE_PROBLEMS = (
    "unreadable-archive",
    "empty-archive",
    "encrypted-archive",
    "unsupported-archive",
    "archive-too-large",
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
    "invalid-json",
    "not-base64",
    "unsupported-body",
    "untyped-body",
    *FILE_PROBLEMS,
    *MODEL_PROBLEMS,
    "audit-unavailable",
)


@dataclass(frozen=True)
class Answer:
    """What an operation answers with one status.

    Attributes:
        description: when it is given.
        schema: of its JSON; None where it has none.
        example: such a JSON, or a function that gives one in the application's context.
        others: the types of what is given instead of JSON.
    """

    description: str
    schema: type[Schema] | dict[str, Any] | None = None
    example: Any = None
    others: Sequence[str] = ()


@dataclass(frozen=True)
class Operation:
    """What a view takes and gives; used as a decorator, which leaves the view as it is.

    Attributes:
        tag: the group it is shown in.
        answers: by status, those that are not errors.
        problems: the codes of those it may end with; an internal error is always possible.
        body: gives what it takes, by content type: OpenAPI's media type objects.
        query: the parameters of its query string.
    """

    tag: str
    answers: Mapping[int, Answer]
    problems: Sequence[str] = ()
    body: Callable[[], Mapping[str, Any]] | None = None
    query: type[Schema] | None = None

    def __call__(self, view: View) -> View:
        """Note that this describes a view."""
        _OPERATIONS[view] = self
        return view


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


@blueprint.get("/openapi.json")
@Operation(
    "service",
    {200: Answer("This document.", {"type": "object"}, {"openapi": "3.1.0", "info": {}})},
)
def show_document() -> Response:
    """Get this document.

    It describes every operation in OpenAPI 3.1.
    """
    # Relative to the document's own address, so that no proxy has to tell its name.
    servers = {"servers": [{"url": request.root_path}]} if request.root_path else {}
    text = current_app.json.dumps(_get_document() | servers)
    return Response(text, mimetype="application/json")


@page_blueprint.get("")
def show_page() -> str:
    """List the operations, on a page where they can be tried."""
    return render_template("api.html", paths=_get_document()["paths"])


def _get_document() -> dict[str, Any]:
    """Give the document, which is made once."""
    extensions = current_app.extensions
    if "openapi" not in extensions:
        extensions["openapi"] = build_document(current_app)
    document: dict[str, Any] = extensions["openapi"]
    return document


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
        view = app.view_functions[rule.endpoint]
        if operation := _OPERATIONS.get(view):
            _add_operation(spec, rule, operation, view.__doc__ or "")
    found: dict[str, Any] = spec.to_dict()
    return found


def _name_schema(schema: Schema | type[Schema]) -> str:
    kind = schema if isinstance(schema, type) else type(schema)
    return kind.__name__.strip("_").removesuffix("Schema")


def _add_operation(spec: "APISpec", rule: Rule, operation: Operation, docstring: str) -> None:
    summary, _, text = docstring.partition("\n\nRaises:")[0].partition("\n\n")
    refusals = _list_refusals(rule)
    described: dict[str, Any] = {
        "operationId": rule.endpoint.replace(".", "_"),
        "tags": [operation.tag],
        "summary": summary.rstrip("."),
        "description": " ".join((text or summary).split()),
        "parameters": [_describe_path_parameter(name) for name in sorted(rule.arguments)],
        "responses": {
            **{str(status): _describe(one) for status, one in operation.answers.items()},
            **_describe_errors([*refusals, *operation.problems], rule),
        },
    }
    if operation.query:
        described["parameters"].append({"in": "query", "schema": operation.query})
    if "missing-key" in refusals:
        described["security"] = [{name: []} for name in _KEY_SCHEMES]
    if operation.body:
        described["requestBody"] = {"required": True, "content": dict(operation.body())}
    path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
    for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
        spec.path(path=path, operations={method.lower(): described})


def _describe_path_parameter(name: str) -> dict[str, Any]:
    description, example = _PATH_PARAMETERS[name]
    return {
        "in": "path",
        "name": name,
        "required": True,
        "description": description,
        "schema": {"type": "string"},
        "example": example,
    }


def _describe(answer: Answer) -> dict[str, Any]:
    content: dict[str, Any] = {kind: {"schema": {"type": "string"}} for kind in answer.others}
    if answer.schema is not None:
        example = answer.example() if callable(answer.example) else answer.example
        shown = {} if example is None else {"example": example}
        # apispec puts references into it.
        content["application/json"] = {"schema": deepcopy(answer.schema), **shown}
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


def _describe_errors(codes: Sequence[str], rule: Rule) -> dict[str, Any]:
    """Describe an operation's errors by status, with one of each kind as its examples."""
    by_status: dict[str, list[Problem]] = {}
    for code in (*codes, "overloaded", "internal-error"):
        values: Any = {name: f"<{name}>" for name in re.findall(r"%\((\w+)\)s", KINDS[code].text)}
        problem = Problem(code, **values)
        by_status.setdefault(str(int(problem.status)), []).append(problem)
    for_protocol = rule.rule.startswith(PROTOCOL_PREFIX)
    content_type = "application/json" if for_protocol else PROBLEM_JSON
    write = describe_for_protocol if for_protocol else describe
    described = {}
    for status, problems in by_status.items():
        titles = dict.fromkeys(one.message.kind.title for one in problems)
        media = {
            "schema": ErrorSchema if for_protocol else ProblemSchema,
            "examples": {one.code: {"value": write(one)} for one in problems},
        }
        described[status] = {
            "description": f"{'; '.join(titles)}.",
            "content": {content_type: media},
        }
    return described
