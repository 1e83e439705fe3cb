"""What can be wrong with a job; problems as those of `tumorapp.errors`."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar

from tumorapp.errors import ProblemError


class OversizedJobError(ProblemError):
    """The job has more bytes or more images than are accepted."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    title = "The job is too large"


class UnreadableArchiveError(ProblemError):
    """The archive is no ZIP that can be read, or there are no files in it."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    title = "The archive cannot be read"


class UnknownJobError(ProblemError):
    """There is no job of that id, or no more."""

    status = HTTPStatus.NOT_FOUND
    title = "Unknown job"


class UnfinishedJobError(ProblemError):
    """The job's results are not there yet."""

    status = HTTPStatus.CONFLICT
    title = "The job is not done yet"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "1"}  # seconds


class TooManyJobsError(ProblemError):
    """As many jobs as may wait and run do so already."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    title = "Too many jobs"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "10"}


class JobsUnavailableError(ProblemError):
    """Jobs cannot be kept: their folder cannot be written."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    title = "Jobs cannot be kept"
