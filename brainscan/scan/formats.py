"""The table of file formats: everything that reads, accepts or lists files looks here.

To add a format, write a reader and register one `Format`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2

from brainscan.messages import ScanError
from brainscan.scan.picture import Picture
from brainscan.scan.raster import read_raster

MAX_PIXELS = 50_000_000


@dataclass(frozen=True)
class Format:
    """A file format that can be read.

    Attributes:
        name: such as "JPEG".
        endings: of its files' names, in lower case, such as ".jpg".
        media_type: such as "image/jpeg".
        matches: tells by its first bytes whether a file is of this format.
        read: the whole file, and the largest width × height accepted → its picture; raises
            ScanError.
    """

    name: str
    endings: tuple[str, ...]
    media_type: str
    matches: Callable[[bytes], bool]
    read: Callable[[bytes, int], Picture]


FORMATS: dict[str, Format] = {}

# What is often sent by mistake: where its signature is, the signature, and its name.
_OTHERS = (
    (128, b"DICM", "DICOM"),
    (0, b"GIF8", "GIF"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
)


def register(new: Format) -> None:
    """Add a format to the table; raises ValueError where its name is taken."""
    if new.name in FORMATS:
        raise ValueError(f"The format {new.name} is registered already.")
    FORMATS[new.name] = new


def read_picture(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode a file of any format of the table.

    Args:
        data: the whole file.
        max_pixels: the largest width × height accepted.

    Raises:
        ScanError: not a format of the table, damaged, too small, too large, or blank.
    """
    if not data:
        raise ScanError("empty-file", formats=list_names(), accepted=list_media_types())
    found = next((one for one in FORMATS.values() if one.matches(data)), None)
    if found is None:
        raise _refuse(data)
    picture = found.read(data, max_pixels)
    darkest, brightest, *_ = cv2.minMaxLoc(picture.grey)
    if darkest == brightest:
        raise ScanError("blank-image", value=round(brightest))
    return picture


def list_names() -> tuple[str, ...]:
    """List what the formats are called."""
    return tuple(FORMATS)


def list_endings() -> tuple[str, ...]:
    """List the endings of their files' names, in lower case, such as ".jpg"."""
    return tuple(ending for one in FORMATS.values() for ending in one.endings)


def list_media_types() -> tuple[str, ...]:
    """List their media types, such as "image/jpeg"."""
    return tuple(dict.fromkeys(one.media_type for one in FORMATS.values()))


def _refuse(data: bytes) -> ScanError:
    names, types = list_names(), list_media_types()
    for start, signature, name in _OTHERS:
        if data.startswith(signature, start):
            return ScanError("format-not-read", accepted=types, format=name, formats=names)
    return ScanError("not-an-image", accepted=types, formats=names)


def _starts_with(*signatures: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(signatures)


def _is_webp(data: bytes) -> bool:
    return data.startswith(b"RIFF") and data.startswith(b"WEBP", 8)


for _name, _endings, _matches in (
    ("JPEG", (".jpg", ".jpeg"), _starts_with(b"\xff\xd8\xff")),
    ("PNG", (".png",), _starts_with(b"\x89PNG\r\n\x1a\n")),
    ("TIFF", (".tif", ".tiff"), _starts_with(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    ("BMP", (".bmp",), _starts_with(b"BM")),
    ("WebP", (".webp",), _is_webp),
):
    _read = partial(read_raster, name=_name.upper())
    register(Format(_name, _endings, f"image/{_name.lower()}", _matches, _read))
