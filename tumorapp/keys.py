"""API keys: made by `flask keys`, kept as hashes in a file, asked for with every request.

A key is 256 random bits, so that one round of SHA-256 is enough: nobody can try so many, and a
slow hash would only cost time at every request. The file is looked at for each, so a key that is
added or removed counts at once, in every worker.
"""

import hashlib
import hmac
import json
import logging
import secrets
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from flask import Flask, current_app, g, request

from brainscan.files import lock, write_text
from brainscan.messages import Problem
from tumorapp.errors import ConfigurationError
from tumorapp.feature import feature_of
from tumorapp.logs import ENVIRON_KEY

HEADER = "X-API-Key"

_PREFIX = "tumorapp_"  # by which scanners for leaked secrets can know one
_BYTES = 32
_FORMAT = 1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Key:
    """What is kept of a key: its name, when it was made (ISO 8601), and its SHA-256."""

    name: str
    created: str
    sha256: str


class KeyFile:
    """The file of the keys' hashes.

    Args:
        path: need not exist yet; there are no keys then, and nobody is let in.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[object, Sequence[Key]] = (None, ())

    def read(self) -> list[Key]:
        """Read the keys, by name.

        Raises:
            ConfigurationError: the file cannot be read, or holds something else.
        """
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            if stored["format"] != _FORMAT:
                raise ValueError(f"its format is {stored['format']!r}, not {_FORMAT}")
            return sorted((Key(**fields) for fields in stored["keys"]), key=lambda key: key.name)
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigurationError(
                f"The keys in {self.path} cannot be read: {error}. Let the service's user read the "
                "file, or move it away and add the keys again."
            ) from error

    def find(self, secret: str) -> Key | None:
        """Find the key that a request shows; takes the same time whichever it is."""
        shown = hashlib.sha256(secret.encode()).hexdigest()
        found = None
        for key in self._current():
            if hmac.compare_digest(key.sha256, shown):
                found = key
        return found

    def add(self, name: str) -> str:
        """Make a key; returns it, and keeps its hash only.

        Raises:
            ValueError: there is one of that name.
            ConfigurationError: as `read`.
            OSError: the file cannot be written.
        """
        secret = _PREFIX + secrets.token_urlsafe(_BYTES)
        created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with self._locked():
            keys = self.read()
            if name in {key.name for key in keys}:
                raise ValueError(f"There is a key named {name!r} already.")
            self._write([*keys, Key(name, created, hashlib.sha256(secret.encode()).hexdigest())])
        return secret

    def remove(self, name: str) -> None:
        """Remove a key; raises KeyError where there is none, else as `add`."""
        with self._locked():
            keys = self.read()
            left = [key for key in keys if key.name != name]
            if len(left) == len(keys):
                raise KeyError(name)
            self._write(left)

    def _current(self) -> Sequence[Key]:
        """Give the keys as they are now; the file is read again only where it was replaced."""
        try:
            found = self.path.stat()
        except OSError:
            return ()
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        if self._seen[0] != stamp:
            try:
                self._seen = (stamp, self.read())
            except ConfigurationError as error:
                logger.error("%s Until then, no key is accepted.", error)
                self._seen = (stamp, ())
        return self._seen[1]

    def _locked(self) -> AbstractContextManager[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return lock(self.path.with_name(f".{self.path.name}.lock"))

    def _write(self, keys: Sequence[Key]) -> None:
        stored = {"format": _FORMAT, "keys": [asdict(key) for key in keys]}
        write_text(self.path, json.dumps(stored, indent=2), mode=0o600)


def init_app(app: Flask) -> None:
    """Find out whose key each request of an application shows; `check` refuses it later."""
    keys = KeyFile(app.config["KEYS_FILE"])

    def identify() -> None:
        secret = _read_secret()
        if secret and (key := keys.find(secret)) is not None:
            g.key = key.name
            request.environ.get(ENVIRON_KEY, {})["key"] = key.name

    app.before_request(identify)


def check() -> None:
    """Refuse a request without a valid key, unless its feature is open.

    Raises:
        Problem: it shows no key, or one that is not valid.
    """
    if request.url_rule is None or "key" in g:
        return
    if feature_of(current_app, request.endpoint).needs_key:
        if _read_secret():
            raise Problem("invalid-key")
        raise Problem("missing-key", accepted=("Authorization: Bearer KEY", "X-API-Key: KEY"))


def warn(app: Flask) -> None:
    """Warn of what is probably not meant; raises ConfigurationError as `KeyFile.read`."""
    path: Path = app.config["KEYS_FILE"]
    if not KeyFile(path).read():
        logger.warning(
            "TUMORAPP_API_KEYS is on and there is no key in %s yet: nobody can use the API. "
            "`flask keys add NAME` makes one.",
            path,
        )
    if app.config["PAGES"] == "on":
        logger.warning(
            "TUMORAPP_API_KEYS is on, but the pages predict without a key for anyone who can reach "
            "them. TUMORAPP_PAGES=off turns them off."
        )


def _read_secret() -> str:
    """Read the key of the request: X-API-Key, or a bearer token; empty where there is none."""
    given = request.headers.get(HEADER, "")
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return (given or (token if scheme.lower() == "bearer" else "")).strip()
