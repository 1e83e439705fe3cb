"""The jobs of an application: their store, and the queue that this worker helps to work off."""

import atexit
import logging
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tumorapp.catalog import Catalog
from tumorapp.jobs.archive import Limits
from tumorapp.jobs.errors import JobsUnavailableError, UnknownJobError
from tumorapp.jobs.files import find_file
from tumorapp.jobs.store import Job, Store

if TYPE_CHECKING:
    from tumorapp.jobs.queue import Queue

EXTENSION = "jobs"

logger = logging.getLogger(__name__)

_STORE_FILE = "jobs.db"
_QUEUE_FILE = "queue.db"


class Jobs:
    """The jobs in a folder, which is made when the first one comes.

    Every method but `exist` and `resume` raises JobsUnavailableError where that folder cannot be
    used.

    Attributes:
        folder: where they are kept.
        limits: of one job.
        most: how many may be unfinished at once.
        hours: how long one is kept after its end.
    """

    def __init__(self, config: Mapping[str, Any], catalog: Catalog) -> None:
        self.folder: Path = config["JOBS_DIR"]
        self.limits = Limits(
            bytes=config["MAX_JOB_MB"] * 2**20,
            images=config["MAX_JOB_IMAGES"],
            image_bytes=config["MAX_UPLOAD_MB"] * 2**20,
        )
        self.most: int = config["MAX_JOBS"]
        self.hours: int = config["JOB_HOURS"]
        self._max_pixels: int = config["MAX_PIXELS"]
        self._catalog = catalog
        self._opening = threading.Lock()
        self._store: Store | None = None
        self._queue: Queue | None = None

    def exist(self) -> bool:
        """Tell whether there ever was a job."""
        return (self.folder / _STORE_FILE).exists()

    @property
    def store(self) -> Store:
        """Where the jobs are kept."""
        with self._opening:
            if self._store is None:
                try:
                    self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                    self._store = Store(self.folder / _STORE_FILE)
                except (OSError, sqlite3.Error) as error:
                    raise self.explain(error) from error
            return self._store

    def explain(self, error: Exception) -> JobsUnavailableError:
        """Log why the folder cannot be used; gives what is said of it to a client."""
        logger.error("Jobs cannot be kept in %s: %s", self.folder, error)
        return JobsUnavailableError(
            "Jobs cannot be kept here at the moment. Send the images to /api/predict, some at a "
            "time; whoever runs this service finds the reason in its log."
        )

    def find(self, job_id: str) -> Job:
        """Give a job.

        Raises:
            UnknownJobError: there is none of that id, or no more.
        """
        job = self.store.find(job_id)
        if job is None:
            raise UnknownJobError(
                f"There is no such job. One that has ended is erased after {self.hours} hours."
            )
        return job

    def start(self) -> "Queue":
        """Begin to work off the jobs in this process; gives their queue."""
        store = self.store
        with self._opening:
            if self._queue is None:
                # Imported here, so that only those who have jobs wait for huey.
                from tumorapp.jobs.queue import Queue
                from tumorapp.jobs.runner import Runner

                runner = Runner(
                    folder=self.folder,
                    store=store,
                    catalog=self._catalog,
                    limits=self.limits,
                    max_pixels=self._max_pixels,
                    hours=self.hours,
                    stopping=threading.Event(),
                )
                queue = Queue(self.folder / _QUEUE_FILE, runner)
                queue.start()
                self._queue = queue  # only now: one that could not start would run no job
                # A runtime must not be taken down while a thread is using it.
                atexit.register(self.close)
            return self._queue

    def resume(self) -> None:
        """Go on with the jobs of an earlier process, or of one that died."""
        try:
            if self.store.any():
                self.start()
        except (JobsUnavailableError, OSError, sqlite3.Error):
            logger.exception("The jobs in %s cannot go on.", self.folder)

    def erase(self, job_id: str) -> None:
        """Cancel a job and erase all there is of it; raises as `find` does."""
        job = self.find(job_id)
        self.store.erase(job.id)
        find_file(self.folder, job.id).unlink(missing_ok=True)

    def close(self) -> None:
        """Stop working jobs off; the one that runs is released after its batch."""
        with self._opening:
            if self._queue is not None:
                atexit.unregister(self.close)
                self._queue.stop()
                self._queue = None
