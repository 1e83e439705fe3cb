"""Image bytes → one grey picture, 8 bits deep, the right way up."""

import struct
import warnings
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFile, UnidentifiedImageError

from brainscan.scan.bounds import (
    ExcessError,
    check_directories,
    check_passes,
    open_bounded,
)
from brainscan.scan.resemblance import measure_colour

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")
MAX_PIXELS = 50_000_000
MIN_SIDE = 16

_EXIF_ORIENTATION = 0x0112
_EIGHT_BIT = 255.0
_JPEGS = ("JPEG", "MPO")  # the latter holds several
_JPEG_END = b"\xff\xd9"
_GREY_AS_STORED = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION

_MOST_PAGES = 100  # each further page is a step through the file
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# Everything Pillow's parsers raise on damaged input.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    EOFError,
    OverflowError,
    ZeroDivisionError,
    struct.error,
    cv2.error,
)

# What is often sent by mistake: where its signature is, the signature, its name, what to do.
_OTHER_FORMATS = (
    (128, b"DICM", "DICOM", "Export the slice as PNG"),
    (0, b"GIF8", "GIF", "Save it as PNG"),
    (4, b"ftypavif", "AVIF", "Save it as PNG or JPEG"),
    (4, b"ftyphei", "HEIC", "Save it as PNG or JPEG"),
    (4, b"ftypmif1", "HEIC", "Save it as PNG or JPEG"),
)

ImageFile.LOAD_TRUNCATED_IMAGES = False

# Pillow warns of damage that is judged below. Once for the process: to set filters and to restore
# them around each scan is not safe where several threads do so.
warnings.filterwarnings("ignore", module=r"PIL(\.|$)")


class ScanError(ValueError):
    """The bytes are not a scan that can be read; the message says why and what is accepted."""


class OversizedScanError(ScanError):
    """The image has more pixels than are accepted."""


class Picture(NamedTuple):
    """A decoded image.

    Attributes:
        grey: uint8, shape (height, width), 0 (black) to 255.
        coloured: the share of its pixels that were coloured, 0 to 1.
    """

    grey: NDArray[np.uint8]
    coloured: float


