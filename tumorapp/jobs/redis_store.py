"""The queue of jobs, their images and the outcomes of their scans in Redis, for all replicas.

A job is a hash of its fields, as JSON, with the outcomes of its scans by their numbers; its images
are a list of pieces. Redis erases both in time.

The replica that runs a job holds a lock, which expires unless it is renewed: if the replica dies,
another one goes on. Each write of a run is a transaction that does nothing once the lock is lost,
so that nothing is stored twice.
"""

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, astuple, fields
from itertools import chain, count, takewhile
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, cast

from redis import Redis, RedisError
from redis.lock import Lock

from brainscan import Problem
from brainscan.files import LockedError
from tumorapp.bulk.predict import Outcome
from tumorapp.jobs.job import Job, Scan

SECONDS_OF_LOCK = 10.0
_SECONDS_TO_ANSWER = 5
_SECONDS_TO_ADD = 60  # to add a job, after the last piece of its images
_BYTES_OF_PIECE = 2**20

_QUEUE, _ENDED = "tumorapp:queue", "tumorapp:ended"
_JOB, _IMAGES, _LOCK = "tumorapp:job:", "tumorapp:images:", "tumorapp:lock:"
_FIELDS = tuple(field.name for field in fields(Job))


class RedisStore:
    """The jobs in a Redis, with the methods of `tumorapp.jobs.folder_store.FolderStore`.

    Every method raises OSError where Redis, or the folder, cannot be used.

    Args:
        url: of the Redis.
        folder: for the images of jobs that this process receives or runs, in files without names.
        hours: how long a job is kept after its end.

    Attributes:
        place: where jobs are kept, in words.
    """

    def __init__(self, url: str, folder: Path, hours: int) -> None:
        # No retry: a command that is repeated because its answer was lost would count twice.
        # Any: what redis-py says of its methods holds for their asynchronous twins as well.
        self._redis: Any = Redis.from_url(url, socket_timeout=_SECONDS_TO_ANSWER, retry=None)
        self.place = f"Redis and {folder}"
        self._folder = folder
        self._seconds = hours * 3600
        self._lock: Lock | None = None  # of the job that this process runs

    @contextmanager
    def create(self) -> Iterator[tuple[str, BinaryIO]]:
        """Make the id of a new job, and the file to write its images to before `add`."""
        with self._open_file() as file:
            yield secrets.token_urlsafe(16), file

    def add(self, job: Job, file: BinaryIO, scans: Sequence[Scan], most: int) -> bool:
        """Put a job at the end of the queue; False where `most` are unfinished already."""
        stored = {**asdict(job), "scans": [astuple(scan) for scan in scans], "firsts": {}}
        record, images = _JOB + job.id, _IMAGES + job.id

        def put(pipe: Any) -> bool:
            if pipe.llen(_QUEUE) >= most:
                return False
            pipe.multi()
            pipe.hset(record, mapping=_pack(stored))
            for name in (record, images):
                pipe.expireat(name, int(job.created) + self._seconds)
            pipe.rpush(_QUEUE, job.id)
            return True

        with self._use() as redis:
            if redis.llen(_QUEUE) >= most:  # before its images are sent
                return False
            file.seek(0)
            for piece in chain([b""], iter(lambda: file.read(_BYTES_OF_PIECE), b"")):
                redis.rpush(images, piece)
                redis.expire(images, _SECONDS_TO_ADD)
            return cast("bool", redis.transaction(put, _QUEUE, value_from_callable=True))

    def find(self, job: str) -> Job | None:
        """Give a job; None if no job has that id."""
        values = self._read(job, *_FIELDS)
        return None if values[0] is None else Job(*values)

    def list_unfinished(self) -> list[str]:
        """List the ids of the jobs that wait or run, in the order they came."""
        with self._use() as redis:
            return [job.decode() for job in redis.lrange(_QUEUE, 0, -1)]

    def is_idle(self) -> bool:
        """Tell whether no job waits or runs."""
        return not self.list_unfinished()

    @contextmanager
    def hold(self, job: str) -> Iterator[None]:
        """Hold a job as long as this process lives; raises LockedError where another does."""
        with self._use() as redis:
            lock = redis.lock(_LOCK + job, timeout=SECONDS_OF_LOCK, thread_local=False)
            if not lock.acquire(blocking=False):
                raise LockedError("The job is held by another process.")
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(SECONDS_OF_LOCK / 3):
                with suppress(RedisError):  # what is stored next tells
                    lock.reacquire()

        renewal = threading.Thread(target=renew, name="job-lock", daemon=True)
        renewal.start()
        self._lock = lock
        try:
            yield
        finally:
            self._lock = None
            ended.set()
            renewal.join()
            with suppress(RedisError):
                lock.release()

    def open_images(self, job: str) -> BinaryIO:
        """Copy a job's images into a file; raises Problem if they were erased."""
        file = self._open_file()
        with self._use() as redis:
            pieces = (redis.lindex(_IMAGES + job, number) for number in count())
            file.writelines(takewhile(lambda piece: piece is not None, pieces))
            if not redis.exists(_IMAGES + job):
                file.close()
                raise Problem("job-images-missing")
        file.seek(0)
        return file

    def start(self, job: str, version: str, *, again: bool) -> None:
        """Note that a process starts a job; outcomes of another version are dropped."""
        found = self.find(job)

        def note(pipe: Any) -> None:
            pipe.hincrby(_JOB + job, "starts", int(not again))
            if found is not None and found.version != version:
                pipe.hdel(_JOB + job, *range(found.total))
                pipe.hset(_JOB + job, mapping=_pack({"version": version, "done": 0, "failed": 0}))

        self._change(job, note)

    def list_scans(self, job: str) -> dict[int, Scan]:
        """Give the scans of a job by their numbers; none where it was grouped already."""
        scans, firsts = self._read(job, "scans", "firsts")
        return {} if firsts else {number: Scan(*one) for number, one in enumerate(scans or ())}

    def group(self, job: str, firsts: Mapping[int, int]) -> None:
        """Note, of each scan of a job, the number of the first one of its series."""
        if firsts:
            self._change(job, lambda pipe: pipe.hset(_JOB + job, "firsts", json.dumps(firsts)))

    def next_scans(self, job: str, limit: int) -> list[dict[int, Scan]]:
        """Give the first series without outcomes: their scans by their numbers."""
        with self._use() as redis:
            done = {name.decode() for name in redis.hkeys(_JOB + job)}
        scans, firsts = self._read(job, "scans", "firsts")
        series: dict[int, dict[int, Scan]] = {}
        for number, scan in enumerate(scans or ()):
            if str(number) not in done:
                series.setdefault(firsts.get(str(number), number), {})[number] = Scan(*scan)
        return list(series.values())[:limit]

    def save(self, job: str, outcomes: Mapping[int, Sequence[Outcome]]) -> bool:
        """Store what became of scans; False where the job was erased or another has taken it."""
        failed = sum(any("error" in one for one in found) for found in outcomes.values())

        def note(pipe: Any) -> None:
            pipe.hset(_JOB + job, mapping=_pack({**outcomes, "starts": 0}))
            pipe.hincrby(_JOB + job, "done", len(outcomes))
            pipe.hincrby(_JOB + job, "failed", failed)

        return self._change(job, note)

    def finish(self, job: str, error: Mapping[str, str] | None = None) -> None:
        """Note that a job has ended, and why where it failed; its images are erased."""
        now = time.time()

        def note(pipe: Any) -> None:
            pipe.hset(_JOB + job, mapping=_pack({"finished": now, "error": error}))
            pipe.expireat(_JOB + job, int(now) + self._seconds)
            pipe.unlink(_IMAGES + job)
            pipe.lrem(_QUEUE, 0, job)
            pipe.zadd(_ENDED, {job: now})

        self._change(job, note)

    def read_outcomes(self, job: Job, start: int = 0) -> list[list[dict[str, Any]]]:
        """Give what became of a job's scans from one on, by its version, up to one undone."""
        version, *outcomes = self._read(job.id, "version", *range(start, job.total))
        if version != job.version:
            return []
        return list(takewhile(lambda found: found is not None, outcomes))

    def erase(self, job: str) -> None:
        """Erase a job with its images and outcomes; its run can store nothing more."""
        with self._use() as redis, redis.pipeline() as pipe:
            pipe.unlink(_JOB + job, _IMAGES + job)
            pipe.lrem(_QUEUE, 0, job)
            pipe.zrem(_ENDED, job)
            pipe.execute()

    def sweep(self, most: int) -> None:
        """Forget the jobs that have expired, and erase ended ones beyond the newest."""
        with self._use() as redis:
            redis.zremrangebyscore(_ENDED, 0, time.time() - self._seconds)
            over = [one for one in self.list_unfinished() if not redis.exists(_JOB + one)]
            over += [one.decode() for one in redis.zrange(_ENDED, 0, -most - 1)]
        for job in over:
            self.erase(job)

    def _change(self, job: str, note: Callable[[Any], object]) -> bool:
        """Do what `note` adds to a pipeline at once; not where this process has lost the job."""

        def change(pipe: Any) -> bool:
            held = pipe.get(_LOCK + job)
            if self._lock is None or self._lock.local.token != held or not pipe.exists(_JOB + job):
                return False
            pipe.multi()
            note(pipe)
            return True

        with self._use() as redis:
            watched = (_LOCK + job, _JOB + job)
            return cast("bool", redis.transaction(change, *watched, value_from_callable=True))

    def _read(self, job: str, *names: str | int) -> list[Any]:
        with self._use() as redis:
            return [value and json.loads(value) for value in redis.hmget(_JOB + job, names)]

    @contextmanager
    def _use(self) -> Iterator[Any]:
        try:
            yield self._redis
        except RedisError as error:
            raise OSError(str(error)) from error

    def _open_file(self) -> BinaryIO:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cast("BinaryIO", TemporaryFile(dir=self._folder))


def _pack(values: Mapping[Any, Any]) -> dict[str, str]:
    return {str(name): json.dumps(value) for name, value in values.items()}
