"""From a request's body to the image files in it: bounded, and kept in memory only."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, cast

from flask import Flask, Request
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser

from brainscan import Archive, ImageFile, Problem, ScanError
from brainscan.archive import is_archive
from brainscan.scan.formats import find_format, list_media_types
from tumorapp.config import Setting, whole_number
from tumorapp.feature import Feature
from tumorapp.file_names import clean_name, name_part, shorten_name
from tumorapp.json_body import JSON, JSON_EXAMPLE, parse_json

FIELD = "image"
FIELDS = (FIELD, "image[]", "file")  # other programs' names for it
# Text fields next to the images: far more than there are options, far fewer than could hurt.
OTHER_PARTS = 32
# Bytes of each of them, and of a form of text as a whole: twice what werkzeug parses at once.
_FORM_TEXT = 2**17

ZIP_TYPES = ("application/zip", "application/x-zip-compressed")
# Times the size of a request that the files of its ZIP may have together: slices shrink to a half
# or a third.
_UNPACKED = 10

_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")


class _FormParser(FormDataParser):
    """Parses JSON, too: as a form whose files are its images and whose fields are the rest."""

    def parse(
        self,
        stream: IO[bytes],
        mimetype: str,
        content_length: int | None,
        options: dict[str, str] | None = None,
    ) -> tuple[IO[bytes], MultiDict[str, str], MultiDict[str, FileStorage]]:
        """Give what is left of the stream, the fields and the files.

        Raises:
            Problem: the body is not JSON that holds images.
            RequestEntityTooLarge: it holds far more values than are accepted; each takes more
                memory than its text.
        """
        if mimetype != JSON:
            return super().parse(stream, mimetype, content_length, options)
        body = stream.read()
        if self.max_form_parts is not None and body.count(b",") > 8 * self.max_form_parts:
            raise RequestEntityTooLarge
        return stream, *parse_json(body, FIELD)


class ScanRequest(Request):
    """A request whose files stay in memory: a patient's scan is never written to a disk here.

    The size of a request is limited (`MAX_UPLOAD_MB`), so memory is too.
    """

    form_data_parser_class = _FormParser

    @property
    def want_form_data_parsed(self) -> bool:
        """Whether there may be a form: only where something is sent to be looked at."""
        return self.method == "POST" and super().want_form_data_parsed

    def make_form_data_parser(self) -> FormDataParser:
        """Make what parses a form; werkzeug bounds the fields of a multipart form only.

        Raises:
            RequestEntityTooLarge: a form of text, or JSON, is longer than one may be.
        """
        if self.mimetype == JSON:
            read_body(self, keep=True)
        if self.mimetype == _FORMS[1]:
            size = self.content_length or len(self.get_data())
            if size > _FORM_TEXT:
                raise RequestEntityTooLarge
        return super().make_form_data_parser()

    def _get_file_stream(self, *_: Any, **__: Any) -> IO[bytes]:
        return io.BytesIO()


def init_app(app: Flask) -> None:
    """Bound the requests of an application."""
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_UPLOAD_MB"] * 2**20
    app.config["MAX_FORM_MEMORY_SIZE"] = _FORM_TEXT
    most = max(app.config["MAX_IMAGES"], app.config["MAX_SLICES"])
    app.config["MAX_FORM_PARTS"] = most + OTHER_PARTS
    app.request_class = ScanRequest


def read_files(received: Request, max_images: int, max_slices: int = 0) -> list[ImageFile]:
    """Read the images of a request: a form's parts named `image`, JSON's, or the body itself.

    Args:
        received: the request.
        max_images: how many files are accepted.
        max_slices: how many are where those beyond `max_images` hold slices: DICOM, NIfTI, ZIP.

    Raises:
        Problem: there is none, or too many, or the body is neither a form nor JSON nor an image.
        RequestEntityTooLarge: the body exceeds the application's limits.
    """
    mimetype = received.mimetype
    types = ("application/octet-stream", *list_media_types(), *ZIP_TYPES)
    if mimetype.startswith("image/") or mimetype in types:
        files = [ImageFile("body", read_body(received))]
    elif mimetype in (*_FORMS, JSON) or not mimetype:
        _check_form(received)
        files = _read_form(received)
    else:
        accepted = _list_accepted()
        raise Problem(
            "unsupported-body", accepted=accepted, type=mimetype[:100], choices="; ".join(accepted)
        )
    if len(files) > max_images:
        pictures = sum(not holds_slices(file.data) for file in files) if max_slices else len(files)
        if pictures > max_images:
            raise refuse_number(pictures, max_images)
        if len(files) > max_slices:
            raise Problem("too-many-slices", most=max_slices)
    return files


def unpack(
    files: Iterable[ImageFile], config: Mapping[str, Any]
) -> Iterator[ImageFile | ScanError]:
    """Give the files of a request, and instead of a ZIP those in it, one after another.

    Args:
        files: as `read_files` gives them.
        config: the application's, which bounds what a ZIP holds.

    Raises:
        Problem: a ZIP cannot be read, or holds too much.
    """
    for file in files:
        if is_archive(file.data):
            yield from _unpack(file, config)
        else:
            yield file


def _unpack(file: ImageFile, config: Mapping[str, Any]) -> Iterator[ImageFile | ScanError]:
    size, most = config["MAX_UPLOAD_MB"] * 2**20, config["MAX_IMAGES"]
    try:
        archive = Archive(
            io.BytesIO(file.data), most_files=config["MAX_SLICES"], most_bytes=size * _UNPACKED
        )
    except ScanError as error:
        raise error.about(file.name) from error
    members, pictures = archive.read_files(size), 0
    for one in members:
        pictures += _is_picture(one)
        if pictures > most:
            raise refuse_number(pictures + sum(map(_is_picture, members)), most)
        if isinstance(one, ScanError):
            yield one.about(shorten_name(one.message.subject))
        else:
            yield ImageFile(shorten_name(one.name), one.data)


def holds_slices(data: bytes) -> bool:
    """Tell whether a file may hold more than one picture: a volume, or a ZIP."""
    found = find_format(data)
    return is_archive(data) if found is None else found.open is not None


def _is_picture(file: ImageFile | ScanError) -> bool:
    found = None if isinstance(file, ScanError) else find_format(file.data)
    return found is not None and found.open is None


def read_file(received: Request) -> ImageFile:
    """Read the one image of a request; raises as `read_files` does."""
    [file] = read_files(received, max_images=1)
    return file


def refuse_number(count: int, most: int) -> Problem:
    """Say that a request holds too many images."""
    return Problem("too-many-images", accepted=[f"images: at most {most}"], count=count, most=most)


def _list_accepted() -> tuple[str, ...]:
    return (
        f"multipart/form-data with one or more parts named {FIELD}",
        f"{JSON} such as {JSON_EXAMPLE}",
        *list_media_types(),
        ZIP_TYPES[0],
    )


def _check_form(received: Request) -> None:
    """Refuse the bytes of an image that come with a form's type, or with none.

    Such a form's text is ASCII; an image is not.
    """
    if received.mimetype in (_FORMS[0], JSON):
        return
    data = read_body(received, keep=True)
    if data and not (received.mimetype and data.isascii()):
        kind = f"type {received.mimetype}" if received.mimetype else "no type"
        raise Problem("untyped-body", accepted=_list_accepted(), bytes=len(data), type=kind)


def read_body(received: Request, *, keep: bool = False) -> bytes:
    """Read a request's body; `keep` lets it be read again.

    Raises:
        RequestEntityTooLarge: it exceeds the application's limit.
    """
    data = received.get_data(cache=keep)
    limit = received.max_content_length
    # werkzeug cuts a body that comes in chunks, without a length, at the limit and says nothing.
    if received.content_length is None and limit is not None and len(data) >= limit:
        raise RequestEntityTooLarge
    return data


def _read_form(received: Request) -> list[ImageFile]:
    # A browser sends a part with neither name nor content where no file was chosen.
    parts = [part for field in FIELDS for part in received.files.getlist(field)]
    files = [
        ImageFile(clean_name(name_part(part) or f"{FIELD} {number}"), data)
        for number, part in enumerate(parts, start=1)
        if (data := cast(io.BytesIO, part.stream).getvalue()) or part.filename  # read() would copy
    ]
    if not files:
        raise _explain_missing(received)
    return files


def _explain_missing(received: Request) -> Problem:
    accepted = _list_accepted()
    if texts := [field for field in FIELDS if field in received.form]:
        return Problem("image-is-text", accepted=accepted, field=texts[0])
    if any(field in received.files for field in FIELDS):
        return Problem("no-file-chosen", accepted=accepted)
    if received.mimetype == _FORMS[0] and "boundary" not in received.mimetype_params:
        return Problem("no-boundary", accepted=accepted)
    return missing_file(FIELD, {*received.files, *received.form}, accepted)


def missing_file(field: str, received: Iterable[str], accepted: Sequence[str]) -> Problem:
    """Say that a form has no file in a field, and which fields it has."""
    names = sorted(filter(None, received))  # a part may have no name
    fields = ", ".join(names)[:200] or "none"
    return Problem("missing-image", accepted=accepted, field=field, fields=fields)


FEATURE = Feature(
    "uploads",
    init_app=init_app,
    settings=(
        Setting("MAX_UPLOAD_MB", 20, whole_number(1, 2048)),
        Setting("MAX_IMAGES", 16, whole_number(1, 1024)),
        Setting("MAX_SLICES", 1000, whole_number(1, 10_000)),
        Setting("MAX_PIXELS", 50_000_000, whole_number(256, 150_000_000)),
    ),
)