def decode_scan(data: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG, TIFF, BMP or WebP file into a grey picture.

    Colour becomes luminance, transparency is laid over black (the background of a scan), EXIF
    rotation is applied, and 16-bit, 32-bit and floating-point intensities, which have no fixed
    unit in MRI, are stretched from their darkest to their brightest value.

    Args:
        data: the whole file.
        max_pixels: the largest width × height accepted; checked before any pixel is decoded.

    Returns:
        uint8, shape (height, width), 0 (black) to 255.

    Raises:
        OversizedScanError: more than `max_pixels`.
        ScanError: not an image, a format not accepted, cut short, too small, blank, or more work
            to decode than any scan is.
    """
    return decode_picture(data, max_pixels=max_pixels).grey


def decode_picture(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode as `decode_scan` does, and tell how much of the image was coloured."""
    if not data:
        raise ScanError("The file is empty. Send a JPEG, PNG, TIFF, BMP or WebP image.")
    try:
        check_directories(data)
        with Image.open(open_bounded(data), formats=FORMATS) as image:
            _check_size(image.width, image.height, max_pixels)
            if image.format in _JPEGS:
                check_passes(data, image.width * image.height)
            picture = Picture(_to_grey(image, data), measure_colour(image))
    except UnidentifiedImageError:
        raise ScanError(
            f"{_name_format(data)} Accepted: JPEG, PNG, TIFF, BMP and WebP, whole and undamaged."
        ) from None
    except Image.DecompressionBombError:
        raise OversizedScanError(
            f"The image is too large to decode safely. At most {max_pixels:,} pixels are "
            "accepted: send a smaller copy."
        ) from None
    except ExcessError as error:
        raise ScanError(
            f"The image is too much work to decode: {error}. Open it in an image editor and save "
            "it anew."
        ) from None
    except _DAMAGE as error:
        if isinstance(error, ScanError):
            raise
        raise ScanError(
            f"The image is damaged or cut short ({error}). Send the whole file again."
        ) from None
    darkest, brightest, *_ = cv2.minMaxLoc(picture.grey)
    if darkest == brightest:
        raise ScanError(
            f"The image is blank: every pixel has the value {brightest:.0f}. "
            "Send a scan with a head in it."
        )
    return picture


def count_pages(data: bytes) -> int:
    """Count the pages of a TIFF file, at most 100; every other format has one."""
    pages = 1
    if not data.startswith(_TIFF_SIGNATURES):
        return pages
    try:
        with Image.open(open_bounded(data), formats=("TIFF",)) as image:
            while pages < _MOST_PAGES:
                image.seek(pages)
                pages += 1
    except (*_DAMAGE, Image.DecompressionBombError):
        pass  # beyond the last page, or at one that cannot be read
    return pages


def _name_format(data: bytes) -> str:
    for start, signature, name, advice in _OTHER_FORMATS:
        if data.startswith(signature, start):
            return f"The file is {name}, which is not read here. {advice}."
    return "The file is not an image that can be read."


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise OversizedScanError(
            f"The image is {width} × {height} pixels, which is too large. "
            f"At most {max_pixels:,} pixels are accepted: send a smaller copy."
        )
    if min(width, height) < MIN_SIDE:
        raise ScanError(
            f"The image is {width} × {height} pixels, which is too small to show a brain. "
            f"Each side must have at least {MIN_SIDE} pixels."
        )


def _to_grey(image: Image.Image, data: bytes) -> NDArray[np.uint8]:
    mode = image.mode
    grey: NDArray[np.uint8] | None = None
    if image.format == "JPEG" and mode == "L" and data.endswith(_JPEG_END):
        grey = _decode_whole_jpeg(data, (image.height, image.width))
    if grey is not None:
        pass
    elif mode in ("L", "RGB", "YCbCr", "CMYK"):
        image.load()
        grey = np.asarray(image if mode == "L" else image.convert("RGB").convert("L"))
    elif mode == "1":
        grey = np.asarray(image.convert("L"))
    elif mode.startswith(("I", "F")):
        grey = _stretch(np.asarray(image))
    else:  # palettes and everything with transparency
        rgba = image.convert("RGBA")
        grey = np.asarray(ImageChops.multiply(rgba.convert("L"), rgba.getchannel("A")))
    return _turn_upright(grey, image.getexif().get(_EXIF_ORIENTATION, 1))


def _decode_whole_jpeg(data: bytes, shape: tuple[int, int]) -> NDArray[np.uint8] | None:
    """Decode a grey JPEG of that shape (height, width) with OpenCV; None where it cannot.

    Pillow and OpenCV use the same library and agree to the bit, and OpenCV copies less. But it
    would fill up a file that is cut short with grey: only one that has its end may come here.
    """
    grey = cv2.imdecode(np.frombuffer(data, np.uint8), _GREY_AS_STORED)
    return np.asarray(grey, np.uint8) if grey is not None and grey.shape == shape else None


def _stretch(deep: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Map the darkest value to 0 and the brightest to 255; (height, width) of any number type."""
    values = deep.astype(np.float32)
    if not np.isfinite(values).all():
        raise ScanError("The image holds values that are not numbers. Export the scan again.")
    low, high = float(values.min()), float(values.max())
    scale = _EIGHT_BIT / (high - low) if high > low else 0.0
    values -= low  # in place: a large scan would be held four times over
    values *= scale
    stretched: NDArray[np.uint8] = np.rint(values, out=values).astype(np.uint8)
    return stretched


def _turn_upright(grey: NDArray[np.uint8], orientation: object) -> NDArray[np.uint8]:
    """Undo one of the eight EXIF orientations; an unknown one is left as it is."""
    turned = {
        2: grey[:, ::-1],
        3: grey[::-1, ::-1],
        4: grey[::-1],
        5: grey.T,
        6: np.rot90(grey, -1),
        7: grey[::-1, ::-1].T,
        8: np.rot90(grey),
    }.get(orientation if isinstance(orientation, int) else 1, grey)
    return np.ascontiguousarray(turned)
