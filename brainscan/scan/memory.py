"""How much memory decoding may take: for one file, and for all that a process decodes at once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import ImageFile, TiffImagePlugin

from brainscan.messages import ScanError
from brainscan.scan.bounds import ExcessError

MIN_SIDE = 16

# Bytes that a pixel takes at most while it is decoded and interpreted, all copies of it together.
_USUAL = 7
_IN_GREY = 5
_IN_JPEG = {"L": 5, "RGB": 6, "CMYK": 7}
_COEFFICIENT = 2  # of a progressive JPEG, all of which are kept until its last pass
_IN_WEBP = 17
_IN_DEEP_COLOUR = 18
# Of what is decoded in a process of its own, in both; by Pillow's names of the formats.
CONFINED = {"HEIF": 14, "AVIF": 14, "JPEG2000": 22}
# Of a DICOM or NIfTI file: the copies of what it stores, and what becomes of it.
_COPIES, _IN_COPIES = 2, 3
_DEEP_COLOUR = ";16"  # in Pillow's name of how a file stores its pixels

_MOST_AT_ONCE = 350_000_000  # bytes: as many as the largest grey picture takes by default
_LITTLE = 4_000_000  # an ordinary scan takes less, and need not wait

_BITS, _PHOTOMETRIC, _SAMPLES, _ROWS, _TILE_WIDTH, _TILE_LENGTH = 258, 262, 277, 278, 322, 323
_YCBCR, _AS_RGBA = 6, 32  # bits


class Budget:
    """So many bytes for all who decode; who needs more than is left waits for its turn.

    Args:
        most: bytes; who needs more than all of them has them alone.
    """

    def __init__(self, most: int) -> None:
        self._most = self._left = most
        self._turn, self._given_back = threading.Lock(), threading.Condition()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Wait until so many bytes are left, and take them until the end of the block."""
        if size <= _LITTLE:
            yield
            return
        size = min(size, self._most)
        with self._turn, self._given_back:
            self._given_back.wait_for(lambda: self._left >= size)
            self._left -= size
        try:
            yield
        finally:
            with self._given_back:
                self._left += size
                self._given_back.notify()


DECODING = Budget(_MOST_AT_ONCE)


def has_deep_colour(image: ImageFile.ImageFile) -> bool:
    """Tell whether a file has several channels of 16 bits."""
    return not image.mode.startswith("I") and _DEEP_COLOUR in str(image.tile[:1])


def weigh(image: ImageFile.ImageFile, max_pixels: int) -> int:
    """Give the bytes that it takes to decode a picture that was opened, and not loaded yet.

    Args:
        image: of any format.
        max_pixels: the largest width × height accepted; fewer are where a pixel takes much memory.

    Raises:
        ScanError: it is too small or too large.
    """
    width, height = image.size
    pixels = width * height
    size = pixels * _weigh_pixel(image) + _weigh_piece(image)
    most = max_pixels if size <= pixels * _USUAL else max_pixels * _USUAL * pixels // size
    check_size(width, height, most)
    return size


def check_size(width: int, height: int, most: int) -> None:
    """Check a picture's size; raises ScanError where it is too small, or of more pixels."""
    if width * height > most:
        raise ScanError("image-too-large", width=width, height=height, most=most)
    if min(width, height) < MIN_SIDE:
        raise ScanError("image-too-small", width=width, height=height, least=MIN_SIDE)


def weigh_confined(name: str, max_pixels: int) -> tuple[int, int]:
    """Say how large a picture may be that is decoded in a process of its own.

    Args:
        name: Pillow's name of its format.
        max_pixels: the largest width × height accepted.

    Returns:
        How many pixels are accepted, and the bytes that it may take to decode them.
    """
    return max_pixels * _USUAL // CONFINED[name], max_pixels * _USUAL


def weigh_stored(width: int, height: int, stored: int, max_pixels: int) -> int:
    """Give the bytes that it takes to decode a picture of so many bytes a pixel, as DICOM has them.

    Raises:
        ScanError: it is too small or too large.
    """
    most_of_pixel = _IN_COPIES + _COPIES * stored
    check_size(width, height, min(max_pixels, max_pixels * _USUAL // most_of_pixel))
    return width * height * most_of_pixel


def weigh_unpacked(size: int, max_pixels: int) -> int:
    """Give the bytes of a file that is unpacked whole, which may be as many as a picture takes.

    Raises:
        ExcessError: it is larger.
    """
    most = max_pixels * _USUAL
    if size > most:
        raise ExcessError(f"it unpacks to more than {most:,} bytes")
    return size


def _weigh_pixel(image: ImageFile.ImageFile) -> int:
    if image.format in ("JPEG", "MPO"):
        kept = _COEFFICIENT * len(image.getbands()) if "progressive" in image.info else 0
        return _IN_JPEG[image.mode] + kept
    if image.format == "WEBP":
        return _IN_WEBP
    if has_deep_colour(image):
        return _IN_DEEP_COLOUR
    return _IN_GREY if image.mode in ("1", "L", "P") else _USUAL


def _weigh_piece(image: ImageFile.ImageFile) -> int:
    """Give the bytes of a strip or tile of a TIFF, which libtiff unpacks whole."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or image.tile[0][0] != "libtiff":
        return 0
    tags = image.tag_v2
    rows = tags.get(_TILE_LENGTH) or min(tags.get(_ROWS, image.height), image.height)
    bits = tags.get(_BITS, (1,))
    bits_of_all = sum(bits) if len(bits) > 1 else bits[0] * tags.get(_SAMPLES, 1)
    least = _AS_RGBA if tags.get(_PHOTOMETRIC) == _YCBCR else 0
    return int(tags.get(_TILE_WIDTH, image.width) * rows * max(bits_of_all, least)) // 8
