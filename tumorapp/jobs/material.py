"""The images of a job: from a request's body to its file, and from there to the model."""

import shutil
import zipfile
from typing import IO, Any, BinaryIO, NamedTuple, cast

from flask import Request
from werkzeug.datastructures import CombinedMultiDict, MultiDict
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser
from werkzeug.wsgi import get_input_stream

from brainscan import ImageFile, Problem, ScanError
from tumorapp.jobs.archive import (
    ACCEPTED,
    ARCHIVE_FIELD,
    BROKEN,
    ZIP_TYPES,
    Limits,
    list_archive,
    shorten,
)
from tumorapp.jobs.store import Scan
from tumorapp.uploads import FIELD, FIELDS, OTHER_PARTS, missing_file, name_part


class Material(NamedTuple):
    """What a request for a job holds."""

    options: MultiDict[str, str]  # the text fields of its query and its form
    archive: bool  # whether the file that was written is a ZIP
    scans: list[Scan]  # where the images are in that file


class _Part:
    """A form's file, written behind the one before it: werkzeug writes one after another."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.start = file.tell()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.size += len(data)
        return self._file.write(data)

    def seek(self, *_: int) -> None:
        """Do nothing: werkzeug goes back to where a reader would begin."""


def receive(received: Request, file: BinaryIO, limits: Limits) -> Material:
    """Write the images of a request into a job's file, without holding them in memory.

    Raises:
        Problem: the body is neither a form nor an archive, the form has no files or more than one
            archive, a limit is exceeded, or the archive is broken, encrypted or empty.
    """
    kind = received.mimetype
    try:
        if kind in ZIP_TYPES:
            stream = get_input_stream(received.environ, max_content_length=limits.bytes)
            shutil.copyfileobj(stream, file)
            return Material(received.args, True, list_archive(file, limits))
        if kind == "multipart/form-data":
            return _receive_form(received, file, limits)
    except RequestEntityTooLarge:
        raise limits.refuse("the request exceeds a limit") from None
    raise Problem(
        "unsupported-body",
        accepted=ACCEPTED,
        type=kind[:100] or "none",
        choices="; ".join(ACCEPTED),
    )


def _receive_form(received: Request, file: BinaryIO, limits: Limits) -> Material:
    parser = FormDataParser(
        stream_factory=lambda *_, **__: cast("IO[bytes]", _Part(file)),
        max_form_memory_size=received.max_form_memory_size,
        max_content_length=limits.bytes,
        max_form_parts=limits.images + OTHER_PARTS,
    )
    _, form, files = parser.parse_from_environ(received.environ)
    options: Any = CombinedMultiDict([received.args, form])
    sent = [
        (name, name_part(part), cast("_Part", part.stream))
        for name, part in files.items(multi=True)
    ]
    # A browser sends a part with neither name nor content where no file was chosen.
    sent = [part for part in sent if part[1] or part[2].size]
    if [name for name, _, _ in sent] == [ARCHIVE_FIELD]:
        return Material(options, True, list_archive(file, limits))
    if any(name == ARCHIVE_FIELD for name, _, _ in sent):
        raise Problem("mixed-job", accepted=ACCEPTED)
    scans = [
        Scan(shorten(filename or f"{FIELD} {number}"), part.start, part.size)
        for number, (name, filename, part) in enumerate(sent, 1)
        if name in FIELDS
    ]
    if not scans:
        raise missing_file(f"{FIELD} or {ARCHIVE_FIELD}", {*form, *files}, ACCEPTED)
    limits.check_number(len(scans))
    return Material(options, False, scans)


class MaterialReader:
    """Reads the scans of a job's file."""

    def __init__(self, file: BinaryIO, *, archive: bool, limits: Limits) -> None:
        self._file = file
        self._limits = limits
        self._archive = zipfile.ZipFile(file) if archive else None

    def read(self, scan: Scan) -> ImageFile:
        """Read a scan's bytes, unpacked.

        Raises:
            ScanError: it is larger than one image may be, or cannot be unpacked.
        """
        if scan.size > self._limits.image_bytes:
            raise ScanError(
                "file-too-large",
                subject=scan.name,
                megabytes=f"{scan.size / 2**20:.1f}",
                most=self._limits.image_bytes // 2**20,
            )
        if self._archive is None:
            self._file.seek(scan.position)
            return ImageFile(scan.name, self._file.read(scan.size))
        try:
            return ImageFile(scan.name, self._archive.read(self._archive.infolist()[scan.position]))
        except BROKEN as error:
            raise ScanError("not-unpacked", subject=scan.name, reason=str(error)) from error
