"""How jobs are run: hold one, predict and store batch by batch, finish it."""

import atexit
import logging
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from brainscan import ImageFile, Message, Model, Problem, ScanError
from brainscan.files import LockedError
from tumorapp.api.schemas import describe_message
from tumorapp.bulk.predict import Outcome, predict_groups, refuse
from tumorapp.catalog import Catalog
from tumorapp.jobs.folder_store import FolderStore
from tumorapp.jobs.job import Job, Scan
from tumorapp.jobs.material import Limits, MaterialReader
from tumorapp.logs import note_sender

if TYPE_CHECKING:
    from tumorapp.jobs.redis_store import RedisStore

logger = logging.getLogger(__name__)

# Small: a request that arrives meanwhile waits for one batch at most; of images or series.
BATCH = 2
# A job's next scan is given up where so many workers have died with it.
MOST_STARTS = 3
# Ended jobs beyond this number are erased before their time, the oldest first.
MOST_KEPT = 1000

_SECONDS_BETWEEN_LOOKS = 0.25
_SECONDS_AFTER_A_FAULT = 5.0
_SECONDS_BETWEEN_SWEEPS = 60.0
_SECONDS_TO_STOP = 10.0


class _StoppedError(BaseException):
    """This process ends; another does what is left. No fault, which would be an outcome."""


class Jobs:
    """The jobs, and the thread of this process that runs them one at a time.

    Attributes:
        limits: of one job.
        most: how many may be unfinished at once.
        hours: how long one is kept after its end.
        store: where they are kept: a folder, or Redis.
    """

    def __init__(self, config: Mapping[str, Any], catalog: Catalog) -> None:
        self.limits = Limits(
            bytes=config["MAX_JOB_MB"] * 2**20,
            images=config["MAX_JOB_IMAGES"],
            image_bytes=config["MAX_UPLOAD_MB"] * 2**20,
        )
        self.most: int = config["MAX_JOBS"]
        self.hours: int = config["JOB_HOURS"]
        self.store = _open_store(config)
        self._max_pixels: int = config["MAX_PIXELS"]
        self._max_slices: int = config["MAX_SLICES"]
        self._catalog = catalog
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._stopping = threading.Event()
        self._started: str | None = None  # the job that this process started last
        self._faults: set[str] = set()  # that were logged since the store could last be used

    def start(self) -> None:
        """Start the thread, unless it runs already."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
                self._thread.start()
                # An engine must not be taken down while a thread is using it.
                atexit.register(self.close)

    def close(self) -> None:
        """Stop after the current file; another process does what is left."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_SECONDS_TO_STOP)

    def note_fault(self, error: OSError | sqlite3.Error) -> None:
        """Log why jobs cannot be stored: once, until they can be again."""
        # Without a path: it may hold a job's id.
        fault = (isinstance(error, OSError) and error.strerror) or str(error)
        if fault not in self._faults:
            self._faults.add(fault)
            logger.error("Jobs cannot be kept in %s: %s", self.store.place, fault)

    def _work(self) -> None:
        next_sweep = 0.0
        while not self._stopping.is_set():
            try:
                due = time.monotonic() >= next_sweep
                if due:
                    self.store.sweep(MOST_KEPT)
                    next_sweep = time.monotonic() + _SECONDS_BETWEEN_SWEEPS
                idle = not due and self.store.is_idle()
                ran = not idle and self.run_next()
                pause = 0.0 if ran else _SECONDS_BETWEEN_LOOKS
                if ran or idle:  # and not where another worker holds the job that failed here
                    self._faults.clear()
            except (OSError, sqlite3.Error) as error:
                pause = _SECONDS_AFTER_A_FAULT
                self.note_fault(error)
            self._stopping.wait(pause)

    def run_next(self) -> bool:
        """Run the oldest job that no other process runs; return False if nothing is waiting."""
        for job_id in self.store.list_unfinished():
            with suppress(LockedError), self.store.hold(job_id):
                job = self.store.find(job_id)
                if job is not None and job.finished is None:
                    self._run(job)
                    return True
        return False

    def _run(self, job: Job) -> None:
        error: Message | None = None
        try:
            with self.store.open_images(job.id) as file:
                reader = MaterialReader(file, archive=job.archive, limits=self.limits)
                if not self._predict(job, reader):
                    return
        except Problem as problem:
            error = problem.message
        except (OSError, sqlite3.Error):
            raise
        except Exception:
            logger.exception("A job failed.")
            error = Message("internal-error")
        self.store.finish(job.id, describe_message(error) if error else None)

    def _predict(self, job: Job, reader: MaterialReader) -> bool:
        """Predict what is left of a job; False where it was erased or this process ends."""
        note_sender(job.request_id, job.key)
        model = self._catalog.get(job.model)
        # Where the disk was full, this process goes on with a job that it has not died with.
        again = self._started == job.id
        self.store.start(job.id, str(model.card.version), again=again)
        self._started = job.id
        if job.starts >= MOST_STARTS and not again:
            logger.error("A scan of a job is given up: %d workers have died with it.", job.starts)
            for scans in self.store.next_scans(job.id, 1):  # none, if all are done
                refusal = refuse(list(scans.values()), Message("given-up"))
                self.store.save(job.id, _share(scans, [refusal]))
        batch = 1 if job.starts else BATCH
        try:
            self._group(job, reader)
            while series := self.store.next_scans(job.id, batch):
                start = time.monotonic()
                outcomes: dict[int, list[Outcome]] = {}
                for scans, found in zip(series, self._examine(model, reader, series), strict=True):
                    outcomes |= _share(scans, found)
                if not self.store.save(job.id, outcomes):
                    return False
                # As long again as it took: requests that somebody waits for have half the time.
                self._rest(time.monotonic() - start)
        except _StoppedError:
            return False
        return True

    def _rest(self, seconds: float = 0) -> None:
        """Wait that long; raises _StoppedError where this process ends."""
        if self._stopping.wait(seconds):
            raise _StoppedError

    def _group(self, job: Job, reader: MaterialReader) -> None:
        """Find out which scans are of one series, unless that is known."""
        firsts: dict[str | int, int] = {}
        grouped = {}
        for number, scan in self.store.list_scans(job.id).items():
            self._rest()
            series = ""
            with suppress(Exception):  # it shows again when the scan is examined, and is logged
                series = reader.find_series(scan)
            grouped[number] = firsts.setdefault(series or number, number)
        self.store.group(job.id, grouped)

    def _examine(
        self, model: Model, reader: MaterialReader, series: Sequence[Mapping[int, Scan]]
    ) -> list[list[Outcome]]:
        def read(scan: Scan) -> ImageFile | ScanError:
            self._rest()
            return reader.read(scan)

        try:
            return predict_groups(
                model,
                [list(scans.values()) for scans in series],
                read,
                max_pixels=self._max_pixels,
                max_slices=self._max_slices,
            )
        except Problem as problem:  # the audit log: the job goes on once that can be written
            raise OSError(str(problem)) from problem


def _open_store(config: Mapping[str, Any]) -> "FolderStore | RedisStore":
    if config["REDIS"] is None:
        return FolderStore(config["JOBS_DIR"], config["JOB_HOURS"])
    from tumorapp.jobs.redis_store import RedisStore  # its import takes time

    return RedisStore(config["REDIS"], config["JOBS_DIR"], config["JOB_HOURS"])


def _share(scans: Mapping[int, Scan], found: list[Outcome]) -> dict[int, list[Outcome]]:
    """Give what became of scans that are examined together to the first of them."""
    first, *others = scans
    return {first: found, **{number: [] for number in others}}
