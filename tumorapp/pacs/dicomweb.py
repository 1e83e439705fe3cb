"""DICOMweb: studies found by QIDO or in Orthanc's feed of changes, WADO and STOW."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from functools import partial
from io import BytesIO
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import requests
from dicomweb_client import DICOMwebClient
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from brainscan import Problem
from tumorapp.pacs.worker import Series, State, Study, hash_uid

_TIMEOUT = (10.0, 120.0)  # seconds to connect, and between bytes
_PAGE = 500
_SIZE, _FILES = "NumberOfStudyRelatedInstances", "NumberOfSeriesRelatedInstances"
_GARBLED = (AttributeError, EOFError, InvalidDicomError, KeyError, TypeError, ValueError)
# Reasons of a failure by which an instance is there already: DICOM's, and that of Azure.
_THERE_ALREADY = (0x0111, 45070)


class Server:
    """A DICOMweb server.

    Args:
        url: its address, with a user and a password where it asks for them.
    """

    def __init__(self, url: str) -> None:
        self.session = requests.Session()
        parts = urlsplit(url)
        if parts.username:
            self.session.auth = (unquote(parts.username), unquote(parts.password or ""))
        address = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        self._client = DICOMwebClient(
            urlunsplit(address).rstrip("/"),
            self.session,
            callback=_check_whole,
            permissive_uid=True,
            timeout=_TIMEOUT,
        )
        self._client.set_http_retry_params(retry=False)

    def close(self) -> None:
        """Close the connections."""
        self.session.close()

    def search_studies(self, since: date | None) -> list[Dataset]:
        """List the studies with MR images, of a day and later."""
        filters = {"ModalitiesInStudy": "MR"}
        if since is not None:
            filters["StudyDate"] = f"{since:%Y%m%d}-"
        search = partial(self._client.search_for_studies, fields=[_SIZE], search_filters=filters)
        return _list_all(search, "StudyInstanceUID")

    def open_study(self, uid: str, settle: Callable[[], None]) -> Study:
        """Give a study by its UID."""
        return Study(hash_uid(uid), partial(self._list_series, uid), settle)

    def _list_series(self, study: str) -> list[Series]:
        search = partial(self._client.search_for_series, study, fields=[_FILES])
        found = _list_all(search, "SeriesInstanceUID")
        return [
            Series(
                hash_uid(one.SeriesInstanceUID),
                str(one.get("Modality") or ""),
                partial(self._fetch, study, one.SeriesInstanceUID, int(one.get(_FILES) or 0)),
            )
            for one in sorted(found, key=lambda one: str(one.SeriesInstanceUID))
        ]

    def _fetch(self, study: str, series: str, expected: int) -> list[bytes]:
        any_syntax = (("application/dicom", "*"),)
        with _ask():
            received = self._client.retrieve_series(study, series, media_types=any_syntax)
        if len(received) < max(1, expected):
            raise Problem("incomplete-series", received=len(received), expected=expected)
        return [_encode(one) for one in received]

    def store(self, objects: Sequence[Dataset]) -> None:
        """Store objects of one study; one that is there already stays as it is.

        Raises:
            Problem: the server does not answer, or refuses one of them.
        """
        try:
            with _ask():
                answer = self._client.store_instances(objects, objects[0].StudyInstanceUID)
        except Problem as problem:  # it may say which of them it refuses
            answer = _read_failures(getattr(problem.__cause__, "response", None))
            if not answer.get("FailedSOPSequence"):
                raise
        failures = [one.get("FailureReason") for one in answer.get("FailedSOPSequence") or ()]
        if reasons := [one for one in failures if one not in _THERE_ALREADY]:
            refused, reason = len(reasons), f"{reasons[0] or 0:#06x}"
            raise Problem("store-refused", refused=refused, objects=len(objects), reason=reason)


class Search:
    """The studies that QIDO finds, each once it has stopped growing.

    Args:
        server: where they are.
        since: the day from which on they count.
        at_once: whether they are taken although they may still grow.
    """

    def __init__(self, server: Server, since: date | None, *, at_once: bool) -> None:
        self._server, self._since, self._at_once = server, since, at_once
        self._sizes: dict[str, int] = {}
        self._settled: dict[tuple[str, str], int] = {}

    def find(self, model: str) -> Iterator[Study]:
        """See `Source`."""
        for found in self._server.search_studies(self._since):
            uid, size = str(found.StudyInstanceUID), int(found.get(_SIZE) or 0)
            grows = self._sizes.get(uid) != size and not self._at_once
            self._sizes[uid] = size
            if not grows and self._settled.get((uid, model)) != size:
                settle = partial(self._settled.__setitem__, (uid, model), size)
                yield self._server.open_study(uid, settle)


class Changes:
    """The studies that Orthanc's feed calls stable.

    Args:
        server: Orthanc's DICOMweb.
        address: Orthanc's own.
        since: the day from which on changes count.
        state: keeps up to where all is done.
    """

    def __init__(self, server: Server, address: str, since: date | None, state: State) -> None:
        self._server, self._address, self._state = server, address.rstrip("/"), state
        self._since = f"{since:%Y%m%d}" if since else ""
        self._settled: dict[tuple[str, str], int] = {}

    def find(self, model: str) -> Iterator[Study]:
        """See `Source`. The feed is read again from where something is left to do."""
        feed = hash_uid(f"{self._address} {model}")
        last, stable = self._follow(self._state.find_last(feed))
        for found, number in stable.items():
            settle = partial(self._settled.__setitem__, (model, found), number)
            if self._settled.get((model, found)) == number:
                continue
            about = self._get(f"studies/{found}")
            if about is None:  # it was deleted
                settle()
                continue
            with _ask():
                uid = str(about["MainDicomTags"]["StudyInstanceUID"])
            yield self._server.open_study(uid, settle)
        if all(self._settled.get((model, one)) == number for one, number in stable.items()):
            self._state.advance(feed, last)

    def _follow(self, last: int) -> tuple[int, dict[str, int]]:
        """Read the feed from a change on: the number of its last, and that of each stable study."""
        stable: dict[str, int] = {}
        done = False
        while not done:
            page = self._get(f"changes?since={last}&limit={_PAGE}")
            with _ask():
                stable |= {
                    str(one["ID"]): int(one["Seq"])
                    for one in page["Changes"]
                    if one["ChangeType"] == "StableStudy" and one["Date"] >= self._since
                }
                last, done = int(page["Last"]), bool(page["Done"])
        return last, stable

    def _get(self, path: str) -> Any:
        """Get what Orthanc has at a path; None where it has nothing there."""
        with _ask():
            response = self._server.session.get(f"{self._address}/{path}", timeout=_TIMEOUT)
            if response.status_code == requests.codes.not_found:
                return None
            response.raise_for_status()
            return response.json()


@contextmanager
def _ask() -> Iterator[None]:
    """Raise Problem where a server does not answer as it should, without the UIDs of addresses."""
    try:
        yield
    except requests.HTTPError as error:
        raise Problem("pacs-refused", status=error.response.status_code) from error
    except (requests.RequestException, *_GARBLED) as error:
        raise Problem("pacs-no-answer", reason=type(error).__name__) from error


def _check_whole(response: requests.Response, *_: Any, **__: Any) -> None:
    """Refuse an answer in several parts that lacks its end."""
    kind = response.headers.get("Content-Type", "")
    if response.ok and kind.startswith("multipart/") and response.content.rstrip()[-2:] != b"--":
        raise EOFError


def _list_all(search: Callable[..., Any], key: str) -> list[Dataset]:
    """List what a search finds, page by page."""
    found: dict[str, Dataset] = {}
    while True:
        with _ask():
            page = [Dataset.from_json(one) for one in search(limit=_PAGE, offset=len(found))]
            new = {str(one[key].value): one for one in page}
        if new.keys() <= found.keys():
            return list(found.values())
        found |= new


def _encode(dataset: Dataset) -> bytes:
    written = BytesIO()
    dcmwrite(written, dataset)
    return written.getvalue()


def _read_failures(response: requests.Response | None) -> Dataset:
    """Read which objects an answer says were not stored; none where it does not say."""
    try:
        return Dataset.from_json(response.json()) if response is not None else Dataset()
    except (requests.JSONDecodeError, *_GARBLED):
        return Dataset()
