"""The queue of jobs, their images and the outcomes of their scans: a folder for all workers.

The queue and the outcomes are one SQLite file; the images of a job are a file of their own.

What became of a scan is a list: its prediction or its problem. The scans of a series have one
prediction together, which is the first one's; the lists of the others are empty. They are stored in
one transaction, so a worker may die at any moment: what is stored is done, the rest is still to do.
Each call opens a connection of its own.
"""

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import asdict, astuple
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO

from brainscan import Problem
from brainscan.files import LockedError
from tumorapp.bulk.predict import Outcome
from tumorapp.jobs import files
from tumorapp.jobs.job import Job, Scan

_SECONDS_TO_WAIT = 10  # for another's transaction
_SETUP = """
pragma foreign_keys = on;
pragma secure_delete = on;
create table if not exists job (
    id text primary key,
    archive integer not null,
    model text not null,
    version text not null,
    created real not null,
    starts integer not null default 0,
    finished real,
    error text
);
create table if not exists scan (
    job text not null references job on delete cascade,
    number integer not null,
    name text not null,
    position integer not null,
    size integer not null,
    outcome text,
    failed integer not null default 0,
    primary key (job, number)
) without rowid;
create table if not exists series (
    job text not null references job on delete cascade,
    number integer not null,
    first integer not null,
    primary key (job, number)
) without rowid;
create table if not exists sender (
    job text primary key references job on delete cascade,
    request_id text,
    key text
) without rowid;
"""
_ADD = """
insert into job (id, archive, model, version, created)
select :id, :archive, :model, :version, :created
where (select count(*) from job where finished is null) < :most
"""
_ADD_SCAN = "insert into scan (job, number, name, position, size) values (?, ?, ?, ?, ?)"
_FIND = """
select job.*, sender.request_id, sender.key,
    count(*) as total, count(outcome) as done, sum(scan.failed) as failed
from job join scan on scan.job = job.id left join sender on sender.job = job.id
where job.id = ? group by job.id
"""
_DROP_OTHER_VERSIONS = """
update scan set outcome = null, failed = 0
where job = :id and (select version from job where id = :id) <> :version
"""
# A job may have been erased meanwhile.
_GROUP = "insert into series select ?1, ?2, ?3 where exists (select 1 from job where id = ?1)"
_NEXT_SCANS = """
with undone as (
    select number, name, position, size, coalesce(first, number) as first
    from scan left join series using (job, number) where job = ? and outcome is null
)
select number, name, position, size, first from undone
where first in (select first from undone group by first order by min(number) limit ?)
order by number
"""
_READ_OUTCOMES = """
select outcome from scan join job on job.id = scan.job
where job.id = ? and version = ? and number >= ? order by number
"""
_ERASE_OLD = """
delete from job where coalesce(finished, created) < ? or id in
    (select id from job where finished is not null order by finished desc limit -1 offset ?)
"""


