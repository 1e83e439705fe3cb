"""JPEG, PNG, TIFF, BMP and WebP → one grey picture, as a reader of films would see it."""

import struct
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFile, TiffImagePlugin, UnidentifiedImageError

from brainscan.messages import Message, ScanError
from brainscan.scan.bounds import ExcessError, check_directories, check_passes, open_bounded
from brainscan.scan.drawings import find_colour, is_drawing, remove_colours, remove_rings
from brainscan.scan.frame import is_inverted
from brainscan.scan.picture import Picture
from brainscan.scan.resemblance import MAX_COLOURED_FRACTION
from brainscan.scan.window import DIM_VALUE, choose_window, is_dim, negate

MIN_SIDE = 16

_EXIF_ORIENTATION = 0x0112
_PHOTOMETRIC = 262
_DEEP_COLOUR = ";16"  # in Pillow's name of how a file stores its pixels
_WITH_OPACITY = 4
_FEW_LEVELS = 64
_JPEGS = ("JPEG", "MPO")  # the latter holds several
_JPEG_END = b"\xff\xd9"
_GREY_AS_STORED = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION

_MOST_PAGES = 100  # each further page is a step through the file

# What undoes each EXIF orientation.
_TURNS: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    2: lambda grey: grey[:, ::-1],
    3: lambda grey: grey[::-1, ::-1],
    4: lambda grey: grey[::-1],
    5: lambda grey: grey.T,
    6: lambda grey: np.rot90(grey, -1),
    7: lambda grey: grey[::-1, ::-1].T,
    8: np.rot90,
}

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

# Numbers that Pillow can decode, but does not expect in a TIFF: of 64 bits, which NumPy's users
# save, and of 16 with a sign and 0 for white.
for _order, _end in ((TiffImagePlugin.II, ""), (TiffImagePlugin.MM, "B")):
    for _white in (0, 1):
        TiffImagePlugin.OPEN_INFO[_order, _white, (3,), 1, (64,), ()] = ("F", f"F;64{_end}F")
    TiffImagePlugin.OPEN_INFO[_order, 0, (2,), 1, (16,), ()] = ("I", f"I;16{_end}S")

# Pillow warns of damage that is judged below. Once for the process: to set filters and to restore
# them around each scan is not safe where several threads do so.
warnings.filterwarnings("ignore", module=r"PIL(\.|$)")


