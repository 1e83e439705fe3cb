"""The audit log: a line of JSON for each scan that was predicted, written before the answer.

The file is opened for each write, so that one that was moved away (logrotate) is followed by a new
one, and no line is lost. All lines of a request are one write at the end of the file, so that those
of several threads and workers do not mix.
"""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from flask import Flask

from brainscan import Answer, Problem
from tumorapp.catalog import Catalog
from tumorapp.config import FILE, ON_OFF, Setting
from tumorapp.errors import ConfigurationError
from tumorapp.feature import Feature
from tumorapp.logs import get_fields

logger = logging.getLogger(__name__)


class AuditLog:
    """Appends to a file what was predicted.

    Args:
        path: of the file.
        required: whether a prediction that cannot be recorded is refused.
    """

    def __init__(self, path: Path, *, required: bool) -> None:
        self._path, self._required = path, required
        self._fault = ""

    def check(self) -> None:
        """Find out whether the file can be written.

        Raises:
            ConfigurationError: it cannot, and must be.
        """
        try:
            self._append(b"")
        except OSError as error:
            if self._required:
                raise ConfigurationError(
                    f"The audit log {self._path} cannot be written: {error.strerror}. Choose "
                    "another file with TUMORAPP_AUDIT_LOG, or set TUMORAPP_AUDIT_REQUIRED=off."
                ) from error
            self._report(error)

    def record(self, found: Sequence[Answer], _: Mapping[str, float]) -> None:
        """Write a line for each examination of a file.

        Raises:
            Problem: that failed, and predictions have to be recorded.
        """
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        lines = [_describe(one, time) for one in found if one.sha256]
        try:
            self._append("".join(f"{json.dumps(line)}\n" for line in lines).encode())
        except OSError as error:
            self._report(error)
            if self._required:
                raise Problem("audit-unavailable") from error
        else:
            self._fault = ""

    def _append(self, data: bytes) -> None:
        file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            end = os.fstat(file).st_size
            if data and end and os.pread(file, 1, end - 1) != b"\n":
                data = b"\n" + data  # a full disk has cut the line before it
            if os.write(file, data) < len(data):
                raise OSError("the disk is full")
        finally:
            os.close(file)

    def _report(self, error: OSError) -> None:
        """Log why nothing can be written: once, not each time."""
        fault = error.strerror or str(error)
        if fault != self._fault:
            logger.error("The audit log %s cannot be written: %s", self._path, fault)
        self._fault = fault


def _describe(found: Answer, time: str) -> dict[str, object]:
    asked = get_fields()
    return {
        "time": time,
        "request_id": asked.get("request_id"),
        "key": asked.get("key"),
        "sha256": found.sha256,
        "model": found.card.name,
        "version": str(found.card.version),
        "precision": found.precision,
        "verdict": found.verdict,
        "label": found.label,
        "probabilities": found.probabilities,
    }


def _start(app: Flask) -> None:
    if path := app.config["AUDIT_LOG"]:
        log = AuditLog(path, required=app.config["AUDIT_REQUIRED"] == "on")
        log.check()
        catalog: Catalog = app.extensions["catalog"]
        catalog.observers.append(log.record)


FEATURE = Feature(
    "audit",
    start=_start,
    settings=(
        Setting("AUDIT_LOG", None, FILE),
        Setting("AUDIT_REQUIRED", "off", ON_OFF),
    ),
)
