"""What is known of a job, wherever it is kept."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Job:
    """A job and its progress.

    Attributes:
        id: cannot be guessed; it gives access to the job.
        request_id: of the request that sent it.
        key: the name of that request's key; None for a request without a key.
        archive: whether its images are a ZIP; else they follow one another in the file.
        version: of the bundle that predicts the scans; the newest one until the job starts.
        created: when it was accepted, in seconds since 1970.
        total: how many scans it has.
        starts: how many processes have started it since outcomes were last stored.
        finished: when it ended; None before.
        error: code and detail of why it failed as a whole; None where it did not.
        done: how many of them have an outcome.
        failed: how many of those could not be predicted.
    """

    id: str
    request_id: str | None
    key: str | None
    archive: bool
    model: str
    version: str
    created: float
    total: int
    starts: int = 0
    finished: float | None = None
    error: dict[str, str] | None = None
    done: int = 0
    failed: int = 0

    @property
    def state(self) -> Literal["waiting", "running", "done", "failed"]:
        """How far it is; failed is one that failed as a whole."""
        if self.finished is not None:
            return "failed" if self.error is not None else "done"
        return "running" if self.starts or self.done else "waiting"


@dataclass(frozen=True)
class Scan:
    """An image of a job.

    Attributes:
        name: from the sender; nothing is ever written under it.
        position: of its first byte in the job's file, or its number in the archive.
        size: in bytes, unpacked.
    """

    name: str
    position: int
    size: int
