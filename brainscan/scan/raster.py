"""JPEG, PNG, TIFF, BMP and WebP → one grey picture, 8 bits deep, the right way up."""

import struct
import warnings
from contextlib import suppress

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFile, UnidentifiedImageError

from brainscan.messages import Message, ScanError
from brainscan.scan.bounds import ExcessError, check_directories, check_passes, open_bounded
from brainscan.scan.picture import Picture
from brainscan.scan.resemblance import measure_colour

MIN_SIDE = 16

_EXIF_ORIENTATION = 0x0112
_EIGHT_BIT = 255.0
_JPEGS = ("JPEG", "MPO")  # the latter holds several
_JPEG_END = b"\xff\xd9"
_GREY_AS_STORED = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION

_MOST_PAGES = 100  # each further page is a step through the file

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

ImageFile.LOAD_TRUNCATED_IMAGES = False
Image.MAX_IMAGE_PIXELS = None  # the size is checked here, against the caller's bound

# Pillow warns of damage that is judged below. Once for the process: to set filters and to restore
# them around each scan is not safe where several threads do so.
warnings.filterwarnings("ignore", module=r"PIL(\.|$)")


def read_raster(data: bytes, max_pixels: int, name: str) -> Picture:
    """Decode an image file with Pillow.

    Colour becomes luminance, transparency is laid over black (the background of a scan), EXIF
    rotation is applied, and 16-bit, 32-bit and floating-point intensities, which have no fixed
    unit in MRI, are stretched from their darkest to their brightest value.

    Args:
        data: the whole file.
        max_pixels: the largest width × height accepted; checked before any pixel is decoded.
        name: Pillow's name of its format.

    Raises:
        ScanError: cut short, too small, too large, or more work to decode than any scan is.
    """
    try:
        check_directories(data)
        with Image.open(open_bounded(data), formats=(name,)) as image:
            _check_size(image.width, image.height, max_pixels)
            if image.format in _JPEGS:
                check_passes(data, image.width * image.height)
            grey, coloured = _to_grey(image, data), measure_colour(image)
    except ExcessError as error:
        raise ScanError("image-too-complex", reason=str(error)) from None
    except UnidentifiedImageError:  # it says no more than the address of the file's object
        raise ScanError("damaged-image", reason="its header is not valid") from None
    except _DAMAGE as error:
        raise ScanError("damaged-image", reason=str(error)) from None
    pages = _count_pages(data) if name == "TIFF" else 1
    left_out = (Message("more-pages", {"pages": pages}),) if pages > 1 else ()
    return Picture(grey, coloured, left_out)


def _count_pages(data: bytes) -> int:
    """Count the pages of a TIFF file, at most 100."""
    pages = 1
    # It stops beyond the last page, or at one that cannot be read.
    with suppress(*_DAMAGE), Image.open(open_bounded(data), formats=("TIFF",)) as image:
        while pages < _MOST_PAGES:
            image.seek(pages)
            pages += 1
    return pages


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ScanError("image-too-large", width=width, height=height, most=max_pixels)
    if min(width, height) < MIN_SIDE:
        raise ScanError("image-too-small", width=width, height=height, least=MIN_SIDE)


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
        raise ScanError("not-numbers")
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