def read_raster(data: bytes, max_pixels: int, name: str) -> Picture:
    """Decode an image file with Pillow.

    Colour becomes luminance, what is drawn in colour is taken off, transparency is laid over black
    (the background of a scan), and EXIF rotation is applied. More than 8 bits, floating-point
    numbers and dim pictures are windowed (`brainscan.scan.window`), and a negative is inverted.

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
            pixels = _decode(image, data)
            orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except ExcessError as error:
        raise ScanError("image-too-complex", reason=str(error)) from None
    except UnidentifiedImageError:  # it says no more than the address of the file's object
        raise ScanError("damaged-image", reason="its header is not valid") from None
    except _DAMAGE as error:
        raise ScanError("damaged-image", reason=str(error)) from None
    pages = _count_pages(data) if name == "TIFF" else 1
    left_out = (Message("more-pages", {"pages": pages}),) if pages > 1 else ()
    picture = _interpret(pixels)
    upright = _turn_upright(picture.grey, orientation)
    return Picture(upright, picture.coloured, left_out + picture.notes)


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


class _Pixels(NamedTuple):
    """What a file holds.

    Attributes:
        grey: shape (height, width); uint8 where it has 8 bits, else of any number type.
        colours: None where it has none, else of the same type, shape (height, width, 3), in any
            order.
    """

    grey: NDArray[Any]
    colours: NDArray[Any] | None = None


def _decode(image: ImageFile.ImageFile, data: bytes) -> _Pixels:
    mode, shape = image.mode, (image.height, image.width)
    if image.format == "JPEG" and mode == "L" and data.endswith(_JPEG_END):
        grey = _decode_whole_jpeg(data, shape)
        if grey is not None:
            return _Pixels(grey)
    if mode.startswith(("I", "F")):
        deep = np.asarray(image)
        return _Pixels(negate(deep) if _is_white_zero(image) else deep)
    if _DEEP_COLOUR in str(image.tile[:1]):
        image.load()  # refuses a file that is cut short, which OpenCV would fill up
        deep_colours = _decode_deep_colours(data, shape)
        if deep_colours is not None:
            return deep_colours
    if mode in ("L", "1"):
        return _Pixels(np.asarray(image.convert("L")))
    if mode in ("RGB", "YCbCr", "CMYK"):
        colours = image.convert("RGB")
        return _Pixels(np.asarray(colours.convert("L")), np.asarray(colours))
    rgba = image.convert("RGBA")  # palettes and everything with transparency
    opacity = rgba.getchannel("A")
    grey = np.asarray(ImageChops.multiply(rgba.convert("L"), opacity))
    seen = np.asarray(opacity)[..., np.newaxis] > 0
    return _Pixels(grey, np.asarray(rgba.convert("RGB")) * seen)


def _is_white_zero(image: Image.Image) -> bool:
    """Tell whether 0 is white in a TIFF; Pillow heeds that in files of 8 bits only."""
    return isinstance(image, TiffImagePlugin.TiffImageFile) and not image.tag_v2.get(_PHOTOMETRIC)


def _decode_deep_colours(data: bytes, shape: tuple[int, int]) -> _Pixels | None:
    """Decode a file with several channels of 16 bits, of which Pillow would keep 8.

    Returns:
        Values of 16 bits, transparency laid over black; None where OpenCV cannot read them.
    """
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16 or stored.shape[:2] != shape:
        return None
    colours = stored[..., :3]
    if stored.shape[2] == _WITH_OPACITY:
        colours = colours * (stored[..., 3:] / np.float32(np.iinfo(np.uint16).max))
    return _Pixels(cv2.cvtColor(colours, cv2.COLOR_BGR2GRAY), colours)


def _interpret(pixels: _Pixels) -> Picture:
    """Make a picture as a reader of films would see it of what a file holds."""
    grey, colours = pixels
    levels, coloured = None, 0.0
    notes = []
    if grey.dtype != np.uint8:
        window = choose_window(grey)
        grey, levels = window.apply(grey), window.levels
        colours = None if colours is None else window.apply(colours)
    if colours is not None:
        colour = find_colour(colours)
        coloured = cv2.countNonZero(colour) / colour.size
        if coloured <= MAX_COLOURED_FRACTION and is_drawing(colour):
            grey = remove_colours(grey, colours, colour)
            notes.append(Message("annotated"))
    grey, levels = _brighten(grey, levels)
    if coloured <= MAX_COLOURED_FRACTION and is_inverted(grey):
        grey = ~grey
        notes.append(Message("inverted"))
        grey, levels = _brighten(grey, levels)
    without_rings = remove_rings(grey)
    if without_rings is not None:
        grey = without_rings
        notes.append(Message("annotated"))
    if levels is not None and levels < _FEW_LEVELS:
        notes.append(Message("few-grey-levels", {"levels": levels}))
    return Picture(grey, coloured, tuple(notes))


def _brighten(grey: NDArray[np.uint8], levels: int | None) -> tuple[NDArray[np.uint8], int | None]:
    """Give a dim picture the full range of grey, and say how many levels it has."""
    window = choose_window(grey) if is_dim(grey) else None
    if window is None or window.high >= DIM_VALUE:  # a small bright spot on black is not dim
        return grey, levels
    return window.apply(grey), window.levels


def _decode_whole_jpeg(data: bytes, shape: tuple[int, int]) -> NDArray[np.uint8] | None:
    """Decode a grey JPEG of that shape (height, width) with OpenCV; None where it cannot.

    Pillow and OpenCV use the same library and agree to the bit, and OpenCV copies less. But it
    would fill up a file that is cut short with grey: only one that has its end may come here.
    """
    grey = cv2.imdecode(np.frombuffer(data, np.uint8), _GREY_AS_STORED)
    return np.asarray(grey, np.uint8) if grey is not None and grey.shape == shape else None


def _turn_upright(grey: NDArray[np.uint8], orientation: object) -> NDArray[np.uint8]:
    """Undo one of the eight EXIF orientations; an unknown one is left as it is."""
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return np.ascontiguousarray(turn(grey) if turn else grey)
