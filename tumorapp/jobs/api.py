"""The jobs' part of the REST API."""

import io
import json
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from flask import Blueprint, Response, current_app, request, url_for
from werkzeug.exceptions import HTTPException

from brainscan import Problem
from tumorapp.api.openapi import MODEL_PROBLEMS, OPTION_PROBLEMS, Answer, Operation
from tumorapp.api.options import FILE, ModelOptionSchema, read_options, refuse_option
from tumorapp.api.predict import show_answer
from tumorapp.api.schemas import ANSWER, describe_message
from tumorapp.catalog import get_catalog
from tumorapp.jobs import schemas
from tumorapp.jobs.job import Job
from tumorapp.jobs.material import receive
from tumorapp.jobs.runner import Jobs
from tumorapp.logs import get_fields
from tumorapp.prediction_table import list_rows, open_table
from tumorapp.problems import answer_problem
from tumorapp.uploads import ZIP_TYPES

_FORMATS = {"json": "application/json", "csv": "text/csv", "ndjson": "application/x-ndjson"}
_SHORTEST_LOOK, _LONGEST_LOOK = 0.1, 1.0  # seconds between two looks for results
# After which an empty line is sent: proxies and clients give up a connection that says nothing.
SECONDS_OF_SILENCE = 10.0

blueprint = Blueprint("jobs", __name__, url_prefix="/api/jobs")


@blueprint.post("")
@Operation(
    "jobs",
    {202: Answer("The job was accepted.", schemas.JobSchema, schemas.JOB)},
    (
        "missing-image",
        *OPTION_PROBLEMS,
        "mixed-job",
        "job-too-large",
        "unsupported-body",
        "unreadable-archive",
        "empty-archive",
        "encrypted-archive",
        "unsupported-archive",
        "too-many-jobs",
        *MODEL_PROBLEMS,
        "jobs-unavailable",
    ),
    body=lambda: {
        "multipart/form-data": {"schema": schemas.JobFormSchema},
        ZIP_TYPES[0]: {"schema": FILE},
    },
    query=ModelOptionSchema,
)
def submit() -> tuple[dict[str, Any], int, dict[str, str]]:
    """Submit a job.

    Send many images, or a ZIP of them; they are predicted in the background, the DICOM files of a
    series together. A file that cannot be read gets an error as its result, and the others are
    predicted. The images are kept until the job is done, fails or is cancelled; the results are
    kept some hours longer.
    """
    jobs = _jobs()
    with jobs.store.create() as (job_id, file):
        material = receive(request, file, jobs.limits)
        options = read_options(material.options, ModelOptionSchema)
        card = get_catalog().get(options.model).card
        known = get_fields()
        job = Job(
            job_id,
            request_id=known.get("request_id"),
            key=known.get("key"),
            archive=material.archive,
            model=card.name,
            version=str(card.version),
            created=time.time(),
            total=len(material.scans),
        )
        if not jobs.store.add(job, file, material.scans, jobs.most):
            raise Problem("too-many-jobs", accepted=[f"jobs: at most {jobs.most}"], most=jobs.most)
    jobs.start()
    described = _describe(_find(job_id))
    return described, 202, {"Location": described["links"]["self"]}


@blueprint.get("/<job>")
@Operation(
    "jobs",
    {200: Answer("The job.", schemas.JobSchema, schemas.JOB)},
    ("unknown-job", "jobs-unavailable"),
)
def show(job: str) -> dict[str, Any]:
    """Show a job and its progress."""
    return _describe(_find(job))


@blueprint.get("/<job>/results")
@Operation(
    "jobs",
    {200: Answer("The results.", ANSWER, show_answer, others=list(_FORMATS.values())[1:])},
    ("invalid-option", "unknown-job", "unfinished-job", "jobs-unavailable"),
    query=schemas.FormatSchema,
)
def show_results(job: str) -> dict[str, Any] | Response:
    """Get a job's results.

    There is a prediction for each picture and each series, in the order of their first files, and
    an error for each file that could not be predicted. A job that failed as a whole has the
    results it had until then.

    NDJSON comes while the job runs: a line for each of these, with the model and its version, as
    soon as there is a result, and an empty line now and then while none comes. A line without a
    file name says why there are no more. If the model has a new version before the job is done,
    its results begin again with the first file. CSV has a row for each of these and, below that of
    a series, one for each slice.
    """
    wanted = _choose_format()
    found = _find(job)
    if wanted == "ndjson":
        gone = describe_message(_refuse_unknown().message)
        # nginx would keep the lines until it has many.
        headers = {"X-Accel-Buffering": "no"}
        return Response(_stream(_jobs(), found, gone), mimetype=_FORMATS[wanted], headers=headers)
    if found.finished is None:
        raise Problem("unfinished-job", done=found.done, total=found.total)
    outcomes = list(chain.from_iterable(_jobs().store.read_outcomes(found)))
    if wanted == "csv":
        return _write_table(found, outcomes)
    return {"model": found.model, "version": found.version, "predictions": outcomes}