class FolderStore:
    """The jobs in a folder; it and the file are made on first use.

    Every method raises OSError or sqlite3.Error where they cannot be used.

    Args:
        folder: where they are kept.
        hours: how long one is kept after its end.

    Attributes:
        place: where jobs are kept: the folder.
    """

    def __init__(self, folder: Path, hours: int) -> None:
        self.place = folder
        self.file = folder / "jobs.db"
        self._seconds = hours * 3600

    def create(self) -> AbstractContextManager[tuple[str, BinaryIO]]:
        """Make the id of a new job, and the file to write its images to before `add`."""
        return files.create_images(self.place)

    def add(self, job: Job, file: BinaryIO, scans: Sequence[Scan], most: int) -> bool:
        """Put a job at the end of the queue; False where `most` are unfinished already.

        Args:
            job: has the id of `create`.
            file: its images.
            scans: where they are in it; at least one.
            most: how many jobs may be unfinished at once.
        """
        file.flush()  # so that a full disk shows before the job is accepted
        rows = [(job.id, number, *astuple(scan)) for number, scan in enumerate(scans)]
        with self._open() as database:
            if not database.execute(_ADD, {**asdict(job), "most": most}).rowcount:
                return False
            database.executemany(_ADD_SCAN, rows)
            sender = job.id, job.request_id, job.key
            database.execute("insert into sender values (?, ?, ?)", sender)
        return True

    def find(self, job: str) -> Job | None:
        """Give a job; None if no job has that id."""
        with self._open() as database:
            row = database.execute(_FIND, (job,)).fetchone()
        if row is None:
            return None
        error = row["error"] and json.loads(row["error"])
        return Job(**{**row, "archive": bool(row["archive"]), "error": error})

    def list_unfinished(self) -> list[str]:
        """List the ids of the jobs that wait or run, in the order they came."""
        with self._open() as database:  # by rowid, which unlike `created` follows no clock
            query = "select id from job where finished is null order by rowid"
            return [row["id"] for row in database.execute(query)]

    def is_idle(self) -> bool:
        """Tell, without opening the SQLite file, whether no job waits or runs."""
        return not files.list_jobs(self.place)

    def hold(self, job: str) -> AbstractContextManager[None]:
        """Hold a job, so that no other process runs it; raises LockedError where one does."""
        return files.hold(self.place, job)

    def open_images(self, job: str) -> BinaryIO:
        """Open the file of a job's images; raises Problem if it was erased."""
        try:
            return files.find_images(self.place, job).open("rb")
        except (FileNotFoundError, PermissionError):
            raise Problem("job-images-missing") from None

    def start(self, job: str, version: str, *, again: bool) -> None:
        """Note that a process starts a job; outcomes of another version are dropped.

        Args:
            job: its id.
            version: of the bundle that predicts it.
            again: whether this process has started it before; it then counts as one start.
        """
        values = {"id": job, "version": version, "more": not again}
        with self._open() as database:
            database.execute(_DROP_OTHER_VERSIONS, values)
            query = "update job set version = :version, starts = starts + :more where id = :id"
            database.execute(query, values)

    def list_scans(self, job: str) -> dict[int, Scan]:
        """Give the scans of a job by their numbers; none where it was grouped already."""
        with self._open() as database:
            query = (
                "select number, name, position, size from scan where job = :job "
                "and not exists (select 1 from series where job = :job) order by number"
            )
            rows = database.execute(query, {"job": job})
            return {number: Scan(*rest) for number, *rest in rows}

    def group(self, job: str, firsts: Mapping[int, int]) -> None:
        """Note, of each scan of a job, the number of the first one of its series."""
        rows = [(job, number, first) for number, first in firsts.items()]
        with self._open() as database:
            database.executemany(_GROUP, rows)

    def next_scans(self, job: str, limit: int) -> list[dict[int, Scan]]:
        """Give the first series without outcomes: their scans by their numbers."""
        series: dict[int, dict[int, Scan]] = {}
        with self._open() as database:
            for number, *scan, first in database.execute(_NEXT_SCANS, (job, limit)):
                series.setdefault(first, {})[number] = Scan(*scan)
        return list(series.values())

    def save(self, job: str, outcomes: Mapping[int, Sequence[Outcome]]) -> bool:
        """Store what became of scans by their numbers; False where the job was erased."""
        rows = [
            (json.dumps(found), any("error" in one for one in found), job, number)
            for number, found in outcomes.items()
        ]
        with self._open() as database:
            query = "update scan set outcome = ?, failed = ? where job = ? and number = ?"
            changed = database.executemany(query, rows).rowcount
            database.execute("update job set starts = 0 where id = ?", (job,))
        return changed == len(rows)

    def finish(self, job: str, error: Mapping[str, str] | None = None) -> None:
        """Note that a job has ended, and why where it failed; its images are erased."""
        with self._open() as database:
            query = "update job set finished = ?, error = ? where id = ?"
            database.execute(query, (time.time(), error and json.dumps(error), job))
        files.find_images(self.place, job).unlink(missing_ok=True)

    def read_outcomes(self, job: Job, start: int = 0) -> list[list[dict[str, Any]]]:
        """Give what became of a job's scans in their order, by its version.

        Args:
            job: of which none is given behind the first scan that has no outcome.
            start: the number of the first scan that is wanted.
        """
        with self._open() as database:
            rows = database.execute(_READ_OUTCOMES, (job.id, job.version, start))
            return list(map(json.loads, takewhile(bool, (row["outcome"] for row in rows))))

    def erase(self, job: str) -> None:
        """Erase a job, its images and its outcomes."""
        files.find_images(self.place, job).unlink(missing_ok=True)
        with self._open() as database:
            database.execute("delete from job where id = ?", (job,))

    def sweep(self, most: int) -> None:
        """Erase jobs that were kept long enough, and the images of jobs that are over.

        Args:
            most: ended jobs beyond this number go before their time, the oldest first.
        """
        with self._open() as database:
            database.execute(_ERASE_OLD, (time.time() - self._seconds, most))
        for job_id in files.list_jobs(self.place) - set(self.list_unfinished()):
            with suppress(LockedError), self.hold(job_id):
                job = self.find(job_id)  # it may have been added meanwhile
                if job is None or job.finished is not None:
                    files.find_images(self.place, job_id).unlink(missing_ok=True)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open the file; what is changed is stored at the end, or not at all."""
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.file.touch(mode=0o600)
        database = sqlite3.connect(self.file, timeout=_SECONDS_TO_WAIT, isolation_level="IMMEDIATE")
        with closing(database), database:
            database.row_factory = sqlite3.Row
            database.executescript(_SETUP)
            yield database
