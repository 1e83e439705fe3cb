"""The images of a job: from a request's body to its file, and from there to the model."""

import shutil
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, NamedTuple, cast

from flask import Request
from werkzeug.datastructures import CombinedMultiDict, MultiDict
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser
from werkzeug.wsgi import get_input_stream

from brainscan import Archive, ImageFile, Problem, ScanError
from brainscan.archive import check_size
from brainscan.series import find_series
from tumorapp.file_names import name_part, shorten_name
from tumorapp.jobs.job import Scan
from tumorapp.uploads import FIELD, FIELDS, OTHER_PARTS, ZIP_TYPES, missing_file

_ARCHIVE_FIELD = "archive"
_ACCEPTED = (
    f"multipart/form-data with parts named {FIELD}",
    f"multipart/form-data with one part named {_ARCHIVE_FIELD}, a ZIP",
    ZIP_TYPES[0],
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
            return Material(received.args, True, _list_archive(file, limits))
        if kind == "multipart/form-data":
            return _receive_form(received, file, limits)
    except RequestEntityTooLarge:
        raise limits.refuse("the request exceeds a limit") from None
    raise Problem(
        "unsupported-body",
        accepted=_ACCEPTED,
        type=kind[:100] or "none",
        choices="; ".join(_ACCEPTED),
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
    if [name for name, _, _ in sent] == [_ARCHIVE_FIELD]:
        return Material(options, True, _list_archive(file, limits))
    if any(name == _ARCHIVE_FIELD for name, _, _ in sent):
        raise Problem("mixed-job", accepted=_ACCEPTED)
    scans = [
        Scan(shorten_name(filename or f"{FIELD} {number}"), part.start, part.size)
        for number, (name, filename, part) in enumerate(sent, 1)
        if name in FIELDS
    ]
    if not scans:
        raise missing_file(f"{FIELD} or {_ARCHIVE_FIELD}", {*form, *files}, _ACCEPTED)
    if len(scans) > limits.images:
        raise limits.refuse(f"{len(scans)} images")
    return Material(options, False, scans)


def _list_archive(file: BinaryIO, limits: Limits) -> list[Scan]:
    """List the files of a ZIP; raises Problem as `Archive` does, and where they are too many."""
    try:
        archive = Archive(file, most_files=limits.images, most_bytes=limits.bytes)
    except ScanError as error:
        if error.code != "archive-too-large":
            raise
        raise limits.refuse(str(error.message.values["found"])) from error
    return [Scan(shorten_name(one.name), one.position, one.size) for one in archive.members]


class MaterialReader:
    """Reads the scans of a job's file."""

    def __init__(self, file: BinaryIO, *, archive: bool, limits: Limits) -> None:
        self._file = file
        self._limits = limits
        self._archive = Archive(file) if archive else None

    def read(self, scan: Scan) -> ImageFile | ScanError:
        """Read a scan's bytes, unpacked.

        Returns:
            Its problem where it is larger than one image may be, or cannot be unpacked.
        """
        try:
            check_size(scan.size, self._limits.image_bytes)
            if self._archive is not None:
                return ImageFile(scan.name, self._archive.read(scan.position))
        except ScanError as error:
            return error.about(scan.name)
        self._file.seek(scan.position)
        return ImageFile(scan.name, self._file.read(scan.size))

    def find_series(self, scan: Scan) -> str:
        """Say which series a scan is of, as `brainscan.series.find_series` does."""
        file = self.read(scan)
        return "" if isinstance(file, ScanError) else find_series(file.data)
