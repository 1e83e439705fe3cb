"""Every format that Pillow decodes → one grey picture, as a reader of films would see it."""

import io
import logging
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFile, TiffImagePlugin, UnidentifiedImageError

from brainscan.messages import Message
from brainscan.scan import libtiff
from brainscan.scan.bounds import (
    DAMAGE,
    check_directories,
    check_passes,
    keep_critical_chunks,
    open_bounded,
    refuse,
)
from brainscan.scan.confined import decode_confined
from brainscan.scan.memory import DECODING, has_deep_colour, weigh, weigh_confined
from brainscan.scan.picture import Picture
from brainscan.scan.planes import (
    Planes,
    Read,
    gather,
    gather_deep,
    gather_stored,
    interpret,
    list_bands,
)
from brainscan.scan.window import find_brightest, negate

_EXIF_ORIENTATION = 0x0112
_PHOTOMETRIC = 262
_WITH_OPACITY = 4
_JPEGS = ("JPEG", "MPO")  # the latter holds several
_JPEG_COLOURS = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
_START_OF_IMAGE = b"\xff\xd8"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers
_FRAME_BITS = 4  # bytes from such a marker
_BITS = 8
_BIG = 43  # a BigTIFF's third byte
_SAMPLES, _NUMBERS, _FLOATING = 277, 339, 3
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

_DAMAGE = (*DAMAGE, SyntaxError)  # as Pillow's parsers raise

# What OpenCV finds wrong with a file would be written to standard error.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
ImageFile.LOAD_TRUNCATED_IMAGES = False
Image.MAX_IMAGE_PIXELS = None  # the size is checked here, against the caller's bound

# Numbers that Pillow can decode, but does not expect in a TIFF: of 64 bits, which NumPy's users
# save, and of 16 with a sign and 0 for white.
for _order, _end in ((TiffImagePlugin.II, ""), (TiffImagePlugin.MM, "B")):
    for _white in (0, 1):
        TiffImagePlugin.OPEN_INFO[_order, _white, (3,), 1, (64,), ()] = ("F", f"F;64{_end}F")
    TiffImagePlugin.OPEN_INFO[_order, 0, (2,), 1, (16,), ()] = ("I", f"I;16{_end}S")

# Pillow warns of damage that is judged below, and logs it to standard error where nobody takes its
# log. Once for the process: to set filters and to restore them around each scan is not safe where
# several threads do so.
warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
logging.getLogger("PIL").addHandler(logging.NullHandler())


def read_raster(data: bytes, max_pixels: int, name: str) -> Picture:
    """Decode an image file.

    Colour becomes luminance, what is drawn in colour is taken off, transparency is laid over black
    (the background of a scan), and EXIF rotation is applied. More than 8 bits, floating-point
    numbers and dim pictures are windowed (`brainscan.scan.window`), and a negative is inverted.

    Args:
        data: the whole file.
        max_pixels: the largest width × height accepted; checked before any pixel is decoded. Fewer
            are where each takes much memory (`brainscan.scan.memory`).
        name: Pillow's name of its format.

    Raises:
        ScanError: cut short, damaged, too small, too large, or more work to decode than any scan
            is.
    """
    with refuse(_DAMAGE):
        check_directories(data)
        with _open(data, name) as image:
            size = weigh(image, max_pixels)
            if image.format in _JPEGS:
                check_passes(data, image.width * image.height)
            with DECODING.hold(size):
                planes = _decode(image, data)
                orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
                pages = 1 if name == "TIFF" else getattr(image, "n_frames", 1)
                image.close()  # which gives its memory back
                picture = interpret(planes)
    if name == "TIFF":
        pages = _count_pages(data)
    return _finish(picture, pages, orientation)


def read_confined(data: bytes, max_pixels: int, name: str) -> Picture:
    """Decode a file as `read_raster` does, in a process of its own (`brainscan.scan.confined`)."""
    most_pixels, most_bytes = weigh_confined(name, max_pixels)
    with refuse((ValueError,)), DECODING.hold(most_bytes):
        decoded = decode_confined(data, name, most_pixels, most_bytes)
        picture = interpret(gather_stored(decoded.pixels))
    return _finish(picture, decoded.pages, decoded.orientation)


def _open(data: bytes, name: str) -> ImageFile.ImageFile:
    try:
        return Image.open(open_bounded(data), formats=(name,))
    except UnidentifiedImageError:  # it says no more than the address of the file's object
        raise ValueError("its header is not valid") from None


