"""A job's ZIP, judged by its directory before anything in it is unpacked."""

import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any, BinaryIO, cast

from werkzeug.exceptions import RequestEntityTooLarge

from brainscan import Problem
from tumorapp.jobs.store import Scan
from tumorapp.uploads import FIELD, clean_name

ARCHIVE_FIELD = "archive"
ZIP_TYPES = ("application/zip", "application/x-zip-compressed")
ACCEPTED = (
    f"multipart/form-data with parts named {FIELD}",
    f"multipart/form-data with one part named {ARCHIVE_FIELD}, a ZIP",
    ZIP_TYPES[0],
)

_LONGEST_NAME = 255
# An archive's directory holds 46 bytes and the name for each file, some more for other fields.
_DIRECTORY_BYTES_PER_IMAGE = 1024
_ENCRYPTED = 0x1
# What zipfile raises, depending on where the archive is broken.
BROKEN = (
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
class Limits:
    """What a job may hold.

    Attributes:
        bytes: of the request; of an archive's files together, unpacked.
        images: files.
        image_bytes: of one file, unpacked.
    """

    bytes: int
    images: int
    image_bytes: int

    def refuse(self, found: str) -> Problem:
        """Say that what was found is more than a job may hold."""
        megabytes = self.bytes // 2**20
        accepted = [f"at most {megabytes} MB", f"images: at most {self.images}"]
        return Problem(
            "job-too-large",
            accepted=accepted,
            found=found,
            megabytes=megabytes,
            images=self.images,
        )

    def check_number(self, images: int) -> None:
        """Raise Problem where there are more images than a job may hold."""
        if images > self.images:
            raise self.refuse(f"{images} images")


class _BoundedReads:
    """A file of which no read takes more than an archive's directory may have.

    zipfile reads the directory in one piece, whatever size the archive claims for it.
    """

    def __init__(self, file: BinaryIO, most: int) -> None:
        self._file = file
        self._most = most

    def read(self, size: int = -1) -> bytes:
        if size > self._most:
            raise RequestEntityTooLarge
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def list_archive(file: BinaryIO, limits: Limits) -> list[Scan]:
    """List the files of a ZIP by its directory: no folders, nothing hidden, no __MACOSX.

    Raises:
        Problem: it is broken, encrypted, packed in an unusual way, or empty, or it has more files
            than are accepted, or more bytes when unpacked.
    """
    most = 2**16 + limits.images * _DIRECTORY_BYTES_PER_IMAGE
    try:
        with zipfile.ZipFile(cast("IO[bytes]", _BoundedReads(file, most))) as archive:
            entries = archive.infolist()
    except BROKEN as error:
        raise Problem("unreadable-archive", accepted=ACCEPTED, reason=str(error)) from error
    scans = [
        Scan(shorten(entry.filename), position, entry.file_size)
        for position, entry in enumerate(entries)
        if not entry.is_dir() and not _is_hidden(entry.filename)
    ]
    if not scans:
        raise Problem("empty-archive", accepted=ACCEPTED)
    limits.check_number(len(scans))
    packed = [entries[scan.position] for scan in scans]
    if any(entry.flag_bits & _ENCRYPTED for entry in packed):
        raise Problem("encrypted-archive", accepted=ACCEPTED)
    if {entry.compress_type for entry in packed} - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise Problem("unsupported-archive", accepted=ACCEPTED)
    unpacked = sum(scan.size for scan in scans)
    if unpacked > limits.bytes:
        raise limits.refuse(f"{unpacked / 2**20:.1f} MB when unpacked")
    return scans


def shorten(name: str) -> str:
    """Give the end of a name, which tells most, in characters that can be stored and shown."""
    return clean_name(name.encode("utf-8", "replace").decode("utf-8"))[-_LONGEST_NAME:]


def _is_hidden(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in parts)
