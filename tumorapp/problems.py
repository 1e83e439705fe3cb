"""How an error is told: problem+json (RFC 9457) to programs, a page to people.

Everything werkzeug raises (404, 405, 413, …) and every unforeseen exception, as a 500 that says
nothing of the inside, takes the same shape as a `tumorapp.errors.ProblemError`.
"""

from dataclasses import asdict, dataclass
from http import HTTPStatus

from flask import Flask, Request, Response, current_app, json, render_template, request
from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed

from tumorapp.errors import ProblemError, at_most
from tumorapp.feature import Feature

_PAGE_HINT = " The page is at /."

# As RFC 9110 names them, and Python from 3.13 on: a title is not to change with Python's version.
_NAMES = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}


@dataclass(frozen=True)
class Problem:
    """An error as it is answered; the fields of RFC 9457, and what would have been accepted.

    Attributes:
        type: a name for this kind of problem that does not change; `about:blank` where the status
            says it all.
        title: the kind of problem, in a few words.
        status: the HTTP status, 400 to 599.
        detail: what was wrong with this request and what to do about it.
        accepted: what would have been accepted; may be empty.
    """

    type: str
    title: str
    status: int
    detail: str
    accepted: tuple[str, ...] = ()


def name_status(status: int) -> str:
    """Name an HTTP status, such as "Not Found" for 404."""
    return _NAMES.get(status) or HTTPStatus(status).phrase


def describe(error: ProblemError | HTTPException) -> Problem:
    """Describe an error for the one who sent the request."""
    if isinstance(error, ProblemError):
        kind = error.title.lower().replace(" ", "-")
        return Problem(
            type=f"urn:problem-type:tumorapp:{kind}",
            title=error.title,
            status=error.status,
            detail=error.detail,
            accepted=error.accepted,
        )
    status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    accepted = _list_accepted(error, status)
    return Problem("about:blank", name_status(status), status, _explain(error, status), accepted)


def _list_accepted(error: HTTPException, status: HTTPStatus) -> tuple[str, ...]:
    if isinstance(error, MethodNotAllowed):
        return tuple(sorted(error.valid_methods or ()))
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        config = current_app.config
        return f"at most {config['MAX_UPLOAD_MB']} MB", at_most(config["MAX_IMAGES"], "image")
    return ()


def _explain(error: HTTPException, status: HTTPStatus) -> str:
    if status == HTTPStatus.NOT_FOUND:
        return (
            f"There is nothing at {request.path}. Send scans to /api/predict, or list the models "
            f"at /api/models.{_PAGE_HINT if current_app.config['PAGES'] == 'on' else ''}"
        )
    if isinstance(error, MethodNotAllowed):
        methods = ", ".join(sorted(error.valid_methods or ()))
        return f"{request.method} is not possible at {request.path}. It accepts: {methods}."
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        config = current_app.config
        return (
            f"The request is too large. At most {config['MAX_UPLOAD_MB']} MB and "
            f"{config['MAX_IMAGES']} images are accepted at once, and short text fields beside "
            "them. Send fewer or smaller images."
        )
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return (
            "Something went wrong here, and it was not the request's fault. It has been logged. "
            "Try again, and tell whoever runs this service if it happens again."
        )
    return error.description or status.description or f"{name_status(status)}."


def wants_page(received: Request) -> bool:
    """Tell whether a request is answered with a page: outside the API, for who asks for HTML."""
    if current_app.config["PAGES"] == "off":
        return False
    if received.path == "/api" or received.path.startswith("/api/"):
        return False
    if isinstance(received.routing_exception, BadRequest):
        return False  # the host's name is not valid, so that the page's links cannot be made
    offered = ["application/problem+json", "application/json", "text/html"]
    return received.accept_mimetypes.best_match(offered) == "text/html"


def answer_problem(error: ProblemError | HTTPException) -> Response | HTTPException:
    """Answer an error in the shape that the client reads."""
    if isinstance(error, HTTPException) and (error.code or 0) < 400:
        return error  # a redirect, or a response that was raised: no problem at all
    problem = describe(error)
    if wants_page(request):
        response = Response(render_template("error.html", problem=problem), mimetype="text/html")
    else:
        fields = {name: value for name, value in asdict(problem).items() if value != ()}
        response = Response(json.dumps(fields), mimetype="application/problem+json")
    response.status_code = problem.status
    if isinstance(error, ProblemError):
        response.headers.update(error.headers)
    else:  # such as Allow, Retry-After
        for name, value in error.get_headers(request.environ):
            if name not in ("Content-Type", "Content-Length"):
                response.headers[name] = value
    return response


def init_app(app: Flask) -> None:
    """Answer every error of an application this way; unforeseen ones are logged by Flask."""
    app.register_error_handler(ProblemError, answer_problem)
    app.register_error_handler(HTTPException, answer_problem)


FEATURE = Feature("problems", init_app=init_app)
