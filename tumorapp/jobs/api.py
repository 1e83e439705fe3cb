"""The jobs' part of the REST API."""

import io
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
from tumorapp.jobs.files import create_file
from tumorapp.jobs.material import receive
from tumorapp.jobs.service import EXTENSION, Jobs
from tumorapp.jobs.store import UNFINISHED, Job
from tumorapp.prediction_table import fill_row, open_table
from tumorapp.problems import answer_problem

_FORMATS = {"json": "application/json", "csv": "text/csv"}

blueprint = Blueprint("jobs", __name__, url_prefix="/api/jobs")


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
        parameters=schemas.SUBMIT_PARAMETERS,
    )
)
def submit() -> tuple[dict[str, Any], int, dict[str, str]]:
    """Take many images, or a ZIP of them, and predict them one after another.

    The images are kept for the job, then erased: as soon as it is done, fails or is cancelled. Its
    results are kept some hours longer. Names are kept as names only. A file that cannot be read
    becomes an entry with an error, and the others go on.
    """
    jobs = _jobs()
    queue = jobs.start()
    if jobs.store.count_unfinished() >= jobs.most:
        raise _refuse_another(jobs)
    with create_file(jobs.folder) as (job_id, file):
        material = receive(request, file, jobs.limits)
        options = read_options(material.options)
        if options.heatmap:
            raise InvalidOptionError("A job gives no heat maps. Leave out the option heatmap.")
        catalog: Catalog = current_app.extensions["catalog"]
        card = catalog.get(options.model).card
        added = jobs.store.add(
            job_id,
            material.scans,
            jobs.most,
            archive=material.archive,
            model=card.name,
            version=str(card.version),
        )
        if not added:
            raise _refuse_another(jobs)
    queue.put(job_id)
    described = _describe(jobs, jobs.find(job_id))
    return described, 202, {"Location": described["links"]["self"]}


def _refuse_another(jobs: Jobs) -> TooManyJobsError:
    return TooManyJobsError(
        f"Jobs that are not done yet: {jobs.most}, which is as many as are accepted at once. Try "
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
    jobs = _jobs()
    found = jobs.find(job)
    if found.state in UNFINISHED:
        jobs.start()  # this worker helps, if it does not yet: the other may have ended
    return _describe(jobs, found)


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
    """Give what became of each file, in their order; as CSV where that is asked for.

    Those of a job that failed as a whole are the ones it had until then.
    """
    wanted = _choose_format()
    jobs = _jobs()
    found = jobs.find(job)
    if found.state in UNFINISHED:
        raise UnfinishedJobError(
            f"{found.done} of {found.total} files are done. Ask again when the job's state is done."
        )
    outcomes = jobs.store.read_outcomes(job)
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
    _jobs().erase(job)
    return Response(status=204)


@blueprint.errorhandler(OSError)
@blueprint.errorhandler(sqlite3.Error)
def answer_unavailable(error: Exception) -> Response | HTTPException:
    """Answer where the jobs' folder is full or broken."""
    return answer_problem(_jobs().explain(error))


def _jobs() -> Jobs:
    jobs: Jobs = current_app.extensions[EXTENSION]
    return jobs


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


def _describe(jobs: Jobs, job: Job) -> dict[str, Any]:
    links = {
        "self": url_for("jobs.show", job=job.id),
        "results": url_for("jobs.show_results", job=job.id),
    }
    return {
        "id": job.id,
        "state": job.state,
        "model": job.model,
        "version": job.version,
        "total": job.total,
        "done": job.done,
        "failed": job.failed,
        "created": _write_time(job.created),
        "finished": job.finished and _write_time(job.finished),
        "expires": _write_time((job.finished or job.created) + jobs.hours * 3600),
        **({"error": job.error} if job.error else {}),
        "links": links,
    }


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
