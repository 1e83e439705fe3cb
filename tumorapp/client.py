"""A client for the REST API of a TumorApp that runs somewhere.

    from tumorapp.client import Client

    with Client("http://127.0.0.1:8000") as client:
        answer = client.predict("scan.jpg", heatmap=True)
        for found in answer.predictions:
            print(found.filename, found.verdict, found.label, found.confidence)

This file needs nothing of TumorApp but itself, and one package: a current requests.
"""

import base64
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Generic, Self, TypeVar, cast

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

# A scan to send: a file's path, an image's bytes, or an open binary file.
Scan = str | Path | bytes | IO[bytes]

_Found = TypeVar("_Found")
_Read = TypeVar("_Read")

_RETRIED = (429, 503)  # try again later
_LONGEST_WAIT = 60
_LONGEST_LOOK = 2  # seconds between two looks at a job


class ClientError(Exception):
    """A question has no answer: the base of what this module raises."""


class UnreachableError(ClientError):
    """No answer came: the service is not there, or took longer than the client waits."""

    def __init__(self, text: str) -> None:
        super().__init__(re.sub(r"//[^/@\s]*@", "//", text))  # the address without its login


@dataclass(eq=False)
class ProblemError(ClientError):
    """The service refused the request.

    Attributes:
        status: the HTTP status, 400 to 599.
        code: names the kind of problem; empty where another than TumorApp answered.
        title: the kind of problem, in a few words.
        detail: what was wrong with this request and what to do about it.
        accepted: what would have been accepted; may be empty.
        request_id: by which the operator finds the request in the service's log; may be empty.
    """

    status: int
    code: str
    title: str
    detail: str
    accepted: tuple[str, ...]
    request_id: str

    def __str__(self) -> str:
        return self.detail or self.title


@dataclass(frozen=True)
class Remark:
    """What a reader of a prediction should know.

    Attributes:
        code: names it; it does not change.
        detail: a sentence.
    """

    code: str
    detail: str


Point = tuple[float, float]


@dataclass(frozen=True)
class Lesion:
    """The region that a model marks; x and y are shares of the picture's width and height.

    Attributes:
        peak: (x, y) of the point where the model's map is highest, from the top left, 0 to 1.
        outline: a polygon of (x, y) for each part of the region, the largest first.
        area: of the region, as a share of the head's, 0 to 1.
        score: the map's highest value, 0 to 1.
    """

    peak: Point
    outline: tuple[tuple[Point, ...], ...]
    area: float
    score: float


@dataclass(frozen=True)
class Prediction:
    """What a model says of one scan, or of a whole series by all of its slices.

    Attributes:
        filename: the name it was sent under; of a series, that of its folder.
        verdict: "tumor" of the kind that the label names; "tumor-kind-unclear"; "no-tumor";
            "unclear" whether there is one; "not-recognised" as an MRI slice of a head, so that
            the rest may be meaningless.
        label: the most probable kind of tumour where there seems to be one, else the class without
            a tumour.
        tumor: whether that class is a tumour.
        tumor_probability: of a tumour of any kind, 0 to 1.
        confidence: the label's calibrated probability, 0 to 1.
        uncertain: whether the answer leaves something open, or its confidence is low.
        in_distribution: whether the image is like the scans that the model knows; None where the
            model cannot tell.
        probabilities: of every class, in the model's order, summing to 1.
        lesion: the region that the model marks; None where it marks none, or cannot.
        header: what the header of a DICOM or NIfTI file says of how the scan was made; nothing of
            other formats.
        warnings: what a reader of the prediction should know.
        heatmap: a PNG to lay over the scan, where one was asked for and the model has one; of a
            series, over its strongest slice.
        slices: of a series, in order towards the patient's head, back or left; else none.
        strongest: the index of the slice that shows most of the tumour; None without slices.
        volume_ml: the ml that the model marks; None where it marks none, or cannot tell.
    """

    filename: str
    verdict: str
    label: str
    tumor: bool
    tumor_probability: float
    confidence: float
    uncertain: bool
    in_distribution: bool | None
    probabilities: dict[str, float]
    lesion: Lesion | None
    header: dict[str, Any]
    warnings: tuple[Remark, ...]
    heatmap: bytes | None
    slices: tuple["Slice", ...] = ()
    strongest: int | None = None
    volume_ml: float | None = None


