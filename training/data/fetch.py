"""A known data set → a folder-per-class tree on this machine, whole or not at all."""

import contextlib
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from errno import EDQUOT, ENOSPC
from json import JSONDecodeError
from pathlib import Path
from urllib.parse import urlsplit

import kagglehub
import requests
from kagglehub.config import get_cache_folder
from kagglehub.exceptions import DataCorruptionError

from brainscan.files import lock, move_into_place, staging_folder, sweep
from training.data import figshare
from training.data.folders import find_scans
from training.data.sources import SOURCES, DataError, Source

_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, DataCorruptionError)


class FetchError(DataError):
    """A data set could not be fetched; the message says why and what to do next."""


def fetch(name: str, destination: Path) -> Path:
    """Download a known data set and lay it out as `destination/name`.

    The folder appears only when it is complete. A second call finds it and does nothing; a call
    after an interrupted one goes on with what was downloaded. Kaggle's sets pass through
    kagglehub's own cache (`KAGGLEHUB_CACHE`, by default `~/.cache/kagglehub`), whose files are
    linked rather than copied where both lie on one disk, and need its credentials only where
    Kaggle asks for them. figshare's archives wait in `destination/figshare.download` until they
    are converted.

    Args:
        name: one of `SOURCES`.
        destination: the folder that holds data sets; made where it is missing.

    Returns:
        The data set's folder.

    Raises:
        FetchError: the name is unknown, the network or the service refuses, the download is
            damaged, or the disk is full.
    """
    source = SOURCES.get(name)
    if source is None:
        raise FetchError(
            f"There is no data set called {name!r}. Known: {', '.join(SOURCES)}. "
            "Any other folder-per-class tree can be passed to --data as it is."
        )
    target = destination / name
    downloads = destination / f"{name}.download"
    with _in_plain_words(source, downloads):
        destination.mkdir(parents=True, exist_ok=True)
        with lock(destination / f".{name}.lock"):
            if not (target.is_dir() and any(target.iterdir())):
                _lay_out(source, target, downloads)
    return target


def _lay_out(source: Source, target: Path, downloads: Path) -> None:
    prefix = f".{source.name}.part-"
    sweep(target.parent, prefix)
    with staging_folder(target, prefix) as staging:
        if source.kind == "kaggle":
            _lay_out_from_kaggle(source, staging)
        else:
            downloads.mkdir(exist_ok=True)
            figshare.convert(figshare.download_article(downloads), staging)
        _check_classes(source, staging)
        move_into_place(staging, target)
    if downloads.exists():
        shutil.rmtree(downloads)


def _lay_out_from_kaggle(source: Source, folder: Path) -> None:
    """Let kagglehub download into its cache, and link (or copy) what it unpacked there."""
    try:
        cached = Path(kagglehub.dataset_download(source.handle))
    except (ValueError, *_DAMAGED):
        # kagglehub would take the archive for complete, and fail on it again and again.
        for archive in Path(get_cache_folder(), "datasets", source.handle).glob("*.archive"):
            archive.unlink()
        raise
    for path in sorted(cached.rglob("*")):
        twin = folder / path.relative_to(cached)
        if path.is_dir():
            twin.mkdir()
            continue
        try:
            twin.hardlink_to(path)
        except OSError:  # another disk, or one that knows no links
            shutil.copy2(path, twin)


def _check_classes(source: Source, folder: Path) -> None:
    """Refuse a download that unpacked well but holds something else."""
    labels = {scan.label for scan in find_scans(folder)}
    if missing := set(source.classes) - labels:
        raise DataError(
            f"What came has no scans of {', '.join(sorted(missing))}: it holds "
            f"{', '.join(sorted(labels))}."
        )


@contextlib.contextmanager
def _in_plain_words(source: Source, downloads: Path) -> Iterator[None]:
    """Turn what goes wrong in a download into a `FetchError` that says what to do next."""
    try:
        yield
    except (ValueError, OSError, *_DAMAGED) as error:  # requests' errors are OSErrors
        by_hand = f"download it from {source.url}, unpack it and pass the folder to --data."
        if source.kind == "figshare":
            by_hand = (
                f'choose "Download all" at {source.url}, save it as '
                f"{downloads / figshare.WHOLE_ARCHIVE} and run the same command again: it "
                "converts the archive to a folder that can be passed to --data."
            )
        raise FetchError(
            f"{source.name} was not fetched. {_explain(error, source)}\nOr by hand: {by_hand}"
        ) from error


def _explain(error: Exception, source: Source) -> str:
    """Say what an error means and what to do about it."""
    if isinstance(error, requests.HTTPError):
        return _explain_status(error, source)
    if isinstance(error, (JSONDecodeError, requests.exceptions.JSONDecodeError)):
        return (
            "The answer is not the service's own: a proxy or a sign-in page may be in between. "
            "Open a web page to sign in to the network, then run the same command again."
        )
    if isinstance(error, requests.RequestException):
        host = urlsplit(str(error.request.url)).hostname if error.request else source.kind
        return (
            f"No connection to {host}, or a lost one. Check the network and, behind a proxy, "
            "HTTPS_PROXY; then run the same command again: it goes on where it stopped."
        )
    if isinstance(error, _DAMAGED):
        return f"The archive is damaged or cut short ({error}). Run the same command again."
    if isinstance(error, OSError):
        where = f" {error.filename}" if error.filename else ""
        advice = (
            f"Cannot write{where}: {error.strerror or error}. Choose a folder you may write to."
        )
        full = (
            f"The disk is full{where}. Free some space, or choose another folder (and another "
            "KAGGLEHUB_CACHE for Kaggle's sets), and run the same command again."
        )
        return full if error.errno in (ENOSPC, EDQUOT) else advice
    return str(error)  # in plain words already, kagglehub's on its credentials file too


def _explain_status(error: requests.HTTPError, source: Source) -> str:
    status = error.response.status_code if error.response is not None else "unknown"
    if source.kind == "kaggle" and status in (401, 403):
        return (
            f"Kaggle refused (status {status}): it wants credentials, or does not accept the ones "
            "it got. Make a token at https://www.kaggle.com/settings/api, put it into the "
            "environment variable KAGGLE_API_TOKEN or the file ~/.kaggle/access_token, and run "
            f"the same command again. Where the set asks for consent, give it at {source.url}."
        )
    if status == 404:
        return f"The service no longer has it as {source.handle} (status 404)."
    return f"The service does not hand it out now (status {status}). Try again later."
