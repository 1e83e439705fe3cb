"""What is to be predicted: the files of folders, stores and ZIPs, and how they are read."""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path, PurePath
from weakref import finalize

import click
from fsspec.spec import AbstractFileSystem

from brainscan import Archive, ImageFile, ScanError
from brainscan.archive import Member, is_archive
from brainscan.files import open_file
from brainscan.scan.folders import BEGINNING, is_named_image, walk
from brainscan.storage import explained, is_url, list_files, open_storage
from tumorapp.file_names import clean_name, shorten_name

_NO_PART_OF_A_NAME = re.compile(r"[^\w.-]+")
_READ_AT_ONCE = 16  # files of a store, whose answers take their time


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
        """Give its bytes, or why they cannot be read."""
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


def make_reader(sources: Sequence[Source]) -> Callable[[Source], ImageFile | ScanError]:
    """Give what reads these files when asked; those of a store are read before, several at once."""
    if not any(is_url(source.place) for source in sources):
        return Source.read
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        return dict(zip(sources, pool.map(Source.read, sources), strict=True)).__getitem__


def find_folder(place: str) -> str:
    """Give the folder that a path is, or is in; "" for a URL."""
    if is_url(place):
        return ""
    path = Path(place).resolve()
    return str(path if path.is_dir() else path.parent)


def list_place(place: str, below: str) -> Iterator[tuple[Source, bool]]:
    """List the file at a place, or those of a folder, a store's too, or of a ZIP.

    Args:
        place: a path or a URL.
        below: where the pictures of a path's files go, below the folder of pictures.

    Yields:
        Each, in any order, and whether it is an image or was named.
    """
    return _list_url(place) if is_url(place) else _list_path(place, below)


def _list_path(place: str, below: str) -> Iterator[tuple[Source, bool]]:
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
    top = url.rstrip("/")
    empty = True
    for found in list_files(top):
        empty = False
        inner = found.removeprefix(f"{top}/")
        name = PurePath(inner).name
        if not name.startswith("."):
            wanted = is_named_image(name, partial(_read, found, BEGINNING))
            yield Source(clean_name(found), found, -1, inner), wanted
    if empty:
        for one in _list_members(Source(clean_name(top), top, -1, PurePath(top).name)):
            yield one, True


def _list_members(source: Source) -> Iterator[Source]:
    """Give the files of a ZIP instead of it; any other file as it is."""
    members: Sequence[Member] = ()
    with suppress(OSError, ScanError):  # reading it gives the error
        if is_archive(_read(source.place, BEGINNING)):
            members = _open_archive(source.place).members
    for member in members:
        inner = shorten_name(member.name)
        target = PurePath(source.target, _NO_PART_OF_A_NAME.sub("_", inner).lstrip("."))
        yield Source(f"{source.name}/{inner}", source.place, member.position, str(target))
    if not members:
        yield source


def _read(place: str, size: int = -1) -> bytes:
    """Read a file, or so many bytes of its beginning; raises OSError."""
    if not is_url(place):
        with Path(place).open("rb") as file:
            return file.read(size)
    scheme, _, path = place.partition("://")
    with explained(place):
        system = _open_bucket(f"{scheme}://{path.partition('/')[0]}")
        if size < 0:
            whole: bytes = system.cat_file(path)
            return whole
        with system.open(path, "rb") as file:
            beginning: bytes = file.read(size)
            return beginning


@lru_cache(maxsize=4)
def _open_bucket(url: str) -> AbstractFileSystem:
    return open_storage(url)[0]


@lru_cache(maxsize=1)
def _open_archive(place: str) -> Archive:
    """Open a ZIP, once for all its files that follow one another; one of a store in memory."""
    file = io.BytesIO(_read(place)) if is_url(place) else open_file(Path(place))
    try:
        archive = Archive(file)
    except ScanError:
        file.close()
        raise
    finalize(archive, file.close)
    return archive
