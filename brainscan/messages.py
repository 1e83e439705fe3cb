"""Every problem and every warning once: its code, HTTP status, title, and text with named values.

A message is data until somebody reads it: programs read its code, and whoever shows it to a person
writes its text in that person's language. `str(message)` is English.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Self

# A number is written with its thousands apart, a float (a share of 0 to 1) as a percentage, and
# several texts as a list.
Value = str | int | float | Sequence[str]


@dataclass(frozen=True)
class Kind:
    """A row of the table.

    Attributes:
        code: names it for programs; it does not change.
        status: the HTTP status of a problem; None for a warning.
        title: the kind of problem, in a few words; "" for a warning.
        text: what happened, what is accepted, what to do next; `%(name)s` takes a value.
        headers: what the answer's headers say of it.
    """

    code: str
    status: HTTPStatus | None
    title: str
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Message:
    """One problem or warning.

    Attributes:
        code: a key of `KINDS`.
        values: of its text, by name.
        subject: the file it is about; "" where that is clear.
    """

    code: str
    values: Mapping[str, Value] = field(default_factory=dict)
    subject: str = ""

    @property
    def kind(self) -> Kind:
        """Its row of the table."""
        return KINDS[self.code]

    def __str__(self) -> str:
        text = self.kind.text % {name: write_value(value) for name, value in self.values.items()}
        return f"{self.subject}: {text}" if self.subject else text


class Problem(Exception):  # noqa: N818  it is what RFC 9457 calls a problem
    """A request, or a file, that cannot be answered.

    Args:
        code: a key of `KINDS` that has a status.
        accepted: what would have been accepted, for programs to read.
        subject: the file it is about.
        headers: of the answer, as well as those of its kind.
        **values: of its text, by name.

    Attributes:
        status: the HTTP status that answers it.
    """

    def __init__(
        self,
        code: str,
        *,
        accepted: Sequence[str] = (),
        subject: str = "",
        headers: Mapping[str, str] | None = None,
        **values: Value,
    ) -> None:
        self.message = Message(code, values, subject)
        self.accepted = tuple(accepted)
        self.headers = {**self.message.kind.headers, **(headers or {})}
        self.status = self.message.kind.status or HTTPStatus.INTERNAL_SERVER_ERROR
        super().__init__(code)  # from which a copy is made, and the rest put back

    def __str__(self) -> str:
        return str(self.message)

    def about(self, subject: str) -> Self:
        """Give the same problem with the name of its file."""
        named = copy(self)
        named.message = replace(self.message, subject=subject)
        return named

    @property
    def code(self) -> str:
        """Names its kind."""
        return self.message.code


class ScanError(Problem):
    """A file that cannot be read as a scan."""


def write_value(value: Value) -> str:
    """Write a message's value in English."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.0%}"
    if isinstance(value, int):
        return f"{value:,}"
    *most, last = value or ("none",)
    return f"{', '.join(most)} and {last}" if most else last


def _(text: str) -> str:
    """Mark a text for the catalogues of translations."""
    return text


def _problems(
    status: HTTPStatus, title: str, texts: Mapping[str, str], **headers: str
) -> dict[str, Kind]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {code: Kind(code, status, title, text, named) for code, text in texts.items()}


_WARNINGS = {
    "uncertain": _(
        "Uncertain: the model's confidence is only %(confidence)s. Many answers below %(limit)s "
        "are wrong."
    ),
    "no-head-outline": _("No clear outline of a head was found, so the whole image was used."),
    "not-a-scan": _(
        "This does not look like an MRI slice of a head, which is grey with black around the head. "
        "A model answers whatever it is shown, so this answer may mean nothing."
    ),
    "more-pages": _("The file has %(pages)s pages; only the first was read."),
    "no-heatmap": _("This model has no convolutions, so it cannot give a heat map."),
}

