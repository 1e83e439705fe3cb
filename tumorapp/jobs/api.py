"""The jobs' part of the REST API."""

import io
import logging
import sqlite3
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, current_app, request, url_for
from werkzeug.exceptions import HTTPException

from brainscan import Problem
from tumorapp.api import examples
from tumorapp.api.openapi import MODEL_PROBLEMS, OPTION_PROBLEMS, Answer, Operation, document
from tumorapp.api.schemas import read_options, refuse_option
from tumorapp.catalog import Catalog
from tumorapp.jobs import schemas
from tumorapp.jobs.files import create_images, find_images
from tumorapp.jobs.material import receive
from tumorapp.jobs.runner import Jobs, describe_fault
from tumorapp.jobs.store import Job
from tumorapp.prediction_table import fill_row, open_table
from tumorapp.problems import answer_problem

_FORMATS = {"json": "application/json", "csv": "text/csv"}

logger = logging.getLogger(__name__)
blueprint = Blueprint("jobs", __name__, url_prefix="/api/jobs")


@blueprint.post("")
@document(
    Operation(
        summary="Submit a job",
        tag="jobs",
        answers={202: Answer("The job, which waits.", schemas.JobSchema, schemas.NEW_JOB)},
        problems=(
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
        body=lambda: schemas.BODY,
        parameters=[examples.MODEL_PARAMETER],
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
            raise refuse_option("heatmap", "1", ["heatmap: 0, as a job has no heat maps"])
        catalog: Catalog = current_app.extensions["catalog"]
        card = catalog.get(options.model).card
        fields = {"archive": material.archive, "model": card.name, "version": str(card.version)}
        if not jobs.store.add(job_id, material.scans, jobs.most, **fields):
            raise _too_many(jobs)
    jobs.start()
    described = _describe(_find(job_id))
    return described, 202, {"Location": described["links"]["self"]}


def _too_many(jobs: Jobs) -> Problem:
    return Problem("too-many-jobs", accepted=[f"jobs: at most {jobs.most}"], most=jobs.most)


@blueprint.get("/<job>")
@document(
    Operation(
        summary="Show a job",
        tag="jobs",
        answers={200: Answer("The job.", schemas.JobSchema, schemas.JOB)},
        problems=("unknown-job", "jobs-unavailable"),
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
                schemas.show_results,
                others={"text/csv": schemas.RESULTS_TABLE},
            )
        },
        problems=("invalid-option", "unknown-job", "unfinished-job", "jobs-unavailable"),
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
        raise Problem("unfinished-job", done=found.done, total=found.total)
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
        problems=("unknown-job", "jobs-unavailable"),
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
    return answer_problem(Problem("jobs-unavailable"))


def _jobs() -> Jobs:
    jobs: Jobs = current_app.extensions["jobs"]
    return jobs


def _find(job_id: str) -> Job:
    jobs = _jobs()
    job = jobs.store.find(job_id)
    if job is None:
        raise Problem("unknown-job", hours=jobs.hours)
    return job


def _choose_format() -> str:
    chosen = request.args.get("format")
    if chosen is None:
        best = request.accept_mimetypes.best_match(list(_FORMATS.values()))
        return "csv" if best == _FORMATS["csv"] else "json"
    if chosen not in _FORMATS:
        raise refuse_option("format", chosen, tuple(_FORMATS))
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
        row = {"file": found["filename"], "model": job.model, "version": job.version}
        writer.writerow(row | fill_row(found))
    headers = {"Content-Disposition": "attachment; filename=results.csv"}
    return Response(text.getvalue(), content_type="text/csv; charset=utf-8", headers=headers)
