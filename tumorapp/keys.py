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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Key:
    """What is kept of a key: when it was made (ISO 8601), and its SHA-256."""

    created: str
    sha256: str


class KeyFile:
    """The file of the keys' hashes: a JSON object of `Key`s by name.

    Args:
        path: need not exist yet; there are no keys then, and nobody is let in.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[object, Mapping[str, Key]] = (None, {})

    def read(self) -> dict[str, Key]:
        """Read the keys, by name.

        Raises:
            ConfigurationError: the file cannot be read, or holds something else.
        """
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            return {name: Key(**fields) for name, fields in sorted(stored.items())}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ConfigurationError(
                f"The keys in {self.path} cannot be read: {error}. Let the service's user read the "
                "file, or move it away and add the keys again."
            ) from error

    def find(self, secret: str) -> str | None:
        """Find the name of a key that a request shows; takes the same time for every key."""
        shown = _hash(secret)
        found = None
        for name, key in self._current().items():
            if hmac.compare_digest(key.sha256, shown):
                found = name
        return found

    def add(self, name: str) -> str:
        """Make a key; returns it, and keeps its hash only.

        Raises:
            ValueError: there is one of that name.
            ConfigurationError: as `read`.
            OSError: the file cannot be written.
        """
        secret = _PREFIX + secrets.token_urlsafe(_BYTES)
        with self._change() as keys:
            if name in keys:
                raise ValueError(
                    f"There is already a key named {name!r}. Remove it, or choose another name."
                )
            keys[name] = Key(datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), _hash(secret))
        return secret

    def remove(self, name: str) -> None:
        """Remove a key; raises ValueError for an unknown name, else as `add`."""
        with self._change() as keys:
            if keys.pop(name, None) is None:
                raise ValueError(f"There is no key named {name!r}. `flask keys list` shows them.")

    @contextmanager
    def _change(self) -> Iterator[dict[str, Key]]:
        """Let nobody else change the keys meanwhile; what is made of them replaces the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with lock(self.path.with_name(f".{self.path.name}.lock")):
            keys = self.read()
            yield keys
            stored = {name: asdict(key) for name, key in keys.items()}
            write_text(self.path, json.dumps(stored, indent=2), mode=0o600)

    def _current(self) -> Mapping[str, Key]:
        """Give the keys as they are now; the file is read again only where it was replaced."""
        try:
            found = self.path.stat()
        except OSError:
            return {}
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        if self._seen[0] != stamp:
            try:
                self._seen = (stamp, self.read())
            except ConfigurationError as error:
                logger.error("%s Until then, no key is accepted.", error)
                self._seen = (stamp, {})
        return self._seen[1]


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def init_app(app: Flask) -> None:
    """Find out whose key each request of an application shows; `check` refuses it later."""
    keys = KeyFile(app.config["KEYS_FILE"])

    def identify() -> None:
        secret = _read_secret()
        if secret and (name := keys.find(secret)) is not None:
            g.key = name
            request.environ.get(ENVIRON_KEY, {})["key"] = name

    app.before_request(identify)


def is_refused() -> bool:
    """Tell whether a request lacks the valid key that its feature needs.

    OPTIONS needs none: it says which methods there are, and browsers ask it without a key (CORS).
    """
    if request.method == "OPTIONS":
        return False
    if current_app.config["API_KEYS"] == "off" or request.url_rule is None or "key" in g:
        return False
    return feature_of(current_app, request.endpoint).needs_key


def check() -> None:
    """Refuse a request without a valid key, unless its feature is open.

    Raises:
        Problem: it shows no key, or one that is not valid.
    """
    if is_refused():
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
    """Read the key of the request: X-API-Key, or a bearer token; empty if it has none."""
    given = request.headers.get(HEADER, "")
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return (given or (token if scheme.lower() == "bearer" else "")).strip()
