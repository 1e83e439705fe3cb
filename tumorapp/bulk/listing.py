"""The files of a run, in a temporary database on disk: of a million, few are in memory."""

import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from pathlib import PurePath

from brainscan import ScanError
from brainscan.processes import WORTH_PROCESSES, spread
from brainscan.scan.formats import FORMATS
from brainscan.series import find_series
from tumorapp.bulk.sources import Source, find_folder, list_place, make_reader

_STEP = 64
_PICTURES = tuple(end for one in FORMATS.values() if one.name != "DICOM" for end in one.endings)
_SETUP = """
pragma journal_mode = off;
pragma cache_size = -32768;
create table file (
    place blob, member integer, argument integer, name text, target blob, wanted integer,
    primary key (place, member)
) without rowid;
create table source (
    number integer primary key, place blob, member integer, name text, target blob, first integer
);
create table series (number integer primary key, series text);
create table done (name text primary key) without rowid;
"""
# A file that is named counts whatever its ending, where another argument leaves it out.
_ADD = """
insert into file values (?, ?, ?, ?, ?, ?) on conflict (place, member) do update
set argument = excluded.argument, wanted = 1 where excluded.wanted > wanted
"""
# Several have one name where that was shortened, or holds what cannot be shown.
_NUMBER = """
with named as (
    select *, row_number() over (partition by name order by argument, place, member) as twin
    from file where wanted
)
insert into source (place, member, name, target)
select place, member, iif(twin > 1, name || ' (' || twin || ')', name), target
from named order by argument, place, member;
update source set first = number;
"""
_GROUP = """
update source set first = one.first from series join
    (select series, min(number) as first from series group by series) as one using (series)
where series.number = source.number;
create index in_groups on source (first, number);
"""
_LIST = "select number, place, member, name, target from source"
_LIST_GROUPS = "select first, place, member, name, target from source order by first, number"
_FORGET = "delete from source where first in (select first from source join done using (name))"


class Listing:
    """The files to be predicted, in the order of the places and by name, none twice.

    Args:
        places: files, folders, ZIPs, and URLs of any of these.

    Raises:
        OSError: a URL cannot be read.
    """

    def __init__(self, places: Sequence[str]) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(_SETUP)
        folders = [find_folder(place) for place in places]
        top = os.path.commonpath([one for one in folders if one] or "/")
        self._database.execute("begin")
        for argument, (place, folder) in enumerate(zip(places, folders, strict=True)):
            below = os.path.relpath(folder, top) if folder else ""
            for source, wanted in list_place(place, below):
                path = os.fsencode(source.place).replace(b"/", b"\0")  # so that it sorts by folder
                target = os.fsencode(source.target)
                row = path, source.member, argument, source.name, target, wanted
                self._database.execute(_ADD, row)
        self._database.execute("commit")
        self._database.executescript(_NUMBER)

    def close(self) -> None:
        """Delete the database."""
        self._database.close()

    def count(self) -> int:
        """Count the files."""
        return int(self._database.execute("select count(*) from source").fetchone()[0])

    def measure_names(self) -> int:
        """Give the length of the longest name; 0 without names."""
        query = "select coalesce(max(length(name)), 0) from source"
        return int(self._database.execute(query).fetchone()[0])

    def count_others(self) -> Counter[str]:
        """Count the files of folders that are left out, by their endings."""
        rows = self._database.execute("select name from file where not wanted")
        return Counter(PurePath(name).suffix.lower() for (name,) in rows)

    def find_series(self) -> None:
        """Put the files of each series together, at the place of the first."""
        count = sum(1 for _ in self._list_candidates())
        candidates = self._list_candidates()
        pieces = iter(lambda: list(islice(candidates, _STEP)), [])
        work = spread if count >= WORTH_PROCESSES else map
        found = work(_find_series, pieces)
        self._database.execute("begin")
        for named in found:
            self._database.executemany("insert into series values (?, ?)", named)
        self._database.execute("commit")
        self._database.executescript(_GROUP)

    def _list_candidates(self) -> Iterator[tuple[int, Source]]:
        """List what may be of a series: DICOM files, and those whose names do not say."""
        for number, *rest in self._database.execute(_LIST):
            source = _restore(*rest)
            if not source.name.lower().endswith(_PICTURES):
                yield number, source

    def leave_out(self, names: Iterable[str]) -> None:
        """Leave out each group of which one of these files is."""
        self._database.execute("begin")
        rows = ((name,) for name in names)
        self._database.executemany("insert or ignore into done values (?)", rows)
        self._database.execute(_FORGET)
        self._database.execute("commit")

    def list_groups(self) -> Iterator[list[Source]]:
        """Give the files of each series, and any other file as a group of its own."""
        rows = self._database.execute(_LIST_GROUPS)
        for _, group in groupby(rows, key=itemgetter(0)):
            yield [_restore(*rest) for _, *rest in group]


def _restore(place: bytes, member: int, name: str, target: bytes) -> Source:
    return Source(name, os.fsdecode(place.replace(b"\0", b"/")), member, os.fsdecode(target))


def _find_series(sources: Sequence[tuple[int, Source]]) -> list[tuple[int, str]]:
    """Give the numbers of those that are of a series, and which."""
    read, found = make_reader([source for _, source in sources]), []
    for number, source in sources:
        file = read(source)
        series = "" if isinstance(file, ScanError) else find_series(file.data)
        if series:
            found.append((number, series))
    return found
