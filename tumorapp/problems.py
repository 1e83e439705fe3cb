"""How an error is answered: its one handler, which chooses the shape by the request's path.

A page for people, the Open Inference Protocol's own form below /v2, problem+json (RFC 9457)
elsewhere. What werkzeug raises (404, 405, 413, …) and every unforeseen exception, as a 500 that
says nothing of the inside, become a `Problem` first.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from flask import Flask, Request, Response, current_app, g, json, render_template, request
from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed

from brainscan.messages import Problem
from tumorapp.feature import Feature
from tumorapp.language.translation import tell, translate

PROTOCOL_PREFIX = "/v2"
PROBLEM_JSON = "application/problem+json"


def init_app(app: Flask) -> None:
    """Answer every error of an application this way; unforeseen ones are logged by Flask."""
    app.register_error_handler(Problem, answer_problem)
    app.register_error_handler(HTTPException, answer_problem)


def answer_problem(error: Problem | HTTPException) -> Response | HTTPException:
    """Answer an error in the shape that the client reads."""
    if isinstance(error, HTTPException) and (error.code or 0) < HTTPStatus.BAD_REQUEST:
        return error  # a redirect, or a response that was raised: not a problem
    problem = _to_problem(error)
    g.problem = problem.code  # for those who count
    fields = describe(problem)
    if _wants_page(request):
        response = Response(render_template("error.html", problem=fields), mimetype="text/html")
    elif f"{request.path}/".startswith(f"{PROTOCOL_PREFIX}/"):
        response = Response(json.dumps(describe_for_protocol(problem)), mimetype="application/json")
    else:
        response = Response(json.dumps(fields), mimetype=PROBLEM_JSON)
    response.status_code = problem.status
    if isinstance(error, HTTPException):  # such as Allow, Retry-After
        for name, value in error.get_headers(request.environ):
            if name not in ("Content-Type", "Content-Length"):
                response.headers[name] = value
    response.headers.update(problem.headers)
    return response


def describe_on_page(error: Problem | HTTPException) -> tuple[dict[str, Any], int]:
    """Give what a page says of an error next to its form, and the status that it answers with.

    Raises:
        Problem, HTTPException: the error, for a client that does not read HTML.
    """
    if not _wants_page(request):
        raise error
    problem = _to_problem(error)
    return describe(problem), problem.status


def describe(problem: Problem) -> dict[str, Any]:
    """Give the fields of RFC 9457, the code, and what would have been accepted where it is known.

    Its words are in the language of the request: a program's are English.
    """
    fields = {
        "type": f"urn:problem-type:tumorapp:{problem.code}",
        "code": problem.code,
        "title": translate(problem.message.kind.title),
        "status": int(problem.status),
        "detail": tell(problem.message),
    }
    return {**fields, "accepted": list(problem.accepted)} if problem.accepted else fields


def describe_for_protocol(problem: Problem) -> dict[str, str]:
    """Give the fields of an error of the Open Inference Protocol, and its code."""
    return {"error": str(problem), "code": problem.code}


def _to_problem(error: Problem | HTTPException) -> Problem:
    """Give the problem that an error of werkzeug means for the one who sent the request."""
    if isinstance(error, Problem):
        return error
    status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    if status == HTTPStatus.NOT_FOUND:
        return Problem("not-found", path=request.path)
    if isinstance(error, MethodNotAllowed):
        methods = sorted(error.valid_methods or ())
        return Problem(
            "method-not-allowed",
            accepted=methods,
            method=request.method,
            path=request.path,
            methods=", ".join(methods),
        )
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return refuse_size()
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        reason = error.description or status.description or f"{status.phrase}."
        problem = Problem("bad-request", reason=reason)
    else:
        problem = Problem("internal-error")
    problem.status = status
    return problem


def refuse_size() -> Problem:
    """Say how much one request may hold."""
    megabytes, images = current_app.config["MAX_UPLOAD_MB"], current_app.config["MAX_IMAGES"]
    accepted: Sequence[str] = (f"at most {megabytes} MB", f"images: at most {images}")
    return Problem("request-too-large", accepted=accepted, megabytes=megabytes, images=images)


def _wants_page(received: Request) -> bool:
    """Tell whether a request gets a page: outside the API, from a client that reads HTML."""
    if current_app.config["PAGES"] == "off":
        return False
    if f"{received.path}/".startswith(("/api/", f"{PROTOCOL_PREFIX}/")):
        return False
    if isinstance(received.routing_exception, BadRequest):
        return False  # the host's name is not valid, so that the page's links cannot be made
    offered = [PROBLEM_JSON, "application/json", "text/html"]
    return received.accept_mimetypes.best_match(offered) == "text/html"


FEATURE = Feature("problems", init_app=init_app)
