"""A ZIP of scans, judged by its directory before anything in it is unpacked.

Its files are read one after another, in memory; nothing is ever written under their names.
"""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any, BinaryIO, cast

from brainscan.messages import ScanError
from brainscan.reading import ImageFile

MOST_FILES, MOST_BYTES = 10_000, 2**32

_STARTS = (b"PK\3\4", b"PK\5\6")  # the latter of one without files
# An archive's directory holds 46 bytes and the name for each file, some more for other fields.
_BYTES_OF_DIRECTORY, _BYTES_OF_ENTRY = 2**16, 1024
_ENCRYPTED = 0x1
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
# What zipfile raises, depending on where the archive is broken.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True)
class Member:
    """A file of an archive.

    Attributes:
        name: as the archive has it: a path, of which nothing is to be believed.
        position: its number in the archive's directory.
        size: in bytes, unpacked.
    """

    name: str
    position: int
    size: int


class _DirectoryTooLargeError(Exception):
    """The archive claims a directory that is larger than so many files need."""


class _BoundedReads:
    """A file of which no read takes more than an archive's directory may have.

    zipfile reads the directory in one piece, whatever size the archive claims for it.

    Attributes:
        most: bytes of a read; None once the directory was read.
    """

    def __init__(self, file: BinaryIO, most: int) -> None:
        self._file = file
        self.most: int | None = most

    def read(self, size: int = -1) -> bytes:
        if self.most is not None and size > self.most:
            raise _DirectoryTooLargeError
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class Archive:
    """The files of a ZIP: no folders, nothing hidden, no __MACOSX.

    Args:
        file: the ZIP; it stays open, and is read whenever a file is.
        most_files: how many are accepted.
        most_bytes: of all of them together, unpacked.

    Attributes:
        members: its files, at least one.

    Raises:
        ScanError: it is broken, encrypted, packed in an unusual way, empty, or too large.
    """

    def __init__(
        self, file: BinaryIO, *, most_files: int = MOST_FILES, most_bytes: int = MOST_BYTES
    ) -> None:
        bounded = _BoundedReads(file, _BYTES_OF_DIRECTORY + most_files * _BYTES_OF_ENTRY)
        try:
            self._zip = zipfile.ZipFile(cast("IO[bytes]", bounded))
        except _DirectoryTooLargeError:
            raise _refuse("its directory is too long", most_files, most_bytes) from None
        except _BROKEN as error:
            raise ScanError("unreadable-archive", reason=str(error)) from error
        bounded.most = None
        entries = self._zip.infolist()
        self.members = [
            Member(entry.filename, position, entry.file_size)
            for position, entry in enumerate(entries)
            if not entry.is_dir() and not _is_hidden(entry.filename)
        ]
        if not self.members:
            raise ScanError("empty-archive")
        if len(self.members) > most_files:
            raise _refuse(f"{len(self.members)} files", most_files, most_bytes)
        packed = [entries[member.position] for member in self.members]
        if any(entry.flag_bits & _ENCRYPTED for entry in packed):
            raise ScanError("encrypted-archive")
        if {entry.compress_type for entry in packed} - _METHODS:
            raise ScanError("unsupported-archive")
        unpacked = sum(member.size for member in self.members)
        if unpacked > most_bytes:
            raise _refuse(f"{unpacked / 2**20:.1f} MB when unpacked", most_files, most_bytes)

    def read(self, position: int) -> bytes:
        """Unpack the file of a number in the directory.

        Raises:
            ScanError: it cannot be unpacked.
        """
        try:
            return self._zip.read(self._zip.infolist()[position])
        except _BROKEN as error:
            raise ScanError("not-unpacked", reason=str(error)) from error

    def read_files(self, most_bytes: int = MOST_BYTES) -> Iterator[ImageFile | ScanError]:
        """Unpack one file after another; in the place of one that cannot be is its problem.

        Args:
            most_bytes: of one file, unpacked.
        """
        for member in self.members:
            try:
                check_size(member.size, most_bytes)
                yield ImageFile(member.name, self.read(member.position))
            except ScanError as error:
                yield error.about(member.name)


def is_archive(data: bytes) -> bool:
    """Tell by its first bytes whether a file is a ZIP."""
    return data.startswith(_STARTS)


def check_size(size: int, most: int) -> None:
    """Check the bytes of one file; raises ScanError where they are more."""
    if size > most:
        raise ScanError("file-too-large", megabytes=f"{size / 2**20:.1f}", most=most // 2**20)


def _refuse(found: str, most_files: int, most_bytes: int) -> ScanError:
    megabytes = most_bytes // 2**20
    return ScanError("archive-too-large", found=found, megabytes=megabytes, files=most_files)


def _is_hidden(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in parts)
