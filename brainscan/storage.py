"""Folders in object stores: `s3://bucket/…` and `gs://bucket/…`, and `file:///…` the same way.

Keys and endpoints come from the environment, under the names that each store's own tools read.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from fsspec.core import url_to_fs
from fsspec.spec import AbstractFileSystem
from obstore.exceptions import BaseError
from obstore.fsspec import register
from obstore.store import from_url

_STORES = ("s3", "gs")
_SCHEMES = (*_STORES, "file")
_OPTIONS: dict[str, Any] = {
    "client_options": {
        "allow_http": True,  # MinIO's endpoint is http://
        "connect_timeout": "3s",
        "read_timeout": "30s",  # without an answer; a large file may take longer as a whole
        "timeout": "1h",
    },
    "retry_config": {"max_retries": 2, "retry_timeout": timedelta(seconds=10)},
    "skip_instance_cache": True,  # keys and endpoint may have changed
}
_ANSWER = re.compile(r"<Code>(?P<code>\w+)</Code>\s*<Message>(?P<message>.*?)\.?</Message>")
_STATUS = re.compile(r"status code: (\d{3} [\w ]+)")
_KEY_SERVER = "169.254.169.254"  # asked for the machine's own rights where no key is set


class StorageError(OSError):
    """A store cannot be used; the message names the URL, and says why and what to check."""


class MissingFileError(StorageError, FileNotFoundError):
    """A store has no such file."""


def is_url(place: str) -> bool:
    """Tell whether a place is a URL that `open_storage` takes, rather than a path."""
    return place.startswith(tuple(f"{scheme}://" for scheme in _SCHEMES))


def open_storage(url: str) -> tuple[AbstractFileSystem, str]:
    """Give the file system of a URL, and the path in it; open it once for many files.

    Wrap calls on it in `with explained(url):`.

    Raises:
        StorageError: the URL names no bucket, or the endpoint in the environment is not a URL.
    """
    scheme, bucket, *_ = urlsplit(url)
    if scheme == "file":
        system, path = url_to_fs(url, auto_mkdir=True)
        return system, path
    if scheme not in _STORES or not re.fullmatch(r"[\w.-]+", bucket, re.ASCII):
        raise StorageError(f"{url} names no bucket. Give s3://BUCKET/FOLDER or gs://BUCKET/FOLDER.")
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        endpoint = os.environ.get(name)
        # One with a password would be logged whenever it does not answer.
        if scheme == "s3" and endpoint and not re.fullmatch(r"https?://[^\s@]+", endpoint):
            raise StorageError(
                f"{name} cannot be used. Give a URL without a password, such as http://minio:9000."
            )
    register(_STORES)
    system, path = url_to_fs(url.rstrip("/"), **_OPTIONS)
    return system, path


def list_files(url: str) -> Iterator[str]:
    """Give the URLs of all files below that of a folder, in any order, without holding them.

    Raises:
        StorageError: as `explained` does.
    """
    options = {name: _OPTIONS[name] for name in ("client_options", "retry_config")}
    with explained(url):
        for found in from_url(url, **options).list():
            for one in found:
                yield f"{url}/{one['path']}"


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Tell in one line what a store answered to the calls inside.

    Args:
        url: what the message names.

    Raises:
        MissingFileError: the store has no such file.
        StorageError: it has no such bucket, grants no right to it, or does not answer.
    """
    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # a file system's own
        reason = _find_reason(str(error))
        if isinstance(error, FileNotFoundError) and "(NoSuchBucket)" not in reason:
            raise MissingFileError(f"{url} does not exist.") from None
        raise StorageError(
            f"{url} cannot be used: {reason}. Check the URL, the keys and the endpoint "
            "(docs/storage.md)."
        ) from None


def _find_reason(text: str) -> str:
    """Find what a person needs in an error's text: the store's answer, or that there was none."""
    if _KEY_SERVER in text:
        return "no key is set, and this machine has no rights of its own"
    if answer := _ANSWER.search(text):
        return f"{answer['message']} ({answer['code']})"
    if status := _STATUS.search(text):
        return f"its store answered {status[1]}"
    first = text.partition("\n")[0]
    if "error sending request" in first:
        asked = re.search(r"https?://[^/\s]+", first)
        return f"{asked[0] if asked else 'its store'} does not answer"
    return first
