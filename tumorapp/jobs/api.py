"""The jobs' part of the REST API."""

import io
import logging
import sqlite3
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, current_app, request, url_for
from werkzeug.exceptions import HTTPException

from tumorapp.api.openapi import Answer, Operation, document
from tumorapp.api.schemas import read_options
from tumorapp.catalog import Catalog
from tumorapp.errors import (
    DefaultModelError,
    InvalidOptionError,
    MissingImageError,
    NoModelError,
    UnknownModelError,
    UnsupportedBodyError,
    at_most,
)
from tumorapp.jobs import schemas
from tumorapp.jobs.errors import (
    JobsUnavailableError,
    OversizedJobError,
    TooManyJobsError,
    UnfinishedJobError,
    UnknownJobError,
    UnreadableArchiveError,
)
from tumorapp.jobs.files import create_images, find_images
from tumorapp.jobs.material import receive
from tumorapp.jobs.runner import Jobs, describe_fault
from tumorapp.jobs.store import Job
from tumorapp.prediction_table import fill_row, open_table
from tumorapp.problems import answer_problem

_FORMATS = {"json": "application/json", "csv": "text/csv"}

logger = logging.getLogger(__name__)
blueprint = Blueprint("jobs", __name__)


@blueprint.post("")
@document(
    Operation(
        summary="Submit a job",
        tag="jobs",
        answers={202: Answer("The job, which waits.", schemas.JobSchema, schemas.NEW_JOB)},
        errors=(
            MissingImageError,
            InvalidOptionError,
            UnknownModelError,
            OversizedJobError,
            UnsupportedBodyError,
            UnreadableArchiveError,
            TooManyJobsError,
            NoModelError,
            DefaultModelError,
            JobsUnavailableError,
        ),
        body=schemas.BODY,
        parameters=[schemas.MODEL_PARAMETER],
    )
)
def submit() -> tuple[dict[str, Any], int, dict[str, str]]:
    """Take many images, or a ZIP of them, and predict them in the background.

    The images are kept until the job is done, fails or is cancelled, the results some hours longer.
    File names are kept as names only. A file that cannot be read becomes an entry with an error;
    the others are predicted.
    """
    jobs = _jobs()
    if len(jobs.store.list_unfinished()) >= jobs.most:
        raise _too_many(jobs)
    with create_images(jobs.folder) as (job_id, file):
        material = receive(request, file, jobs.limits)
        file.flush()  # so that a full disk shows before the job is accepted
        options = read_options(material.options)
        if options.heatmap:
            raise InvalidOptionError("A job gives no heat maps. Leave out the option heatmap.")
        catalog: Catalog = current_app.extensions["catalog"]
        card = catalog.get(options.model).card
        fields = {"archive": material.archive, "model": card.name, "version": str(card.version)}
        if not jobs.store.add(job_id, material.scans, jobs.most, **fields):
            raise _too_many(jobs)
    jobs.start()
    described = _describe(_find(job_id))
    return described, 202, {"Location": described["links"]["self"]}


def _too_many(jobs: Jobs) -> TooManyJobsError:
    return TooManyJobsError(
        f"{jobs.most} jobs are waiting or running, which is as many as are accepted at once. Try "
        "again when one of them is done.",
        [f"{at_most(jobs.most, 'job')} at once"],
    )


@blueprint.get("/<job>")
@document(
    Operation(
        summary="Show a job",
        tag="jobs",
        answers={200: Answer("The job.", schemas.JobSchema, schemas.JOB)},
        errors=(UnknownJobError, JobsUnavailableError),
        parameters=[schemas.ID_PARAMETER],
    )
)
def show(job: str) -> dict[str, Any]:
    """Tell how far a job is."""
    return _describe(_find(job))


@blueprint.get("/<job>/results")
@document(
    Operation(
        summary="Get a job's results",
        tag="jobs",
        answers={
            200: Answer(
                "The results.",
                schemas.JobResultsSchema,
                schemas.RESULTS,
                others={"text/csv": schemas.RESULTS_TABLE},
            )
        },
        errors=(InvalidOptionError, UnknownJobError, UnfinishedJobError, JobsUnavailableError),
        parameters=[schemas.ID_PARAMETER, schemas.FORMAT_PARAMETER],
    )
)
def show_results(job: str) -> dict[str, Any] | Response:
    """Give the outcome of each file, in their order; as CSV where that is asked for.

    A job that failed as a whole has those it had until then.
    """
    wanted = _choose_format()
    found = _find(job)
    if found.finished is None:
        raise UnfinishedJobError(
            f"{found.done} of {found.total} files are done. Ask again when the job's state is done."
        )
    outcomes = _jobs().store.read_outcomes(job)
    if wanted == "csv":
        return _write_table(found, outcomes)
    return {"model": found.model, "version": found.version, "predictions": outcomes}


@blueprint.delete("/<job>")
@document(
    Operation(
        summary="Erase a job",
        tag="jobs",
        answers={204: Answer("It is erased.")},
        errors=(UnknownJobError, JobsUnavailableError),
        parameters=[schemas.ID_PARAMETER],
    )
)
def erase(job: str) -> Response:
    """Cancel a job that is not done, and erase its images and results."""
    jobs = _jobs()
    find_images(jobs.folder, _find(job).id).unlink(missing_ok=True)
    jobs.store.erase(job)
    return Response(status=204)


@blueprint.errorhandler(OSError)
@blueprint.errorhandler(sqlite3.Error)
def answer_unavailable(error: OSError | sqlite3.Error) -> Response | HTTPException:
    """Answer where the jobs' folder is full or broken, and log why."""
    logger.error("Jobs cannot be kept in %s: %s", _jobs().folder, describe_fault(error))
    problem = JobsUnavailableError(
        "Jobs cannot be kept here at the moment. Send the images to /api/predict, a few at a time. "
        "The service's log says why."
    )
    return answer_problem(problem)


def _jobs() -> Jobs:
    jobs: Jobs = current_app.extensions["jobs"]
    return jobs


def _find(job_id: str) -> Job:
    jobs = _jobs()
    job = jobs.store.find(job_id)
    if job is None:
        raise UnknownJobError(
            f"There is no such job. One that has ended is erased after {jobs.hours} hours."
        )
    return job


def _choose_format() -> str:
    chosen = request.args.get("format")
    if chosen is None:
        best = request.accept_mimetypes.best_match(list(_FORMATS.values()))
        return "csv" if best == _FORMATS["csv"] else "json"
    if chosen not in _FORMATS:
        accepted = [f"format: {' or '.join(_FORMATS)}"]
        raise InvalidOptionError(
            f"The option format is {chosen[:100]!r}. Accepted: {accepted[0]}.", accepted
        )
    return chosen


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
    writer = open_table(list(classes), text)
    for found in outcomes:
        name = found.pop("filename")
        row: dict[str, object] = {"file": name, "model": job.model, "version": job.version}
        error = found.get("error")
        cells = {"error": error.removeprefix(f"{name}: ")} if error else fill_row(**found)
        writer.writerow(row | cells)
    headers = {"Content-Disposition": "attachment; filename=results.csv"}
    return Response(text.getvalue(), content_type="text/csv; charset=utf-8", headers=headers)
