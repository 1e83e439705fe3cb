"""API keys: made by `flask keys`, kept as hashes in a file, asked for with every request.

A key is 256 random bits, so that one round of SHA-256 is enough: nobody can try so many, and a
slow hash would only cost time at every request. The file is looked at for each, so a key that is
added or removed counts at once, in every worker.
"""

import fcntl
import hashlib
import hmac
import json
import logging
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from flask import Flask, g, request
from werkzeug.datastructures import Headers

from brainscan.messages import Problem
from tumorapp.errors import ConfigurationError
from tumorapp.logs import ENVIRON_KEY

HEADER = "X-API-Key"
# What needs no key: the pages, what describes the API, and whatever asks for the service's health.
# Everything else does, so that what is added later does, too.
OPEN_BLUEPRINTS = frozenset(
    {"how", "leaderboard", "many", "openapi", "ops", "pages", "report_page"}
)
OPEN_ENDPOINTS = frozenset(
    {"static", "open_inference.check_health", "open_inference.check_readiness"}
)

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
                "file, or move it away and add the keys anew."
            ) from error

    def find(self, secret: str) -> Key | None:
        """Find the key that somebody shows, by a comparison that takes as long for any other."""
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

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Wait until nobody else changes the file; its folder is made where there is none."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _write(self, keys: Sequence[Key]) -> None:
        """Replace the file as a whole, to be read by its owner alone: the same as before."""
        stored = {"format": _FORMAT, "keys": [asdict(key) for key in keys]}
        descriptor, name = tempfile.mkstemp(prefix=".keys-", dir=self.path.parent)  # mode 0600
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(stored, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            if os.geteuid() == 0 and self.path.exists():  # root does not take it from the service
                owner = self.path.stat()
                os.chown(temporary, owner.st_uid, owner.st_gid)
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)


def init_app(app: Flask) -> None:
    """Ask every request of an application for a key, but for those to what is open."""
    keys = KeyFile(app.config["KEYS_FILE"])

    def check() -> None:
        if request.url_rule is None or is_open(request.blueprint, request.endpoint):
            return
        secret = read_secret(request.headers)
        if not secret:
            raise Problem("missing-key", accepted=("Authorization: Bearer KEY", "X-API-Key: KEY"))
        key = keys.find(secret)
        if key is None:
            raise Problem("invalid-key")
        g.key = key.name
        request.environ.get(ENVIRON_KEY, {})["key"] = key.name

    app.before_request(check)
    if os.environ.get("FLASK_RUN_FROM_CLI") != "true":
        if not keys.read():
            logger.warning(
                "TUMORAPP_API_KEYS is on and there is no key in %s yet: nobody can use the API. "
                "`flask keys add NAME` makes one.",
                keys.path,
            )
        if app.config["PAGES"] == "on":
            logger.warning(
                "TUMORAPP_API_KEYS is on, and the pages predict without a key for whoever can "
                "reach them. TUMORAPP_PAGES=off turns them off."
            )


def is_open(blueprint: str | None, endpoint: str | None) -> bool:
    """Tell whether an endpoint needs no key."""
    return blueprint in OPEN_BLUEPRINTS or endpoint in OPEN_ENDPOINTS


def read_secret(headers: Headers) -> str:
    """Read the key of a request: X-API-Key, or a bearer token; empty where there is none."""
    given = headers.get(HEADER, "")
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    return (given or (token if scheme.lower() == "bearer" else "")).strip()