@dataclass(frozen=True, kw_only=True)
class Slice(Prediction):
    """What a model says of one slice of a series.

    Attributes:
        index: its place in the series, from 0.
        frame: its place in its file, from 0.
        position_mm: where it lies, towards the head, the back or the left; None where unknown.
        votes: whether it shows enough of the head to count.
        shows_tumor: whether it shows the tumour that the series has.
    """

    index: int
    frame: int
    position_mm: float | None
    votes: bool
    shows_tumor: bool


@dataclass(frozen=True)
class Failure:
    """A file that could not be predicted, the code of the problem, and a sentence."""

    filename: str
    code: str
    detail: str


@dataclass(frozen=True)
class Answer(Generic[_Found]):
    """What became of the scans of a request or a job, in their order, and the model's name."""

    model: str
    version: str
    predictions: tuple[_Found, ...]


@dataclass(frozen=True)
class Job:
    """Many scans that the service predicts on its own time.

    Attributes:
        id: by which it is asked for; who knows it may read and erase the job.
        state: waiting, running, done or failed.
        total: how many files it has.
        done: how many of them have an outcome.
        failed: how many of those could not be predicted.
        error: why it failed as a whole; None where it did not.
    """

    id: str
    state: str
    total: int
    done: int
    failed: int
    error: Remark | None

    @property
    def ended(self) -> bool:
        """Whether nothing more is going to happen."""
        return self.state in ("done", "failed")


@dataclass(frozen=True)
class Model:
    """A model that is served.

    Attributes:
        name: by which a request chooses it.
        version: of its bundle.
        classes: what it tells apart, in its order.
        default: whether it answers requests that name none.
        heatmap: whether it gives heat maps that were shown to point at tumours.
        description: all that the service says of it: metrics, limits, sources and more.
    """

    name: str
    version: str
    classes: tuple[str, ...]
    default: bool
    heatmap: bool
    description: Mapping[str, Any]


