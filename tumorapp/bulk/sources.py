"""What is to be predicted: the files of folders, URLs and ZIPs, listed on disk, series together."""

import io
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path, PurePath
from typing import BinaryIO, cast
from weakref import finalize

import click
from fsspec.spec import AbstractFileSystem

from brainscan import Archive, ImageFile, ScanError
from brainscan.archive import Member, is_archive
from brainscan.processes import WORTH_PROCESSES, spread
from brainscan.scan.folders import BEGINNING, is_named_image, walk
from brainscan.scan.formats import FORMATS
from brainscan.series import find_series
from brainscan.storage import explained, is_url, list_files, open_storage
from tumorapp.uploads import clean_name, shorten

_NO_PART_OF_A_NAME = re.compile(r"[^\w.-]+")
_READ_AT_ONCE = 16  # files of a store, whose answers take their time
_STEP = 64
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
_NUMBER = """
insert into source (place, member, name, target)
select place, member, name, target from file where wanted order by argument, place, member;
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


@dataclass(frozen=True)
class Source:
    """A file, in a folder, in a store, or in a ZIP.

    Attributes:
        name: as it is shown and written.
        place: a path or a URL, of the file or of the ZIP.
        member: its number in the ZIP; -1 for a file of its own.
        target: of its pictures: a path below the folder of pictures, without an ending.
    """

    name: str
    place: str
    member: int
    target: str

    def read(self) -> ImageFile | ScanError:
        """Give its bytes, or why there are none."""
        try:
            if self.member >= 0:
                return ImageFile(self.name, _open_archive(self.place).read(self.member))
            data = _read(self.place)
            if is_archive(data):
                Archive(io.BytesIO(data))  # says what is wrong with it
        except ScanError as error:
            return error.about(self.name)
        except OSError as error:
            reason = (error.strerror or str(error)).rstrip(".")
            return ScanError("not-read", subject=self.name, reason=reason)
        return ImageFile(self.name, data)


_PICTURES = tuple(end for one in FORMATS.values() if one.name != "DICOM" for end in one.endings)


def make_reader(sources: Sequence[Source]) -> Callable[[Source], ImageFile | ScanError]:
    """Give what reads these files when asked; those of a store are read before, several at once."""
    if not any(is_url(source.place) for source in sources):
        return Source.read
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        return dict(zip(sources, pool.map(Source.read, sources), strict=True)).__getitem__


class Listing:
    """The files to be predicted, in the order of the places and by name, none twice.

    They are in a temporary database on disk: of a million, few are in memory.

    Args:
        places: files, folders, ZIPs, and URLs of any of these.

    Raises:
        OSError: a URL cannot be read.
    """

    def __init__(self, places: Sequence[str]) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(_SETUP)
        folders = [_find_folder(place) for place in places]
        top = os.path.commonpath([one for one in folders if one] or "/")
        self._database.execute("begin")
        for argument, (place, folder) in enumerate(zip(places, folders, strict=True)):
            below = os.path.relpath(folder, top) if folder else ""
            for source, wanted in _list_url(place) if is_url(place) else _list_path(place, below):
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
        """Give the length of the longest name; 0 where there is none."""
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


def _find_folder(place: str) -> str:
    """Give the folder that a path is, or is in; "" for a URL."""
    if is_url(place):
        return ""
    path = Path(place).resolve()
    return str(path if path.is_dir() else path.parent)


def _list_path(place: str, below: str) -> Iterator[tuple[Source, bool]]:
    """List a file, or those of a folder, with pictures below a folder; is each wanted?"""
    top = Path(place)
    for path, wanted in walk(top):
        name = clean_name(click.format_filename(path))
        inner = path.name if path == top else str(path.relative_to(top))
        source = Source(name, str(path), -1, str(Path(below, inner)))
        if path == top:
            for one in _list_members(source):
                yield one, True
        else:
            yield source, wanted


def _list_url(url: str) -> Iterator[tuple[Source, bool]]:
    """List the file of a URL, or those below it; is each wanted?"""
    top = url.rstrip("/")
    empty = True
    for found in list_files(top):
        empty = False
        inner = found.removeprefix(f"{top}/")
        name = PurePath(inner).name
        if not name.startswith("."):
            wanted = is_named_image(name, partial(_read_beginning, found))
            yield Source(clean_name(found), found, -1, inner), wanted
    if empty:
        for one in _list_members(Source(clean_name(top), top, -1, PurePath(top).name)):
            yield one, True


def _list_members(source: Source) -> Iterator[Source]:
    """Give the files of a ZIP instead of it; any other file as it is."""
    members: Sequence[Member] = ()
    with suppress(OSError, ScanError):  # reading it gives the error
        if is_archive(_read_beginning(source.place)):
            members = _open_archive(source.place).members
    for member in members:
        inner = shorten(member.name)
        target = PurePath(source.target, _NO_PART_OF_A_NAME.sub("_", inner).lstrip("."))
        yield Source(f"{source.name}/{inner}", source.place, member.position, str(target))
    if not members:
        yield source


def _read(place: str) -> bytes:
    if not is_url(place):
        return Path(place).read_bytes()
    with _open_store(place) as (system, path):
        data: bytes = system.cat_file(path)
        return data


def _read_beginning(place: str) -> bytes:
    with _open(place) as file:
        return file.read(BEGINNING)


def _open(place: str) -> BinaryIO:
    if not is_url(place):
        return Path(place).open("rb")
    with _open_store(place) as (system, path):
        return cast("BinaryIO", system.open(path, "rb"))


@contextmanager
def _open_store(url: str) -> Iterator[tuple[AbstractFileSystem, str]]:
    """Give the store of a URL, and the path in it; raises OSError as `explained` does."""
    scheme, _, path = url.partition("://")
    with explained(url):
        yield _open_bucket(f"{scheme}://{path.partition('/')[0]}"), path


@lru_cache(maxsize=4)
def _open_bucket(url: str) -> AbstractFileSystem:
    return open_storage(url)[0]


@lru_cache(maxsize=1)
def _open_archive(place: str) -> Archive:
    """Open a ZIP, once for all its files that follow one another."""
    file = _open(place)
    try:
        archive = Archive(file)
    except ScanError:
        file.close()
        raise
    finalize(archive, file.close)
    return archive
