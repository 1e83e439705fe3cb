"""A known data set → a folder-per-class tree on this machine, whole or not at all."""

import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
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
_AGAIN = "Run the same command again: it continues with what was downloaded."


class FetchError(DataError):
    """A data set could not be fetched; the message says why and what to do next."""


def fetch(name: str, destination: Path) -> Path:
    """Download a known data set and lay it out as `destination/name`.

    The folder appears only when it is complete. A second call finds it and does nothing; a call
    after an interrupted one continues with what was downloaded. Kaggle's sets pass through
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
            shutil.copytree(
                _download_from_kaggle(source), staging, dirs_exist_ok=True, copy_function=_link
            )
        else:
            downloads.mkdir(exist_ok=True)
            figshare.convert(figshare.download_article(downloads), staging)
        labels = {scan.label for scan in find_scans(staging)}
        if missing := set(source.classes) - labels:
            raise DataError(
                f"The download has no scans of {', '.join(sorted(missing))}: it holds "
                f"{', '.join(sorted(labels))}."
            )
        move_into_place(staging, target)
    shutil.rmtree(downloads, ignore_errors=True)


def _download_from_kaggle(source: Source) -> str:
    """Let kagglehub download into its cache and unpack there; give that folder."""
    try:
        return str(kagglehub.dataset_download(source.handle))
    except (ValueError, *_DAMAGED):
        # kagglehub would take the archive for complete, and fail on it again and again.
        for archive in Path(get_cache_folder(), "datasets", source.handle).glob("*.archive"):
            archive.unlink()
        raise


def _link(path: str, twin: str) -> None:
    try:
        Path(twin).hardlink_to(path)
    except OSError:  # another disk, or one that knows no links
        shutil.copy2(path, twin)


@contextmanager
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
    if isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code
        if source.kind == "kaggle" and status in (401, 403):
            return (
                f"Kaggle refused (status {status}): the credentials are missing or not accepted. "
                "Make a token at https://www.kaggle.com/settings/api, put it into the environment "
                "variable KAGGLE_API_TOKEN or the file ~/.kaggle/access_token, and run the same "
                f"command again. If the set asks for consent, give it at {source.url}."
            )
        return f"The service answered with status {status}. Try again later."
    if isinstance(error, requests.RequestException) and not isinstance(error, ValueError):
        host = urlsplit(str(error.request.url)).hostname if error.request else source.kind
        return (
            f"There is no connection to {host}, or it was lost. Check the network and, behind a "
            f"proxy, HTTPS_PROXY. {_AGAIN}"
        )
    if isinstance(error, _DAMAGED):
        return f"The archive is damaged or cut short ({error}). {_AGAIN}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'A file'} cannot be written: {error.strerror}. {_AGAIN}"
    return f"{error}"  # in plain words already, kagglehub's on its credentials file too