class Client:
    """Asks one service; threads need a client each.

    Args:
        url: of the service, such as `http://127.0.0.1:8000`.
        timeout: seconds to wait for a connection, and between two bytes of an answer.
        retries: how often a request is sent again where the connection fails or the service is
            busy (429, 503), after the time it names, or else a growing one.
        headers: sent with every request, such as those a proxy asks for.
        api_key: sent with every request, where the service asks for a key.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 30,
        retries: int = 3,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._session = requests.Session()
        self._session.headers.update(headers or {})
        if api_key:
            self._session.headers["X-API-Key"] = api_key  # Authorization may be a proxy's
        # A prediction changes nothing, so that a POST, too, may be sent twice.
        retry = Retry(
            retries,
            allowed_methods=None,
            status_forcelist=_RETRIED,
            backoff_factor=0.2,
            backoff_jitter=0.1,
            raise_on_status=False,
            retry_after_max=_LONGEST_WAIT,
        )
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry))
        # A job that is sent twice runs twice: where its answer is lost, it is not sent again.
        once = HTTPAdapter(max_retries=retry.new(read=0, other=0))
        self._session.mount(f"{self._url}/api/jobs", once)
        self._session.mount(f"{self._url}/api/jobs/", HTTPAdapter(max_retries=retry))

    def predict(
        self,
        scans: Scan | Iterable[Scan],
        *,
        model: str | None = None,
        heatmap: bool = False,
        strict: bool = False,
    ) -> Answer[Prediction]:
        """Predict one scan or several, which go together in one request.

        A volume, and the DICOM files of one series, get one prediction, with its slices.

        Args:
            scans: paths, bytes or open binary files; an image that has no name gets a number.
            model: the model's name; None for the service's default.
            heatmap: whether each prediction comes with a heat map.
            strict: whether the request is refused where a scan is not recognised as one.

        Raises:
            ProblemError: the service refused the request.
            UnreachableError: no answer came.
            OSError: a file cannot be read.
        """
        options = _write_options(model=model, heatmap=heatmap, strict=strict)
        return self._ask(
            _read_answer, "POST", "/api/predict", files=_read_scans(scans), data=options
        )

    def predict_archive(
        self,
        archive: Scan,
        *,
        model: str | None = None,
        heatmap: bool = False,
        strict: bool = False,
    ) -> Answer[Prediction | Failure]:
        """Predict the scans in a ZIP, where a bad file does not stop the others; as `predict`."""
        return self._ask(
            _read_answer,
            "POST",
            "/api/predict",
            data=_read_scan(archive, 1)[1],
            headers={"Content-Type": "application/zip"},
            params=_write_options(model=model, heatmap=heatmap, strict=strict),
        )

    def submit(self, scans: Scan | Iterable[Scan], *, model: str | None = None) -> Job:
        """Send scans as a job, which the service works off by itself; raises as `predict` does."""
        options = _write_options(model=model)
        return self._ask(_read_job, "POST", "/api/jobs", files=_read_scans(scans), data=options)

    def submit_archive(self, archive: str | Path, *, model: str | None = None) -> Job:
        """Send the scans in a ZIP as a job; raises as `predict` does."""
        with Path(archive).open("rb") as file:
            return self._ask(
                _read_job,
                "POST",
                "/api/jobs",
                data=file,
                headers={"Content-Type": "application/zip"},
                params=_write_options(model=model),
            )

    def job(self, job_id: str) -> Job:
        """Tell how far a job is; raises as `predict` does."""
        return self._ask(_read_job, "GET", f"/api/jobs/{job_id}")

    def wait(self, job: Job, progress: Callable[[Job], object] | None = None) -> Job:
        """Wait until a job has ended, calling `progress` with each state; raises as `predict`."""
        pause = 0.1
        while not job.ended:
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_LOOK)
            job = self.job(job.id)
            if progress is not None:
                progress(job)
        return job

    def results(self, job: Job) -> Answer[Prediction | Failure]:
        """Give the results of a job that has ended; raises as `predict` does."""
        return self._ask(_read_answer, "GET", f"/api/jobs/{job.id}/results")

    def stream(self, job: Job) -> Iterator[Prediction | Failure]:
        """Give the results of a job while it runs, in the order of its scans.

        If the service gets a new version of the model before the job is done, the results begin
        again with the first scan.

        Raises:
            ProblemError: the service refused the request.
            UnreachableError: no answer came, or it broke off.
            ClientError: the job failed as a whole, or was erased.
        """
        path = f"/api/jobs/{job.id}/results"
        with self._send("GET", path, params={"format": "ndjson"}, stream=True) as answer:
            try:
                for line in filter(None, answer.iter_lines()):
                    fields = json.loads(line)
                    if "filename" not in fields:
                        raise ClientError(fields["error"]["detail"])
                    yield _read_outcome(fields)
            except (requests.RequestException, KeyError, TypeError, ValueError) as error:
                raise UnreachableError(
                    f"The answer from {self._url}{path} broke off: {_explain(error)}. Ask again."
                ) from error

    def erase(self, job: Job) -> None:
        """Cancel a job, and erase its scans and results; raises as `predict` does."""
        self._ask(lambda _: None, "DELETE", f"/api/jobs/{job.id}")

    def models(self) -> tuple[Model, ...]:
        """List the models that are served, by name; raises as `predict` does."""
        return self._ask(_read_models, "GET", "/api/models")

    def ready(self) -> bool:
        """Tell at once whether the service can be reached and answers predictions."""
        try:
            # Not through the adapters above, which would wait for a busy service.
            answer = requests.get(
                f"{self._url}/readyz", headers=self._session.headers, timeout=self._timeout
            )
        except requests.RequestException:
            return False
        return answer.status_code == 200

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, read: Callable[[Any], _Read], method: str, path: str, **content: Any) -> _Read:
        answer = self._send(method, path, **content)
        try:
            return read(answer.json() if answer.content else None)
        except (KeyError, TypeError, ValueError):  # no JSON, or not this
            raise UnreachableError(
                f"The answer from {self._url}{path} is not TumorApp's JSON. Check the address."
            ) from None

    def _send(self, method: str, path: str, **content: Any) -> requests.Response:
        try:
            answer = self._session.request(
                method, self._url + path, timeout=self._timeout, **content
            )
        except requests.RequestException as error:
            raise UnreachableError(
                f"No answer came from {self._url}: {_explain(error)}. Check that the address "
                "begins with http:// or https://, and that the service runs there."
                f"{_suspect_size(error.request)}"
            ) from error
        if not answer.ok:
            raise _read_problem(answer)
        return answer


def _explain(error: BaseException) -> str:
    """Give the innermost reason; requests and urllib3 wrap it in their own, which say less."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return str(error)


def _suspect_size(request: requests.PreparedRequest | requests.Request | None) -> str:
    """Say what else a large request may have met: Caddy ends the connection as it refuses one."""
    sent = int((request.headers.get("Content-Length") if request else None) or 0) / 2**20
    if sent < 1:  # the smallest limit that is common: nginx's own
        return ""
    return (
        f" A proxy in front of TumorApp may have refused {sent:.1f} MB as too large: send fewer or "
        "smaller images, or let the operator raise the proxy's limit."
    )


