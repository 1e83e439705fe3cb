"""What can go wrong; `tumorapp.problems` tells it.

Exception
├── ConfigurationError            a setting is wrong: the service does not start
└── ProblemError                  a request cannot be answered
├── MissingImageError         400  no image in the request
├── InvalidOptionError        400  an option's value is not accepted
├── MissingKeyError           401  a key is asked for, and there is none
├── UnknownKeyError           401  the key is none of those that are accepted
├── CrossSiteError            403  a page of another site sent it
├── UnknownModelError         404  no model of that name is served
├── UnknownJobError           404  no job of that id, or no more
├── UnfinishedJobError        409  a job's results were asked for too early
├── TooManyImagesError        413  more images than one request may hold
├── OversizedImageError       413  more pixels than an image may have
├── OversizedJobError         413  more bytes or images than a job may have
├── UnsupportedBodyError      415  the body is neither a form nor an image
├── UnreadableScanError       422  an image that cannot be read as a scan
├── UnreadableArchiveError    422  no ZIP that can be read
├── RateLimitError            429  the client asks more often than it may
├── TooManyJobsError          429  as many jobs as may wait do so
├── NoModelError              503  no model is served at all
├── DefaultModelError         503  the model set as the default is not served
├── JobsUnavailableError      503  the folder of the jobs cannot be written
└── OverloadedError           503  too many requests wait already
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import ClassVar

IMAGE_TYPES = ("image/jpeg", "image/png", "image/tiff", "image/bmp", "image/webp")


def at_most(number: int, noun: str) -> str:
    """Say what would have been accepted, such as "at most 1 image" or "at most 16 images"."""
    return f"at most {number} {noun}{'' if number == 1 else 's'}"


class ConfigurationError(Exception):
    """The service cannot start as it is configured; the message says what to change."""


class ProblemError(Exception):
    """A request that cannot be answered.

    Args:
        detail: what was received, what is accepted, what to do next.
        accepted: what would have been accepted, for programs to read.

    Attributes:
        headers: what the answer's headers say of it.
    """

    status: ClassVar[HTTPStatus]
    title: ClassVar[str]
    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, detail: str, accepted: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.accepted = tuple(accepted)


class MissingImageError(ProblemError):
    """The request holds no image."""

    status = HTTPStatus.BAD_REQUEST
    title = "No image in the request"


class InvalidOptionError(ProblemError):
    """An option has a value that is not accepted."""

    status = HTTPStatus.BAD_REQUEST
    title = "An option is not valid"


class MissingKeyError(ProblemError):
    """The request has no key."""

    status = HTTPStatus.UNAUTHORIZED
    title = "A key is needed"
    headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": 'Bearer realm="TumorApp"'}

    def __init__(
        self,
        detail: str = "This service asks for a key, and the request has none. Send it as "
        "`Authorization: Bearer KEY` or `X-API-Key: KEY`; whoever runs the service gives you one.",
    ) -> None:
        super().__init__(detail, ("Authorization: Bearer KEY", "X-API-Key: KEY"))


class UnknownKeyError(ProblemError):
    """The request's key is not accepted."""

    status = HTTPStatus.UNAUTHORIZED
    title = "The key is not accepted"
    headers: ClassVar[Mapping[str, str]] = {
        "WWW-Authenticate": 'Bearer realm="TumorApp", error="invalid_token"'
    }

    def __init__(
        self,
        detail: str = "The request's key is not, or no longer, one of this service's. Check that "
        "all of it was sent, or ask whoever runs the service for a new one.",
    ) -> None:
        super().__init__(detail)


class CrossSiteError(ProblemError):
    """A page of another site let a browser send the request."""

    status = HTTPStatus.FORBIDDEN
    title = "The request comes from another site"

    def __init__(
        self,
        detail: str = "A browser sent this from a page of another site, so it was not answered. "
        "Use this service's own page, or a program that is no browser. If it was this service's "
        "page, a proxy in between hides the name that the browser used: let it pass the Host "
        "header on, or set TUMORAPP_PROXIES.",
    ) -> None:
        super().__init__(detail)


class UnknownModelError(ProblemError):
    """No model of that name is served."""

    status = HTTPStatus.NOT_FOUND
    title = "Unknown model"


class TooManyImagesError(ProblemError):
    """The request holds more images than are accepted at once."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    title = "Too many images"


class OversizedImageError(ProblemError):
    """An image has more pixels than are accepted."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    title = "The image is too large"


class UnsupportedBodyError(ProblemError):
    """The request's body is neither a form nor an image."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    title = "The body is not an image"


class UnreadableScanError(ProblemError):
    """A file cannot be read as a scan."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    title = "The image cannot be read"


class RateLimitError(ProblemError):
    """The client asks more often than it may."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    title = "Too many requests from this client"

    def __init__(self, detail: str, limit: int = 0, seconds: int = 1) -> None:
        super().__init__(detail)
        self.headers = {  # type: ignore[misc]  # this one's own
            "Retry-After": str(seconds),
            "RateLimit-Limit": str(limit),
            "RateLimit-Remaining": "0",
            "RateLimit-Reset": str(seconds),
        }


class NoModelError(ProblemError):
    """Not one model could be loaded."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    title = "No model is installed"


class DefaultModelError(ProblemError):
    """The model for requests that name none could not be loaded."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    title = "The default model is not served"


class OverloadedError(ProblemError):
    """As many requests as may wait do so already, or this one has waited too long."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    title = "Too many requests are waiting"
    headers: ClassVar[Mapping[str, str]] = {"Retry-After": "1"}  # seconds

    def __init__(
        self,
        detail: str = "More requests came than can be answered soon, and this one was not begun. "
        "Send it again in a second, and less often if this goes on.",
    ) -> None:
        super().__init__(detail)
