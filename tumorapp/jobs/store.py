"""The jobs that are kept and what became of their scans: one SQLite file for all workers.

A batch's outcomes are stored in one transaction, so that a worker may die at any moment: what is
stored is done, and nothing else is. Each call has a connection of its own; threads may share a
store.
"""

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

State = Literal["waiting", "running", "done", "failed"]
Outcome = Mapping[str, Any]

UNFINISHED: tuple[State, ...] = ("waiting", "running")

_SECONDS_TO_WAIT = 10  # for another's transaction
_TABLES = """
create table if not exists job (
    id text primary key,
    state text not null default 'waiting',
    archive integer not null,
    model text not null,
    version text not null,
    created real not null,
    finished real,
    starts integer not null default 0,
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
"""
_JOB = """
select job.*, count(*) as total, count(outcome) as done, sum(scan.failed) as failed
from job join scan on scan.job = job.id where job.id = ? group by job.id
"""


@dataclass(frozen=True)
class Job:
    """A job and how far it is.

    Attributes:
        id: cannot be guessed; who knows it may see and erase the job.
        archive: whether its file is a ZIP; else its images stand in it one after another.
        model: the model's name.
        version: of the bundle that made the predictions, or is going to.
        created: when it was accepted, in seconds since 1970.
        finished: when it ended; None before.
        starts: how often it was begun since a batch was last stored.
        error: why it failed as a whole; None where it did not.
        total: how many scans it has.
        done: how many of them have an outcome.
        failed: how many of those could not be predicted.
    """

    id: str
    state: State
    archive: bool
    model: str
    version: str
    created: float
    finished: float | None
    starts: int
    error: str | None
    total: int
    done: int
    failed: int


@dataclass(frozen=True)
class Scan:
    """A file of a job.

    Attributes:
        name: the one its sender gave it; nothing is ever written under it.
        position: of its first byte in the job's file, or its number in the archive.
        size: in bytes, unpacked.
    """

    name: str
    position: int
    size: int


class Store:
    """The jobs in a file, which is made where there is none.

    Raises:
        OSError, sqlite3.Error: the file cannot be made or read; every method may raise these.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        file.touch(mode=0o600)
        with closing(self._connect()) as connection:
            connection.execute("pragma journal_mode = wal")
            connection.executescript(_TABLES)

    def add(self, job: str, scans: Sequence[Scan], most: int, **fields: Any) -> bool:
        """Add a job that waits; False where `most` are unfinished already.

        Args:
            job: its id.
            scans: its files, at least one.
            most: how many jobs may be unfinished at once.
            fields: archive, model, version.
        """
        with self._change() as connection:
            if self._count_unfinished(connection) >= most:
                return False
            connection.execute(
                "insert into job (id, created, archive, model, version) "
                "values (:id, :created, :archive, :model, :version)",
                {"id": job, "created": time.time(), **fields},
            )
            connection.executemany(
                "insert into scan (job, number, name, position, size) values (?, ?, ?, ?, ?)",
                (
                    (job, number, scan.name, scan.position, scan.size)
                    for number, scan in enumerate(scans)
                ),
            )
        return True

    def find(self, job: str) -> Job | None:
        """Give a job; None where there is none of that id."""
        with closing(self._connect()) as connection:
            row = connection.execute(_JOB, (job,)).fetchone()
        return None if row is None else Job(**{**row, "archive": bool(row["archive"])})

    def any(self) -> bool:
        """Tell whether there is a job, done or not."""
        with closing(self._connect()) as connection:
            return connection.execute("select 1 from job limit 1").fetchone() is not None

    def count_unfinished(self) -> int:
        """Count the jobs that wait or run."""
        with closing(self._connect()) as connection:
            return self._count_unfinished(connection)

    def list_ids(self, *states: State) -> list[str]:
        """List the jobs in any of these states, the oldest first."""
        marks = ", ".join("?" * len(states))
        query = f"select id from job where state in ({marks}) order by created"  # noqa: S608  (marks only)
        with closing(self._connect()) as connection:
            return [row["id"] for row in connection.execute(query, states)]

    def begin(self, job: str, version: str) -> None:
        """Note that a job is begun; outcomes of another version than this one count no more."""
        with self._change() as connection:
            connection.execute(
                "update scan set outcome = null, failed = 0 where job = ? and exists "
                "(select 1 from job where id = scan.job and version <> ?)",
                (job, version),
            )
            connection.execute(
                "update job set state = 'running', version = ?, starts = starts + 1 where id = ?",
                (version, job),
            )

    def next_scans(self, job: str, limit: int) -> dict[int, Scan]:
        """Give the first scans without an outcome, by their numbers."""
        with closing(self._connect()) as connection:
            rows = connection.execute(
                "select number, name, position, size from scan "
                "where job = ? and outcome is null order by number limit ?",
                (job, limit),
            )
            return {number: Scan(*fields) for number, *fields in rows}

    def save(self, job: str, outcomes: Mapping[int, Outcome]) -> bool:
        """Store the outcomes of scans by their numbers; False where the job was erased."""
        rows = [
            (json.dumps(outcome), "error" in outcome, job, number)
            for number, outcome in outcomes.items()
        ]
        with self._change() as connection:
            changed = connection.executemany(
                "update scan set outcome = ?, failed = ? "
                "where job = ? and number = ? and outcome is null",
                rows,
            ).rowcount
            connection.execute("update job set starts = 0 where id = ?", (job,))
        return changed == len(rows)

    def release(self, job: str) -> None:
        """Let a job that was begun wait again: this worker ends as it should."""
        with self._change() as connection:
            connection.execute("update job set state = 'waiting', starts = 0 where id = ?", (job,))

    def finish(self, job: str, error: str | None = None) -> None:
        """Note that a job has ended, and why where it failed."""
        with self._change() as connection:
            connection.execute(
                "update job set state = ?, finished = ?, error = ? where id = ?",
                ("failed" if error else "done", time.time(), error, job),
            )

    def read_outcomes(self, job: str) -> list[dict[str, Any]]:
        """Give the outcomes there are, in the order of the job's scans."""
        with closing(self._connect()) as connection:
            rows = connection.execute(
                "select outcome from scan where job = ? and outcome is not null order by number",
                (job,),
            )
            return [json.loads(row["outcome"]) for row in rows]

    def erase(self, job: str) -> bool:
        """Erase a job and its outcomes; False where there is none."""
        with self._change() as connection:
            return connection.execute("delete from job where id = ?", (job,)).rowcount > 0

    def erase_old(self, before: float, most: int) -> None:
        """Erase the jobs that ended or came before that time, and ended ones beyond the newest."""
        with self._change() as connection:
            connection.execute(
                "delete from job where coalesce(finished, created) < ? or id in (select id from "
                "job where finished is not null order by finished desc limit -1 offset ?)",
                (before, most),
            )

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._file, timeout=_SECONDS_TO_WAIT, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        connection.execute("pragma foreign_keys = on")
        connection.execute("pragma secure_delete = on")
        connection.execute("pragma synchronous = normal")
        return connection

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction that nobody else writes in."""
        with closing(self._connect()) as connection:
            connection.execute("begin immediate")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    @staticmethod
    def _count_unfinished(connection: sqlite3.Connection) -> int:
        query = "select count(*) from job where state in (?, ?)"
        return int(connection.execute(query, UNFINISHED).fetchone()[0])
