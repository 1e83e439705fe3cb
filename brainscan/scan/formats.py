"""The table of file formats: everything that reads, accepts or lists files looks here.

To add a format, write a reader and register one `Format`.
"""

import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec

import cv2

from brainscan.messages import ScanError
from brainscan.scan.memory import CONFINED
from brainscan.scan.picture import Picture
from brainscan.scan.raster import name_variant, read_confined, read_raster
from brainscan.scan.volume import OpenVolume, Place, Volume, read_one

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
            ScanError; of a volume, the slice in its middle.
        open: the same → the volume that it holds; None for a format of pictures.
    """

    name: str
    endings: tuple[str, ...]
    media_type: str
    matches: Callable[[bytes], bool]
    read: Callable[[bytes, int], Picture]
    open: OpenVolume | None = None


FORMATS: dict[str, Format] = {}

_BEGINNING = 1024  # bytes of a file that are searched for what it is
_MOST_BRANDS = 256  # bytes of their list
_HEIC_BRANDS = (
    *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"),
)
# What begins a DICOM file that has neither a preamble nor DICM: the length of its first group, or
# one of the first elements of a header, in either order of bytes, with or without its type.
_DICOM_START = re.compile(
    rb"\x02\0\0\0UL\x04\0"
    rb"|\x08\0[\0\x01\x05\x08\x12-\x18]\0(?:[A-Z]{2}[\0-\x7f]\0|[\0-\x7f]\0\0\0)"
    rb"|\0\x08\0[\0\x01\x05\x08\x12-\x18][A-Z]{2}\0"
)
# The size of a NIfTI header, of version 1, which Analyze has, too, and of version 2.
_NIFTI_STARTS = tuple(size.to_bytes(4, end) for size in (348, 540) for end in ("little", "big"))
_GZIP = b"\x1f\x8b\x08"


def register(new: Format) -> None:
    """Add a format to the table; raises ValueError where its name is taken."""
    if new.name in FORMATS:
        raise ValueError(f"The format {new.name} is registered already.")
    FORMATS[new.name] = new


def read_picture(data: bytes, *, max_pixels: int = MAX_PIXELS, frame: int | None = None) -> Picture:
    """Decode a file of any format of the table; of a volume, one slice.

    Args:
        data: the whole file.
        max_pixels: the largest width × height accepted.
        frame: the index of the slice in the file; None for the one in the middle.

    Raises:
        ScanError: not a format of the table, damaged, too small, too large, or there is no such
            slice; or blank, unless it is a slice that was asked for.
    """
    with _name_variants(data):
        found = _find_format(data)
        if frame and found.open is None:
            raise ScanError("no-such-slice", slices=1, slice=frame)
        if frame is None or found.open is None:
            picture = found.read(data, max_pixels)
        else:
            return read_one(data, max_pixels, found.open, frame)
    darkest, brightest, *_ = cv2.minMaxLoc(picture.grey)
    if darkest == brightest:
        raise ScanError("blank-image", value=round(brightest))
    return picture


def read_slices(
    data: bytes, *, max_pixels: int = MAX_PIXELS
) -> Iterator[tuple[Picture | ScanError, Place]]:
    """Decode the slices of a file one after another: as many as a volume has, else its picture.

    A damaged slice of a volume is given as what is wrong with it; a blank one is given as it is.

    Args:
        data: the whole file.
        max_pixels: the largest width × height accepted.

    Raises:
        ScanError: as `read_picture` does, of the file as a whole.
    """
    found = _find_format(data)
    if found.open is None:
        yield read_picture(data, max_pixels=max_pixels), Place()
        return
    with found.open(data, max_pixels) as volume:
        for index in range(volume.slices):
            place = volume.place(index)
            try:
                picture = volume.read(index)
            except ScanError as error:
                if volume.slices == 1:
                    raise
                yield error, place
            else:
                notes = volume.notes + picture.notes
                yield replace(picture, notes=notes, facts=volume.facts), place


def _find_format(data: bytes) -> Format:
    """Find the format of a file; raises ScanError where there is none."""
    if not data:
        raise ScanError("empty-file", formats=list_names(), accepted=list_media_types())
    found = find_format(data)
    if found is None:
        raise _refuse(data)
    return found


@contextmanager
def _name_variants(data: bytes) -> Iterator[None]:
    """Name what a file is where it is not damaged, but of a variant that is not read."""
    try:
        yield
    except ScanError as error:
        if error.code == "damaged-image" and (variant := name_variant(data)):
            raise ScanError(
                "format-not-read",
                accepted=list_media_types(),
                format=variant,
                formats=list_names(),
            ) from None
        raise


def find_format(beginning: bytes) -> Format | None:
    """Find the format of a file by its first bytes, at least 4096 of a longer one."""
    # From the last: what precedes a DICOM file may be the beginning of a TIFF, and an AVIF file may
    # name a brand of HEIC as well.
    return next((one for one in reversed(FORMATS.values()) if one.matches(beginning)), None)


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
    types, names = list_media_types(), list_names()
    for matches, name in _OTHERS:
        if matches(data):
            return ScanError("format-not-read", accepted=types, format=name, formats=names)
    if data.startswith((b"PK\3\4", b"PK\5\6")):
        return ScanError("archive-not-read", accepted=types, formats=names)
    if data.startswith(b"version https://git-lfs.github.com/spec/"):
        return ScanError("git-lfs-pointer", accepted=types, formats=names)
    if b"<html" in data[:_BEGINNING].lower():
        return ScanError("web-page", accepted=types, formats=names)
    return ScanError("not-an-image", accepted=types, formats=names)


def _starts_with(*signatures: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(signatures)


def _is_webp(data: bytes) -> bool:
    return data.startswith(b"RIFF") and data.startswith(b"WEBP", 8)


def _has_brand(*brands: bytes) -> Callable[[bytes], bool]:
    """Match files of ISO's base media format that name one of these brands."""

    def matches(data: bytes) -> bool:
        length = min(int.from_bytes(data[:4]), _MOST_BRANDS)
        listed = (data[place : place + 4] for place in range(8, length, 4))
        return data.startswith(b"ftyp", 4) and any(brand in brands for brand in listed)

    return matches


