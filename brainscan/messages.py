"""Every problem and every warning once: its code, HTTP status, title, and text with named values.

A message is data until somebody reads it: programs read its code, and a page writes its text in
the language of its reader. `str(message)` is English. Babel finds the titles and
texts with `tumorapp.language.extract`.
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


_WARNINGS = {
    "uncertain": "Uncertain: the model's confidence is only %(confidence)s. Many answers below "
    "%(limit)s are wrong.",
    "no-head-outline": "No clear outline of a head was found, so the whole image was used.",
    "kind-unclear": "The model finds a tumour but cannot tell its kind. Possible: %(kinds)s.",
    "tumor-unclear": "The model cannot tell whether there is a tumour: its probability of one is "
    "%(probability)s.",
    "not-a-scan": "This is not recognised as an MRI slice of a head, which is grey with black "
    "around the head. A model classifies any image it is given, so this prediction may be "
    "meaningless.",
    "several-heads": "The image shows %(heads)s heads next to each other; only the largest was "
    "read. Send one slice per image.",
    "inverted": "The image was white around the head, so it was read as a negative.",
    "few-grey-levels": "The scan uses only %(levels)s levels of grey, so small differences "
    "between tissues are lost. Export it again with the full range of grey.",
    "annotated": "Something is drawn on the scan. It was removed, but what it hid is not known to "
    "the model. Send the scan without it.",
    "more-pages": "The file holds %(pages)s pictures; only the first was read.",
    "one-slice": "The file has %(slices)s slices; only number %(slice)s, in the middle, was read.",
    "chosen-slice": "This is slice %(slice)s of %(slices)s: the answer for the whole head may be "
    "different.",
    "slice-of-series": "This is one slice of a series: the answer for the whole head may be "
    "different.",
    "one-volume": "The file has %(volumes)s volumes; only the first was read.",
    "one-of-each": "The series has up to %(images)s images of the same slice; only the first of "
    "each was used.",
    "missing-slices": "The series has gaps. Slices that seem to be missing: %(slices)s. What the "
    "head shows there is not part of the answer.",
    "series-not-fitted": "This model was not fitted to whole series: its answer is that of the "
    "slices next to each other that are most sure of a tumour.",
    "burnt-in-text": "The picture may have text in it, which was not removed. Look at it before "
    "you pass the file on.",
    "unusual-image": "By its header (%(type)s), the file is not an ordinary MR image of the "
    "anatomy. Models learn from ordinary ones, so this prediction may be meaningless. Send a "
    "T1-weighted, T2-weighted or FLAIR image.",
    "no-orientation": "The NIfTI file does not say how the head lies: it has no sform or qform "
    "that can be inverted. The usual order of the axes was assumed, so left and right may be "
    "swapped.",
    "no-heatmap": "This model has no convolutions, so it cannot give a heat map.",
    "no-reliable-map": "The heat map is left out: this model's was not measured to point at "
    "tumours more often than the middle of the head does.",
}

KINDS = {code: Kind(code, None, "", text) for code, text in _WARNINGS.items()}


def _add(status: HTTPStatus, title: str, texts: Mapping[str, str], **headers: str) -> None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    KINDS.update({code: Kind(code, status, title, text, named) for code, text in texts.items()})


_add(
    HTTPStatus.BAD_REQUEST,
    "No image in the request",
    {
        "missing-image": "The request has no file in a field named %(field)s. Fields received: "
        "%(fields)s.",
        "no-file-chosen": "No file was chosen. Choose an image.",
        "image-is-text": "The field %(field)s holds text, not a file. Send it as a file, as `curl "
        "-F image=@scan.jpg` does.",
        "no-boundary": "The form cannot be read: its Content-Type has no boundary. Let your HTTP "
        "client set that header.",
    },
)
_add(
    HTTPStatus.BAD_REQUEST,
    "Invalid option",
    {
        "unknown-option": "There is no option %(option)s. Accepted: %(choices)s.",
        "repeated-option": "The option %(option)s was given several times with different values. "
        "Give it once.",
        "invalid-option": "The option %(option)s cannot be %(value)s. Accepted: %(choices)s.",
        "mixed-job": "The request contains an archive as well as other files. A job is either one "
        "archive or files in parts named image. Send two jobs.",
    },
)
_add(
    HTTPStatus.BAD_REQUEST,
    "Invalid request",
    {
        "bad-request": "%(reason)s",
        "invalid-inference-request": "%(reason)s",
        "invalid-json": "The JSON cannot be read: %(reason)s. Accepted: %(example)s, and options "
        "next to the images.",
        "not-base64": "The data is not base64. Send the bytes of an image file in base64 (A–Z, a–z,"
        " 0–9, + and /, padded with =), or as a data URL, which has ;base64, before them.",
        "invalid-prefix": "The prefix %(prefix)s is not a path such as /tumorapp. Correct what "
        "your proxy sets as X-Forwarded-Prefix.",
        "not-http": "The request does not follow RFC 9112 (HTTP/1.1).",
    },
)
_add(
    HTTPStatus.UNAUTHORIZED,
    "An API key is required",
    {
        "missing-key": "The request has no API key. Send one as `Authorization: Bearer KEY` or "
        "`X-API-Key: KEY`. The service's operator can give you one.",
    },
    WWW_Authenticate='Bearer realm="TumorApp"',
)
_add(
    HTTPStatus.UNAUTHORIZED,
    "Invalid API key",
    {
        "invalid-key": "The API key is invalid or has been revoked. Check that you sent all of "
        "it, or ask the service's operator for a new one.",
    },
    WWW_Authenticate='Bearer realm="TumorApp", error="invalid_token"',
)
_add(
    HTTPStatus.FORBIDDEN,
    "The request comes from another site",
    {
        "cross-site": "The request was refused because the browser sent it from a page of another "
        "site. Use this service's own page, a program other than a browser, or the API from a site "
        "in TUMORAPP_CORS_ORIGINS. If you did use this "
        "service's page, a proxy hides the host name: make the proxy pass the Host header on, or "
        "set TUMORAPP_PROXIES.",
    },
)
_add(
    HTTPStatus.NOT_FOUND,
    "Not found",
    {
        "not-found": "There is nothing at %(path)s. Send scans to /api/predict; /api/models lists "
        "the models.",
    },
)
_add(
    HTTPStatus.NOT_FOUND,
    "Unknown model",
    {
        "unknown-model": "There is no model named %(model)s. Choose one of: %(models)s.",
        "unknown-version": "%(model)s has no version %(version)s here. Version %(served)s is "
        "served.",
    },
)
_add(
    HTTPStatus.NOT_FOUND,
    "Unknown job",
    {
        "unknown-job": "There is no such job. A finished job is erased after %(hours)s hours.",
    },
)
_add(
    HTTPStatus.METHOD_NOT_ALLOWED,
    "Method not allowed",
    {
        "method-not-allowed": "%(method)s is not allowed at %(path)s. Accepted: %(methods)s.",
    },
)
_add(
    HTTPStatus.REQUEST_TIMEOUT,
    "The request is too slow",
    {
        "too-slow": "The request did not arrive in time. Send it at once, at 100 kB a second or "
        "more.",
    },
)
_add(
    HTTPStatus.CONFLICT,
    "The job is not finished yet",
    {
        "unfinished-job": "%(done)s of %(total)s files are done. Ask again when the job's state "
        "is done.",
    },
    Retry_After="1",
)
_add(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "The request is too large",
    {
        "request-too-large": "The request is too large. Accepted: at most %(megabytes)s MB and "
        "%(images)s images, with short text fields. Send fewer or smaller images, a volume packed "
        "as .nii.gz, a series as ZIP, or a job to /api/jobs; the service's operator can raise "
        "TUMORAPP_MAX_UPLOAD_MB.",
        "too-many-images": "Too many images: %(count)s. Accepted in one request: at most "
        "%(most)s. Send them in several requests.",
        "too-many-slices": "There are too many slices. Accepted: at most %(most)s, those of all "
        "files together. Send fewer at a time; the service's operator can raise "
        "TUMORAPP_MAX_SLICES.",
        "archive-too-large": "The archive is too large: %(found)s. Accepted: at most "
        "%(megabytes)s MB when unpacked, and %(files)s files. Split it into several archives.",
        "job-too-large": "The job is too large: %(found)s. Accepted: at most %(megabytes)s MB, "
        "packed or unpacked, and %(images)s images. Split it into several jobs.",
    },
)
_add(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "The image is too large",
    {
        "image-too-large": "The image has %(width)s × %(height)s pixels. Accepted: at most "
        "%(most)s in all. Send a smaller copy.",
        "file-too-large": "The file is %(megabytes)s MB in size. Accepted: at most %(most)s MB "
        "for one file. Pack a volume as .nii.gz; the service's operator can raise "
        "TUMORAPP_MAX_UPLOAD_MB.",
    },
)
_add(
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "The body is not an image",
    {
        "unsupported-body": "The body has the content type %(type)s. Accepted: %(choices)s.",
        "untyped-body": "The body is %(bytes)s bytes of %(type)s. Send the image's own content "
        "type, as `curl --data-binary @scan.jpg -H 'Content-Type: image/jpeg'` does.",
    },
)
_add(
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "The image cannot be read",
    {
        "empty-file": "The file is empty. Accepted: %(formats)s.",
        "not-an-image": "The file is not an image that can be read. Accepted: %(formats)s.",
        "format-not-read": "The file is %(format)s, which cannot be read here. Accepted: "
        "%(formats)s. Export the slice or figure as PNG.",
        "archive-not-read": "The file is a ZIP archive. Accepted: %(formats)s. Unpack it and send "
        "the images, or send it to /api/predict or /api/jobs.",
        "git-lfs-pointer": "The file is a Git LFS pointer, not the image. Accepted: %(formats)s. "
        "Run `git lfs pull` in its repository and send the file again.",
        "web-page": "The file is a web page (HTML), whatever its name says. Accepted: "
        "%(formats)s. Download the image itself and send that.",
        "damaged-image": "The image is damaged or cut short (%(reason)s). Send the whole file "
        "again.",
        "image-too-complex": "The image takes too much work to decode: %(reason)s. Save it "
        "again, or a smaller part of it, and send that.",
        "blank-image": "The image is blank: every pixel has the value %(value)s. Send a scan of a "
        "head.",
        "image-too-small": "The image has %(width)s × %(height)s pixels, too few to show a brain. "
        "Accepted: at least %(least)s on each side.",
        "no-such-slice": "The file has no slice %(slice)s. Accepted: a whole number from 0, below "
        "%(slices)s.",
        "file-pair": "The file is half of an Analyze or NIfTI pair (.hdr and .img), which cannot "
        "be read here. Save the volume as one NIfTI file (.nii or .nii.gz).",
        "voxels-not-read": "The voxels of the NIfTI file are of the type %(number)s, which cannot "
        "be read here. Save the volume as 16-bit integers or floating-point numbers.",
        "dicomdir": "The file is a DICOMDIR, which only lists other files. Send the image files "
        "that it lists, from the folders next to it.",
        "no-pixels": "The DICOM file (%(object)s) has no pixels. Send the MR images of the study.",
        "mosaic": "The DICOM file is a mosaic: one picture of all slices of a volume. Convert it "
        "to NIfTI, as `dcm2niix` does, and send that.",
        "transfer-syntax": "The DICOM file's pixels are stored as %(syntax)s, which cannot be read "
        "here. Save it uncompressed, as `gdcmconv --raw` does.",
        "repeated-instance": "Another file with the same SOP Instance UID was written already. "
        "Compare the two; if you need this one, de-identify it by itself.",
        "not-unpacked": "The file cannot be unpacked: %(reason)s. Create the archive again.",
        "not-read": "The file cannot be read from where it is: %(reason)s. Check the file and its "
        "permissions.",
    },
)
_add(
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "The image is not recognised",
    {
        "not-recognised": "The image is not recognised as an MRI slice of a head. Send a slice, "
        "grey with black around the head, or ask without the option strict.",
    },
)
_add(
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "The image is not an MR image of a head",
    {
        "not-mr": "By its header, the DICOM file is not an MR image (%(object)s). Send MR images "
        "of a head.",
        "not-a-head": "By its header, the DICOM file does not show a head (%(part)s). Send MR "
        "images of a head.",
    },
)
_add(
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "The archive cannot be read",
    {
        "unreadable-archive": "The archive cannot be read as a ZIP: %(reason)s. Create it again, "
        "or send the images in parts named image.",
        "empty-archive": "The archive has no files. Put images into it.",
        "encrypted-archive": "The archive is encrypted. Send one without a password.",
        "unsupported-archive": "The archive uses a compression method that is not accepted. "
        "Accepted: deflate.",
    },
)
_add(
    HTTPStatus.UNPROCESSABLE_ENTITY,
    "No report can be written",
    {
        "unusable-header": "A report needs something that the headers of the series lack or get "
        "wrong (%(reason)s). Correct them in the PACS.",
    },
)
_add(
    HTTPStatus.BAD_GATEWAY,
    "The PACS cannot be used",
    {
        "pacs-no-answer": "The PACS gave no usable answer (%(reason)s). Check its address and that "
        "it is running.",
        "pacs-refused": "The PACS refused the request with status %(status)s. Check the address, "
        "and what this client is allowed to do.",
        "incomplete-series": "The PACS sent %(received)s of the %(expected)s files of a series. "
        "They are requested again later.",
        "store-refused": "The PACS refused %(refused)s of %(objects)s objects (%(reason)s). Let it "
        "accept reports, segmentations and secondary captures; they are sent again later.",
    },
)
_add(
    HTTPStatus.TOO_MANY_REQUESTS,
    "Too many requests from this client",
    {
        "rate-limited": "You have sent too many requests. Accepted: %(most)s in %(window)s s. Try "
        "again in %(seconds)s s, and send fewer at a time.",
    },
)
_add(
    HTTPStatus.TOO_MANY_REQUESTS,
    "Too many jobs",
    {
        "too-many-jobs": "The service has %(most)s unfinished jobs and accepts no more. Try again "
        "when one is finished.",
    },
    Retry_After="10",
)
_add(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "Internal error",
    {
        "internal-error": "Something went wrong in the service; your request is not at fault. The "
        "error was logged. Try again, and tell the service's operator if it happens again.",
        "job-images-missing": "The job's images are gone. Send them again.",
        "given-up": "The file could not be predicted: the service crashed at every attempt.",
    },
)
_add(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "The model is not available",
    {
        "no-model": "No model is installed, so nothing can be predicted. The service's log has "
        "the reason; `flask train` makes a model.",
        "default-model-missing": "The default model, %(model)s, is not served. Choose one of: "
        "%(models)s. The service's log has the reason.",
    },
)
_add(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "Predictions cannot be recorded",
    {
        "audit-unavailable": "The prediction cannot be recorded at the moment, so it is not given. "
        "Try again later; the service's log has the reason.",
    },
)
_add(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "Jobs cannot be stored",
    {
        "jobs-unavailable": "Jobs cannot be stored at the moment. Send the images to "
        "/api/predict, a few at a time; the service's log has the reason.",
    },
    Retry_After="5",
)
_add(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "Too many requests are waiting",
    {
        "overloaded": "The service has more requests than it can answer soon, so this one was "
        "refused. Try again in a second, and less often if it keeps happening.",
    },
    Retry_After="1",
)