@blueprint.delete("/<job>")
@Operation("jobs", {204: Answer("The job was erased.")}, ("unknown-job", "jobs-unavailable"))
def erase(job: str) -> Response:
    """Erase a job.

    Its images and results are erased. If it is not done, it is cancelled.
    """
    _jobs().store.erase(_find(job).id)
    return Response(status=204)


@blueprint.errorhandler(OSError)
@blueprint.errorhandler(sqlite3.Error)
def answer_unavailable(error: OSError | sqlite3.Error) -> Response | HTTPException:
    """Answer where the jobs' folder is full or broken or Redis is gone, and log why."""
    _jobs().note_fault(error)
    return answer_problem(Problem("jobs-unavailable"))


def _jobs() -> Jobs:
    jobs: Jobs = current_app.extensions["jobs"]
    return jobs


def _find(job_id: str) -> Job:
    job = _jobs().store.find(job_id)
    if job is None:
        raise _refuse_unknown()
    return job


def _refuse_unknown() -> Problem:
    return Problem("unknown-job", hours=_jobs().hours)


def _choose_format() -> str:
    chosen = request.args.get("format")
    if chosen is None:
        names = {kind: name for name, kind in _FORMATS.items()}
        return names[request.accept_mimetypes.best_match(list(names), _FORMATS["json"])]
    if chosen not in _FORMATS:
        raise refuse_option("format", chosen, tuple(_FORMATS))
    return chosen


def _stream(jobs: Jobs, job: Job | None, gone: dict[str, str]) -> Iterator[str]:
    """Give the lines of a job's results until it ends, and why where that is not for being done."""
    sent, version, pause, last = 0, "", _SHORTEST_LOOK, time.monotonic()
    try:
        while job is not None:
            if job.version != version:
                sent, version = 0, job.version
            outcomes = jobs.store.read_outcomes(job, sent) if job.done > sent else []
            for outcome in chain.from_iterable(outcomes):
                yield _write_line({"model": job.model, "version": version, **outcome})
            if job.finished is not None:
                if job.error is not None:
                    yield _write_line({"error": job.error})
                return
            if outcomes:
                sent, pause, last = sent + len(outcomes), _SHORTEST_LOOK, time.monotonic()
            elif time.monotonic() - last > SECONDS_OF_SILENCE:
                last = time.monotonic()
                yield "\n"
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_LOOK)
            job = jobs.store.find(job.id)
        yield _write_line({"error": gone})
    except (OSError, sqlite3.Error) as error:
        jobs.note_fault(error)
        yield _write_line({"error": describe_message(Problem("jobs-unavailable").message)})


def _write_line(fields: dict[str, Any]) -> str:
    return f"{json.dumps(fields)}\n"


def _describe(job: Job) -> dict[str, Any]:
    described: dict[str, Any] = {
        name: getattr(job, name)
        for name in ("id", "state", "model", "version", "total", "done", "failed")
    }
    described["created"] = _write_time(job.created)
    described["finished"] = job.finished and _write_time(job.finished)
    described["expires"] = _write_time((job.finished or job.created) + _jobs().hours * 3600)
    if job.error is not None:
        described["error"] = job.error
    described["links"] = {
        "self": url_for("jobs.show", job=job.id),
        "results": url_for("jobs.show_results", job=job.id),
    }
    return described


def _write_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _write_table(job: Job, outcomes: list[dict[str, Any]]) -> Response:
    classes = next((found["probabilities"] for found in outcomes if "error" not in found), ())
    text = io.StringIO()
    writer = open_table(list(classes), text, series=True)
    for found in outcomes:
        known = {"model": job.model, "version": job.version}
        writer.writerows(known | row for row in list_rows(found))
    headers = {"Content-Disposition": "attachment; filename=results.csv"}
    return Response(text.getvalue(), content_type="text/csv; charset=utf-8", headers=headers)
