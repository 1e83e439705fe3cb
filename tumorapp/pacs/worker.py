"""Answers the series of studies, each once by each version of a model, and tries again what fails.

Studies and series are known by a hash of their UID: nothing of a header is logged or kept here.
"""

import hashlib
import logging
import sqlite3
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, Protocol

from pydicom import dcmread
from pydicom.dataset import Dataset

from brainscan import Answer, ImageFile, Model, Problem, ScanError, examine_files
from tumorapp.pacs.objects import LONGEST_KEPT, write_objects

logger = logging.getLogger(__name__)

# They log UIDs, some of them as parts of addresses.
for _name in ("dicomweb_client", "highdicom", "pynetdicom", "retrying", "urllib3"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)

_FIRST_WAIT, _LONGEST_WAIT = 60.0, 24 * 3600.0  # seconds before what failed is tried again
_LONGEST_PAUSE = 300.0  # seconds between looks at a PACS that does not answer
_SETUP = """
create table if not exists answered (
    series text, model text, primary key (series, model)
) without rowid;
create table if not exists failed (
    study text, model text, code text, attempts integer, at real, primary key (study, model)
) without rowid;
create table if not exists feed (name text primary key, last integer) without rowid;
"""
_FAIL = """
insert into failed values (?, ?, ?, 1, ?) on conflict do update
set code = excluded.code, attempts = attempts + 1, at = excluded.at
"""

# Takes the objects of an answer; raises Problem. What is there already stays as it is.
Store = Callable[[Sequence[Dataset]], None]