KINDS: Mapping[str, Kind] = {
    **{code: Kind(code, None, "", text) for code, text in _WARNINGS.items()},
    **_problems(
        HTTPStatus.BAD_REQUEST,
        _("No image in the request"),
        {
            "missing-image": _(
                "The request has no file in a field named %(field)s. Fields received: %(fields)s."
            ),
            "no-file-chosen": _("No file was chosen. Choose an image."),
            "image-is-text": _(
                "The field image holds text, not a file. Send it as a file, as "
                "`curl -F image=@scan.jpg` does."
            ),
            "no-boundary": _(
                "The form cannot be read: its Content-Type has no boundary. Let your HTTP client "
                "set that header."
            ),
        },
    ),
    **_problems(
        HTTPStatus.BAD_REQUEST,
        _("An option is not valid"),
        {
            "unknown-option": _("There is no option %(option)s. Accepted: %(choices)s."),
            "repeated-option": _(
                "The option %(option)s was given several times with different values. Give it once."
            ),
            "invalid-option": _("The option %(option)s is %(value)s. Accepted: %(choices)s."),
            "mixed-job": _(
                "The request holds an archive and other files. A job is one archive, or parts "
                "named image: send them as separate jobs."
            ),
        },
    ),
    **_problems(
        HTTPStatus.BAD_REQUEST,
        _("The request is not valid"),
        {
            "bad-request": "%(reason)s",
            "not-http": _("The request does not follow RFC 9112 (HTTP/1.1)."),
            "invalid-inference-request": "%(reason)s",
        },
    ),
    **_problems(
        HTTPStatus.UNAUTHORIZED,
        _("An API key is required"),
        {
            "missing-key": _(
                "The request has no API key. Send it as `Authorization: Bearer KEY` or "
                "`X-API-Key: KEY`; the service's operator can give you one."
            )
        },
        WWW_Authenticate='Bearer realm="TumorApp"',
    ),
    **_problems(
        HTTPStatus.UNAUTHORIZED,
        _("The API key is not valid"),
        {
            "invalid-key": _(
                "The API key is invalid or has been revoked. Check that you sent all of it, or ask "
                "the service's operator for a new one."
            )
        },
        WWW_Authenticate='Bearer realm="TumorApp", error="invalid_token"',
    ),
    **_problems(
        HTTPStatus.FORBIDDEN,
        _("The request comes from another site"),
        {
            "cross-site": _(
                "A page of another site made the browser send this request, so it was refused. Use "
                "this service's own page or a program other than a browser. If it was this "
                "service's page, a proxy hides the host name: let it pass the Host header on, or "
                "set TUMORAPP_PROXIES."
            )
        },
    ),
    **_problems(
        HTTPStatus.NOT_FOUND,
        _("Not found"),
        {
            "not-found": _(
                "There is nothing at %(path)s. Send scans to /api/predict; /api/models lists the "
                "models."
            )
        },
    ),
    **_problems(
        HTTPStatus.NOT_FOUND,
        _("Unknown model"),
        {
            "unknown-model": _("There is no model named %(model)s. Choose one of: %(models)s."),
            "unknown-version": _(
                "%(model)s has no version %(version)s here. Version %(served)s is served."
            ),
        },
    ),
    **_problems(
        HTTPStatus.NOT_FOUND,
        _("Unknown job"),
        {"unknown-job": _("There is no such job. A finished job is erased after %(hours)s hours.")},
    ),
    **_problems(
        HTTPStatus.METHOD_NOT_ALLOWED,
        _("Method not allowed"),
        {"method-not-allowed": _("%(method)s is not possible at %(path)s. Accepted: %(methods)s.")},
    ),
    **_problems(
        HTTPStatus.REQUEST_TIMEOUT,
        _("The request is too slow"),
        {
            "too-slow": _(
                "The request did not arrive in time. Send it at once, at 100 kB a second or more."
            )
        },
    ),
    **_problems(
        HTTPStatus.CONFLICT,
        _("The job is not finished yet"),
        {
            "unfinished-job": _(
                "%(done)s of %(total)s files are done. Ask again when the job's state is done."
            )
        },
        Retry_After="1",  # seconds
    ),
    **_problems(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        _("The request is too large"),
        {
            "request-too-large": _(
                "The request is too large. Accepted: at most %(megabytes)s MB and %(images)s "
                "images, with short text fields. Send fewer or smaller images."
            ),
            "too-many-images": _(
                "Too many images: %(count)s. Accepted in one request: at most %(most)s. Send them "
                "in several requests."
            ),
            "job-too-large": _(
                "The job is too large: %(found)s. Accepted: at most %(megabytes)s MB, also when "
                "unpacked, and %(images)s images. Send several jobs."
            ),
        },
    ),
    **_problems(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        _("The image is too large"),
        {
            "image-too-large": _(
                "The image has %(width)s × %(height)s pixels. Accepted: at most %(most)s in all. "
                "Send a smaller copy."
            ),
            "file-too-large": _(
                "The file has %(megabytes)s MB. Accepted: at most %(most)s MB for one image."
            ),
        },
    ),
    **_problems(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        _("The body is not an image"),
        {
            "unsupported-body": _("The body has the type %(type)s. Accepted: %(choices)s."),
            "untyped-body": _(
                "The body is %(bytes)s bytes of %(type)s. Give the image's own type, as "
                "`curl --data-binary @scan.jpg -H 'Content-Type: image/jpeg'` does."
            ),
        },
    ),
    **_problems(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        _("The image cannot be read"),
        {
            "empty-file": _("The file is empty. Accepted: %(formats)s."),
            "not-an-image": _("The file is not an image that can be read. Accepted: %(formats)s."),
            "format-not-read": _(
                "The file is %(format)s, which cannot be read here. Accepted: %(formats)s. Export "
                "the scan as PNG."
            ),
            "damaged-image": _(
                "The image is damaged or cut short (%(reason)s). Send the whole file again."
            ),
            "image-too-complex": _(
                "The image takes too much work to decode: %(reason)s. Open it in an image editor "
                "and save it again."
            ),
            "not-numbers": _("The image has values that are not numbers. Export the scan again."),
            "blank-image": _(
                "The image is blank: every pixel has the value %(value)s. Send a scan of a head."
            ),
            "image-too-small": _(
                "The image has %(width)s × %(height)s pixels, too few to show a brain. Accepted: "
                "at least %(least)s on each side."
            ),
            "not-unpacked": _("The file cannot be unpacked: %(reason)s. Make the archive again."),
        },
    ),
    **_problems(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        _("The archive cannot be read"),
        {
            "unreadable-archive": _(
                "The archive cannot be read as a ZIP: %(reason)s. Make it again, or send the "
                "images as parts named image."
            ),
            "empty-archive": _("The archive has no files. Put images into it."),
            "encrypted-archive": _("The archive is encrypted. Send one without a password."),
            "unsupported-archive": _(
                "The archive is packed by a method that is not accepted. Accepted: deflate."
            ),
        },
    ),
    **_problems(
        HTTPStatus.TOO_MANY_REQUESTS,
        _("Too many requests from this client"),
        {
            "rate-limited": _(
                "You have sent more requests than the %(limit)s that are accepted. Try again in "
                "%(seconds)s s, and send fewer at a time."
            )
        },
    ),
    **_problems(
        HTTPStatus.TOO_MANY_REQUESTS,
        _("Too many jobs"),
        {
            "too-many-jobs": _(
                "Unfinished jobs: %(most)s, the most that are accepted. Try again when one is "
                "finished."
            )
        },
        Retry_After="10",
    ),
    **_problems(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        _("Internal error"),
        {
            "internal-error": _(
                "Something went wrong in the service; the request was not at fault. It has been "
                "logged. Try again, and tell the service's operator if it happens again."
            ),
            "job-images-missing": _("The job's images are gone. Send them again."),
            "given-up": _("The file could not be predicted: the service stopped at each attempt."),
        },
    ),
    **_problems(
        HTTPStatus.SERVICE_UNAVAILABLE,
        _("The model is not available"),
        {
            "no-model": _(
                "No model is installed, so nothing can be predicted. The service's log has the "
                "reason; `flask train` makes a model."
            ),
            "default-model-missing": _(
                "The default model, %(model)s, is not served. Choose one of: %(models)s. The "
                "service's log has the reason."
            ),
        },
    ),
    **_problems(
        HTTPStatus.SERVICE_UNAVAILABLE,
        _("Jobs cannot be stored"),
        {
            "jobs-unavailable": _(
                "Jobs cannot be stored at the moment. Send the images to /api/predict, a few at a "
                "time; the service's log has the reason."
            )
        },
    ),
    **_problems(
        HTTPStatus.SERVICE_UNAVAILABLE,
        _("Too many requests are waiting"),
        {
            "overloaded": _(
                "The service has more requests than it can answer soon, so this one was not "
                "started. Try again in a second, and less often if it keeps happening."
            )
        },
        Retry_After="1",
    ),
}