def _read_scan(scan: Scan, number: int) -> tuple[str, bytes]:
    """Give a scan's name and bytes: those of a request that is sent again must still be there."""
    if isinstance(scan, bytes):
        return f"image {number}", scan
    if isinstance(scan, str | Path):
        return Path(scan).name, Path(scan).read_bytes()
    name = getattr(scan, "name", None)  # a file made from a number has that for its name
    return (Path(name).name if isinstance(name, str) else f"image {number}"), scan.read()


def _read_scans(scans: Scan | Iterable[Scan]) -> list[tuple[str, tuple[str, bytes]]]:
    single = isinstance(scans, str | bytes | Path) or hasattr(scans, "read")
    listed = cast("Iterable[Scan]", [scans] if single else scans)
    return [("image", _read_scan(scan, number)) for number, scan in enumerate(listed, start=1)]


def _write_options(*, model: str | None, **switches: bool) -> dict[str, str]:
    options = {name: "1" for name, on in switches.items() if on}
    return options | ({"model": model} if model else {})


def _read_job(body: Mapping[str, Any]) -> Job:
    names = ("id", "state", "total", "done", "failed")
    error = _read_remark(body["error"]) if body.get("error") else None
    return Job(**{name: body[name] for name in names}, error=error)


def _read_remark(fields: Mapping[str, str]) -> Remark:
    return Remark(fields["code"], fields["detail"])


def _read_models(body: Mapping[str, Any]) -> tuple[Model, ...]:
    names = ("name", "version", "default", "heatmap")
    return tuple(
        Model(
            **{name: fields[name] for name in names},
            classes=tuple(fields["classes"]),
            description=fields,
        )
        for fields in body["models"]
    )


def _read_answer(body: Mapping[str, Any]) -> Answer[Any]:
    found = tuple(map(_read_outcome, body["predictions"]))
    return Answer(body["model"], body["version"], found)


def _read_outcome(fields: Mapping[str, Any]) -> Prediction | Failure:
    if error := fields.get("error"):
        return Failure(fields["filename"], error["code"], error["detail"])
    return _read_prediction(fields)


def _read_prediction(fields: Mapping[str, Any]) -> Prediction:
    kind = Slice if "index" in fields else Prediction
    picture = fields.get("heatmap")
    others: dict[str, Any] = {
        "lesion": _read_lesion(fields["lesion"]) if fields["lesion"] else None,
        "warnings": tuple(map(_read_remark, fields["warnings"])),
        "heatmap": base64.b64decode(picture.partition(",")[2]) if picture else None,
        "slices": tuple(map(_read_prediction, fields.get("slices", ()))),
        "header": fields.get("header", {}),  # slices have that of the whole
        "strongest": fields.get("strongest"),
        "volume_ml": fields.get("volume_ml"),
    }
    names = kind.__dataclass_fields__.keys() - others.keys()
    return kind(**{name: fields[name] for name in names}, **others)


def _read_lesion(fields: Mapping[str, Any]) -> Lesion:
    (x, y), polygons = fields["peak"], fields["outline"]
    outline = tuple(tuple((x, y) for x, y in polygon) for polygon in polygons)
    return Lesion((x, y), outline, fields["area"], fields["score"])


def _read_problem(answer: requests.Response) -> ProblemError:
    """Read a refusal; one without a code and a detail is a proxy's or another server's."""
    try:
        fields = dict(answer.json())
    except (TypeError, ValueError):
        fields = {}
    return ProblemError(
        answer.status_code,
        fields.get("code", ""),
        fields.get("title", answer.reason),
        fields.get("detail") or _explain_foreign(answer),
        tuple(fields.get("accepted", ())),
        answer.headers.get("X-Request-ID", ""),
    )


def _explain_foreign(answer: requests.Response) -> str:
    told = f"{answer.status_code} {answer.reason}".strip()
    if answer.status_code != 413:
        return f"The answer came from a proxy in front of TumorApp, or from another server: {told}."
    sent = int(answer.request.headers.get("Content-Length") or 0) / 2**20
    return (
        f"A proxy in front of TumorApp refused the request as too large ({sent:.1f} MB): {told}. "
        "Send fewer or smaller images, or let the operator raise the proxy's limit (nginx: "
        "client_max_body_size)."
    )