def hash_uid(uid: str) -> str:
    """Give what a UID is known by: the first 16 digits of its SHA-256."""
    return hashlib.sha256(uid.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Series:
    """A series of a study.

    Attributes:
        key: the hash of its UID.
        modality: such as MR.
        fetch: gives its files; raises Problem.
    """

    key: str
    modality: str
    fetch: Callable[[], Sequence[bytes]]


@dataclass(frozen=True)
class Study:
    """A study that may have series to answer.

    Attributes:
        key: the hash of its UID.
        list_series: gives its series; raises Problem.
        settle: is called once all of them are answered.
    """

    key: str
    list_series: Callable[[], Sequence[Series]]
    settle: Callable[[], None]


class Source(Protocol):
    """Where studies come from."""

    def find(self, model: str) -> Iterable[Study]:
        """Give the studies that a model, by its name and version, may not have answered yet.

        Raises:
            Problem: the PACS does not answer.
        """


class Failure(NamedTuple):
    """A study that could not be answered as a whole.

    Attributes:
        study: the hash of its UID.
        model: its name and version.
        code: of the last problem.
        attempts: how many there were.
        at: when the last was, in seconds since 1970.
    """

    study: str
    model: str
    code: str
    attempts: int
    at: float

    @property
    def due(self) -> float:
        """When it is tried again, in seconds since 1970: each time, after twice as long."""
        return self.at + min(_FIRST_WAIT * 2.0 ** min(self.attempts, 20) / 2, _LONGEST_WAIT)


class State:
    """What was answered and what failed: an SQLite file.

    Every method raises sqlite3.Error where it cannot be used.

    Args:
        file: made where there is none; None keeps it in memory.
    """

    def __init__(self, file: Path | None) -> None:
        if file is not None:
            file.touch(mode=0o600)
        self._database = sqlite3.connect(file or ":memory:", isolation_level="IMMEDIATE")
        self._database.executescript(_SETUP)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def is_answered(self, series: str, model: str) -> bool:
        """Tell whether a series was answered."""
        query = "select 1 from answered where series = ? and model = ?"
        return self._database.execute(query, (series, model)).fetchone() is not None

    def note(self, series: str, model: str) -> None:
        """Note that a series was answered."""
        with self._database as database:
            database.execute("insert into answered values (?, ?)", (series, model))

    def fail(self, study: str, model: str, code: str) -> None:
        """Note that a study failed."""
        with self._database as database:
            database.execute(_FAIL, (study, model, code, time.time()))

    def is_due(self, study: str, model: str) -> bool:
        """Tell whether a study may be tried: it never failed, or has waited long enough."""
        known = [one for one in self.list_failures() if one[:2] == (study, model)]
        return all(one.due <= time.time() for one in known)

    def settle(self, study: str, model: str) -> None:
        """Forget that a study failed."""
        with self._database as database:
            database.execute("delete from failed where study = ? and model = ?", (study, model))

    def list_failures(self) -> list[Failure]:
        """List the studies that failed, the one that is tried again next first."""
        failures = [Failure(*row) for row in self._database.execute("select * from failed")]
        return sorted(failures, key=lambda one: one.due)

    def find_last(self, feed: str) -> int:
        """Give the number of the change up to which all in a feed is done; 0 for none."""
        row = self._database.execute("select last from feed where name = ?", (feed,)).fetchone()
        return int(row[0]) if row else 0

    def advance(self, feed: str, last: int) -> None:
        """Note up to which change all in a feed is done."""
        with self._database as database:
            database.execute("insert or replace into feed values (?, ?)", (feed, last))


@dataclass(frozen=True)
class Worker:
    """Answers what a source has.

    Attributes:
        open_model: gives the model that answers.
        state: what was done.
        store: takes the answers; None where they are only logged.
        max_pixels: the largest width × height accepted.
    """

    open_model: Callable[[], Model]
    state: State
    store: Store | None
    max_pixels: int

    def run_once(self, source: Source) -> int:
        """Answer all that a source has, whether or not it is due; returns how many studies failed.

        Raises:
            Problem: the PACS does not answer.
        """
        model = self.open_model()
        return sum(not self._answer(study, model) for study in source.find(_identify(model)))

    def run(self, source: Source, every: float) -> None:
        """Answer what a source has, for ever.

        Args:
            source: it.
            every: seconds between looks; more where the PACS does not answer.
        """
        pause = every
        while True:
            try:
                model = self.open_model()
                for study in source.find(_identify(model)):
                    if self.state.is_due(study.key, _identify(model)):
                        self._answer(study, model)
                pause = every
            except Problem as problem:
                pause = min(2 * pause, _LONGEST_PAUSE)
                logger.error("%s: %s Next look in %d s.", problem.code, problem, pause)
            time.sleep(pause)

    def _answer(self, study: Study, model: Model) -> bool:
        """Answer the series of a study that were not answered yet; False where one fails."""
        name = _identify(model)
        failed: list[str] = []
        with _report(f"study {study.key}", failed):
            for series in study.list_series():
                label = f"study {study.key}, series {series.key}"
                if self.state.is_answered(series.key, name):
                    logger.info("%s: was answered before", label)
                    continue
                with _report(label, failed):
                    self._examine(series, model, label)
                    self.state.note(series.key, name)
        if failed:
            self.state.fail(study.key, name, failed[0])
        else:
            self.state.settle(study.key, name)
            study.settle()
        return not failed

    def _examine(self, series: Series, model: Model, label: str) -> None:
        if series.modality != "MR":
            logger.info("%s: skipped, not-mr", label)
            return
        data = series.fetch()
        files = [ImageFile(f"{label}/{number}", one) for number, one in enumerate(data, 1)]
        found = examine_files(model, files, max_pixels=self.max_pixels, longest_kept=LONGEST_KEPT)
        problems = Counter(one.code for one in found if isinstance(one, ScanError))
        for code, count in problems.items():
            logger.warning("%s: skipped %d of %d files, %s", label, count, len(files), code)
        headers = [dcmread(BytesIO(one), force=True, stop_before_pixels=True) for one in data]
        for answer in found:
            if isinstance(answer, ScanError):
                continue
            if answer.verdict == "not-recognised":
                logger.info("%s: skipped, not-recognised", label)
            else:
                self._give(answer, headers, label)

    def _give(self, answer: Answer, headers: Sequence[Dataset], label: str) -> None:
        objects, done = write_objects(answer, headers), "not stored"
        if self.store is not None:
            self.store(objects)
            done = "stored"
        kinds = ", ".join(str(one.Modality) for one in objects)
        share = f"{answer.tumor_probability:.0%}"
        logger.info("%s: %s, tumour %s; %s: %s", label, answer.verdict, share, done, kinds)


@contextmanager
def _report(label: str, failed: list[str]) -> Iterator[None]:
    """Log what fails, and add its code to a list, so that the rest goes on."""
    try:
        yield
    except Problem as problem:
        logger.error("%s: failed, %s: %s", label, problem.code, problem)
        failed.append(problem.code)
    except sqlite3.Error:
        raise
    except Exception as error:  # noqa: BLE001  its text may quote a header, and is not logged
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
        logger.error("%s: failed, internal-error: %s", label, where)
        failed.append("internal-error")


def _identify(model: Model) -> str:
    return f"{model.card.name}/{model.card.version}"
