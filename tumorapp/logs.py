"""The lines of the log: as text or JSON, each with the id of the request it belongs to.

Nothing that a client wrote is in them, but for a request id that is a short plain word: no file
names, no pixels, no paths, no query strings. gunicorn's master reads this module (see
`gunicorn.conf.py`), so it imports neither Flask nor anything heavy.
"""

import logging
import os
import re
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tumorapp.config import Setting, choice
from tumorapp.feature import Feature

if TYPE_CHECKING:
    from flask import Flask, Request, Response

    from brainscan import Answer

ID_HEADER = "X-Request-ID"
# Where a request's environment holds what its line in gunicorn's access log says of it.
ENVIRON_KEY = "tumorapp.request"

_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
# gunicorn's own messages that quote the client: they are cut after these words.
_QUOTING = ("Invalid request from", "Error handling request")

_fields: ContextVar[dict[str, Any] | None] = ContextVar("fields", default=None)


def name_route(received: "Request") -> str:
    """Name the rule that a request's path matched, such as /api/predict; never the path itself."""
    return received.url_rule.rule if received.url_rule is not None else "unmatched"


def name_method(received: "Request") -> str:
    """Name a request's method; an invented one is OTHER."""
    return received.method if received.method in _METHODS else "OTHER"


def init_app(app: "Flask") -> None:
    """Give each request of an application an id, and its answer the same; note what it was for."""
    from flask import request

    def begin() -> None:
        given = request.headers.get(ID_HEADER, "")
        known = _ACCEPTED_ID.fullmatch(given) is not None
        fields = {
            "request_id": given if known else uuid4().hex,
            "method": name_method(request),
            "route": name_route(request),
        }
        request.environ[ENVIRON_KEY] = fields
        _fields.set(fields)

    def add_id(response: "Response") -> "Response":
        if fields := _fields.get():
            response.headers[ID_HEADER] = fields["request_id"]
        return response

    def end(_: BaseException | None) -> None:
        _fields.set(None)

    def log_exception(error: Any) -> None:
        app.logger.error("Unforeseen error at %s.", name_route(request), exc_info=error)

    app.before_request(begin)
    app.after_request(add_id)
    app.teardown_request(end)
    app.log_exception = log_exception  # type: ignore[assignment, method-assign]  # Flask's names the path
    app.extensions["catalog"].observers.append(_note_predictions)


def note_sender(request_id: str | None, key: str | None) -> None:
    """Say for which request, and by whose key, this thread works on a job."""
    _fields.set({"request_id": request_id, "key": key} if request_id else None)


def get_fields() -> Mapping[str, Any]:
    """Give what is known of the request that is being answered: request_id, key and the like."""
    return _fields.get() or {}


def _note_predictions(found: "Sequence[Answer]", _: Mapping[str, float]) -> None:
    if fields := _fields.get():
        model = f"{found[0].card.name}/{found[0].card.version}"
        before = fields["images"] if fields.get("model") == model else 0
        fields |= {"model": model, "images": before + len(found)}


def describe_answer(
    environ: Mapping[str, Any], status: str | int, milliseconds: float
) -> dict[str, Any]:
    """Give the fields of a request's line in the access log.

    Args:
        environ: the request's, as WSGI has it.
        status: of its answer, such as "200 OK".
        milliseconds: from its head to the end of its answer.
    """
    fields = environ.get(ENVIRON_KEY, {})
    answer = {"status": int(str(status).split()[0]), "milliseconds": round(milliseconds, 2)}
    return {**fields, **answer}


def write_answer(fields: Mapping[str, Any]) -> str:
    """Write the fields of `describe_answer` as a line of text."""
    names = ("method", "route", "status", "model")
    words = [str(fields[name]) for name in names if name in fields]
    return f"{' '.join(words)} in {fields['milliseconds']} ms"


class RequestFilter(logging.Filter):
    """Adds the request's id to what is logged meanwhile, and cuts what quotes the client."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Pass every record on."""
        for words in _QUOTING:
            if str(record.msg).startswith(words):
                record.msg, record.args = f"{words} …", ()
        if not hasattr(record, "request_id") and (fields := _fields.get()):
            record.request_id = fields["request_id"]
        return True


class TextFormatter(logging.Formatter):
    """One line for people, as gunicorn writes them; it ends with the request's id."""

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s [%(process)d] [%(levelname)s] %(message)s", "[%Y-%m-%d %H:%M:%S %z]"
        )

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        """Write a record without its traceback."""
        line = super().formatMessage(record)
        request_id = getattr(record, "request_id", None)
        return f"{line} [{request_id}]" if request_id else line


def choose_formatter(name: str) -> logging.Formatter:
    """Give the formatter of a LOG_FORMAT: json or text.

    A line of JSON has time (ISO 8601, UTC), level, logger and message; one of a request also
    request_id, and its line in the access log method, route, status, milliseconds, model, images.
    """
    if name != "json":
        return TextFormatter()
    from pythonjsonlogger.json import JsonFormatter

    return JsonFormatter(
        "%(levelname)s %(name)s %(message)s",
        timestamp="time",
        rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
        rename_fields_keep_missing=False,
    )


def keep_standard_error(handlers: Iterable[logging.Handler]) -> None:
    """Keep this process's standard error for its log, of which every line has one form.

    What Python would write there (warnings, and the end of a thread) is logged. What a C library
    writes is dropped: a thread that read it could wait for the very thread that writes.

    Args:
        handlers: of the log; those that write to standard error go on to do so.
    """
    log = open(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: PTH123, SIM115  (open until the end)
    for handler in handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
            handler.setStream(log)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    logging.captureWarnings(True)
    threading.excepthook = _log_end_of_thread


def _log_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    error = ended.exc_value or ended.exc_type()
    logging.getLogger("tumorapp").error("A thread has ended.", exc_info=error)


FEATURE = Feature(
    "logs",
    init_app=init_app,
    settings=(Setting("LOG_FORMAT", "text", choice("text", "json")),),
)