def name_variant(data: bytes) -> str | None:
    """Name what a JPEG or TIFF is that is whole, but of a kind that cannot be read."""
    if data.startswith(_START_OF_IMAGE):
        bits = _count_bits(data)
        return f"JPEG ({bits} bit)" if bits not in (None, _BITS) else None
    with suppress(*_DAMAGE):
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:16] if data[2] == _BIG else data[:8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        if _FLOATING in tags.get(_NUMBERS, ()) and tags.get(_SAMPLES, 1) > 1:
            return "TIFF (RGB, float)"
    return None


def _count_bits(data: bytes) -> int | None:
    """Give the bits of each number in a JPEG; None where its header does not say."""
    place = len(_START_OF_IMAGE)
    while place + _FRAME_BITS < len(data):
        marker = data[place + 1]
        if marker in _FRAMES:
            return data[place + _FRAME_BITS]
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return None


def _finish(picture: Picture, pages: int, orientation: object) -> Picture:
    left_out = (Message("more-pages", {"pages": pages}),) if pages > 1 else ()
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


def _decode(image: ImageFile.ImageFile, data: bytes) -> Planes:
    mode, shape = image.mode, (image.height, image.width)
    if image.format in _JPEGS:
        stored = _decode_jpeg(data, mode, shape)
        if stored is not None and mode in ("L", "RGB"):
            return gather_stored(stored[..., 0] if mode == "L" else stored)
        del stored
    is_deep_colour = has_deep_colour(image)
    _load(image)
    if mode.startswith(("I", "F")):
        return gather_deep(shape, _read_deep(image))
    if is_deep_colour:
        deep_colours = _decode_deep_colours(data, shape)
        if deep_colours is not None:
            return gather_deep(shape, lambda rows: _split_deep(deep_colours[rows]))
    if mode in ("L", "1"):
        return gather(shape, lambda rows: (np.asarray(_cut(image, rows).convert("L")), None))
    return gather(shape, lambda rows: _split(_cut(image, rows)))


def _load(image: ImageFile.ImageFile) -> None:
    """Decode with Pillow, which refuses a file that is cut short; OpenCV would fill it up."""
    if image.format != "TIFF":
        image.load()
        return
    with libtiff.listen() as faults:
        image.load()
    if faults:
        raise ValueError(faults[0])


def _decode_jpeg(data: bytes, mode: str, shape: tuple[int, int]) -> NDArray[np.uint8] | None:
    """Decode a JPEG of that shape (height, width); None where only Pillow can.

    Both use the same library and agree to the bit, but Pillow fills up what is missing, and takes
    no notice of damage that the library finds.

    Raises:
        ValueError: it is damaged.
    """
    try:
        stored = simplejpeg.decode_jpeg(data, _JPEG_COLOURS[mode])
    except ValueError:
        try:
            simplejpeg.decode_jpeg_header(data, strict=False)
        except ValueError:  # such as colours of odd resolutions
            return None
        raise
    return stored if stored.shape[:2] == shape else None


def _decode_deep_colours(data: bytes, shape: tuple[int, int]) -> NDArray[np.uint16] | None:
    """Decode a file with several channels of 16 bits, of which Pillow would keep 8.

    Returns:
        Shape (height, width, 3) or, with opacity, (height, width, 4); None where OpenCV cannot
        read it.
    """
    data = keep_critical_chunks(data)  # of the others, libpng writes to standard error
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16 or stored.shape[:2] != shape:
        return None
    return np.asarray(stored, np.uint16)


def _cut(image: Image.Image, rows: slice) -> Image.Image:
    if rows.stop - rows.start == image.height:
        return image
    return image.crop((0, rows.start, image.width, rows.stop))


def _read_deep(image: Image.Image) -> Read:
    """Read numbers of more than 8 bits."""

    def read_stored(rows: slice) -> NDArray[Any]:
        return np.asarray(_cut(image, rows))

    if not _is_white_zero(image):
        return lambda rows: (read_stored(rows), None)
    shape = image.height, image.width
    brightest = max(find_brightest(read_stored(rows)) for rows in list_bands(shape))
    return lambda rows: (negate(read_stored(rows), brightest), None)


def _is_white_zero(image: Image.Image) -> bool:
    """Tell whether 0 is white in a TIFF; Pillow heeds that in files of 8 bits only."""
    return isinstance(image, TiffImagePlugin.TiffImageFile) and not image.tag_v2.get(_PHOTOMETRIC)


def _split(image: Image.Image) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Give the luminance of a picture of 8 bits, and its colours; transparency over black."""
    if image.mode in ("RGB", "YCbCr", "CMYK"):
        colours = image if image.mode == "RGB" else image.convert("RGB")
        return np.asarray(colours.convert("L")), np.asarray(colours)
    rgba = image.convert("RGBA")  # palettes and everything with transparency
    opacity = rgba.getchannel("A")
    grey = np.asarray(ImageChops.multiply(rgba.convert("L"), opacity))
    seen = np.asarray(opacity)[..., np.newaxis] > 0
    return grey, np.asarray(rgba.convert("RGB")) * seen


def _split_deep(stored: NDArray[np.uint16]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Give the luminance of channels of 16 bits, and their colours; transparency over black."""
    colours: NDArray[Any] = stored[..., :3]
    if stored.shape[2] == _WITH_OPACITY:
        colours = colours * (stored[..., 3:] / np.float32(np.iinfo(np.uint16).max))
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(colours), cv2.COLOR_BGR2GRAY)), colours


def _turn_upright(grey: NDArray[np.uint8], orientation: object) -> NDArray[np.uint8]:
    """Undo one of the eight EXIF orientations; an unknown one is left as it is."""
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return np.ascontiguousarray(turn(grey) if turn else grey)