def _is_dicom(data: bytes) -> bool:
    return data.startswith(b"DICM", 128) or _DICOM_START.match(data) is not None


def _is_nifti(data: bytes) -> bool:
    if data.startswith(_GZIP):
        try:
            data = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data[:1024], 132)
        except zlib.error:
            return False
    # What precedes a DICOM file may be the header of a NIfTI pair.
    return data[:4] in _NIFTI_STARTS and not _is_dicom(data)


def _open_dicom(data: bytes, max_pixels: int) -> AbstractContextManager[Volume]:
    from brainscan.scan.dicom import open_dicom  # half a second, for those who have DICOM

    return open_dicom(data, max_pixels)


def _open_nifti(data: bytes, max_pixels: int) -> AbstractContextManager[Volume]:
    from brainscan.scan.nifti import open_nifti

    return open_nifti(data, max_pixels)


# What is often sent and cannot be read: how it is recognised, and its name.
_OTHERS: tuple[tuple[Callable[[bytes], bool], str], ...] = (
    (_has_brand(*_HEIC_BRANDS), "HEIC"),  # where its package was left out
    (_starts_with(b"GIF8"), "GIF"),
    (lambda data: b"%PDF-" in data[:_BEGINNING], "PDF"),
    (_starts_with(b"MATLAB "), "MATLAB"),
    (_starts_with(b"\x89HDF\r\n\x1a\n"), "HDF5"),
)

_TIFF = b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"
_JPEG_2000 = b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"

for _name, _codec, _endings, _type, _matches in (
    ("JPEG", "JPEG", (".jpg", ".jpeg", ".jfif", ".mpo"), "jpeg", _starts_with(b"\xff\xd8\xff")),
    ("PNG", "PNG", (".png", ".apng"), "png", _starts_with(b"\x89PNG\r\n\x1a\n")),
    ("TIFF", "TIFF", (".tif", ".tiff"), "tiff", _starts_with(*_TIFF)),
    ("BMP", "BMP", (".bmp",), "bmp", _starts_with(b"BM")),
    ("WebP", "WEBP", (".webp",), "webp", _is_webp),
    ("HEIC", "HEIF", (".heic", ".heif", ".hif"), "heic", _has_brand(*_HEIC_BRANDS)),
    ("AVIF", "AVIF", (".avif",), "avif", _has_brand(b"avif", b"avis")),
    ("JPEG 2000", "JPEG2000", (".jp2", ".j2k", ".jpx"), "jp2", _starts_with(*_JPEG_2000)),
):
    _read = partial(read_confined if _codec in CONFINED else read_raster, name=_codec)
    if _codec != "HEIF" or find_spec("pillow_heif"):
        register(Format(_name, _endings, f"image/{_type}", _matches, _read))
for _name, _endings, _type, _matches, _open in (
    ("DICOM", (".dcm", ".ima"), "dicom", _is_dicom, _open_dicom),
    ("NIfTI", (".nii", ".nii.gz"), "x-nifti", _is_nifti, _open_nifti),
):
    _read = partial(read_one, open_volume=_open)
    register(Format(_name, _endings, f"application/{_type}", _matches, _read, _open))
