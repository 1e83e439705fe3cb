"""What a file may make its decoder do, beyond the size of its picture.

A file of a few megabytes can name a small picture and still keep a processor busy for hours or
fill the memory: with a million empty chunks, with thousands of passes over the same JPEG, with a
TIFF that lists more strips than it has rows. All of it is bounded before or while the file is
opened, far above what any real scan asks for.
"""

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator

import cv2

from brainscan.messages import ScanError

# What parsers and decoders raise on damaged input; some raise more.
DAMAGE: tuple[type[Exception], ...] = (
    *(ArithmeticError, EOFError, LookupError, OSError, TypeError, ValueError),
    *(cv2.error, struct.error, zlib.error),
)

_SMALL = 2**20  # bytes
_PIECE = 2**14  # bytes that are inflated at once, to a thousand times as many at most
_MOST_READS = 200_000  # 20 MB of PNG in chunks of a kilobyte take half as many
_MOST_PASSES = 100  # progressive JPEG: ten are usual; libtiff draws the line here, too
_MOST_STRIPS = 65_536  # strips or tiles of a TIFF page; each becomes an object
_MOST_TAGS = 10_000  # of all pages of a TIFF together
_MOST_PAGES = 100

_SHORTEST_PASS = 10  # bytes
_LITTLE_WORK = 1_000_000_000  # pixels times passes: less than half a second
_JPEG_PASS = b"\xff\xda"  # in the compressed data itself, 0xff is always followed by a zero
_PNG = b"\x89PNG\r\n\x1a\n"
_CHUNK = struct.Struct(">I4s")  # a chunk's length and kind
_CHECKSUM = 4
_FIRST_ANCILLARY = b"a"  # a capital letter begins what a picture needs
_STRIP_TAGS = frozenset({273, 279, 324, 325})
# A TIFF's signature → byte order, then the formats of a directory's length, entry and offset.
_TIFF_LAYOUTS = {
    b"II*\0": ("<", "H", "HHI4x", "I"),
    b"MM\0*": (">", "H", "HHI4x", "I"),
    b"II+\0": ("<", "Q", "HHQ8x", "Q"),
    b"MM\0+": (">", "Q", "HHQ8x", "Q"),
}


class ExcessError(ValueError):
    """A file asks for more work than any real scan; the message says what of."""


@contextlib.contextmanager
def refuse(damage: tuple[type[Exception], ...] = DAMAGE, reason: str = "") -> Iterator[None]:
    """Raise what is found wrong with a file as a ScanError.

    Args:
        damage: what its parser raises on damaged input.
        reason: what is said of it; "" for the parser's own words.
    """
    try:
        yield
    except ExcessError as error:
        raise ScanError("image-too-complex", reason=str(error)) from None
    except damage as error:
        raise ScanError("damaged-image", reason=reason or str(error)) from None


class _MeteredFile(io.BytesIO):
    """A file in memory that may be read in at most 200,000 steps."""

    _steps = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as io.BytesIO does, and count."""
        self._steps += 1
        if self._steps > _MOST_READS:
            raise ExcessError("it consists of too many small pieces")
        return super().read(size)


def open_bounded(data: bytes) -> io.BytesIO:
    """Open a file's bytes for a parser; a large one raises ExcessError after 200,000 reads."""
    # The pieces of a small one are few enough, and counting them would take a tenth of its time.
    return io.BytesIO(data) if len(data) <= _SMALL else _MeteredFile(data)


def measure_inflated(data: memoryview, wbits: int) -> Iterator[int]:
    """Count the bytes that something deflated has when it is inflated, as far as it was read.

    Args:
        data: deflated.
        wbits: how, as zlib has it.

    Raises:
        ValueError: it is cut short.
        zlib.error: it is damaged.
    """
    counter, size = zlib.decompressobj(wbits), 0
    for start in range(0, len(data), _PIECE):
        size += len(counter.decompress(data[start : start + _PIECE]))
        yield size
    if not counter.eof:
        raise ValueError("it is cut short")


def check_directories(data: bytes) -> None:
    """Check the directories of a TIFF before it is opened; any other file passes.

    Damage is left for the parser to find.

    Raises:
        ExcessError: more than 65,536 strips a page, or 10,000 tags.
    """
    if data[:4] in _TIFF_LAYOUTS:
        with contextlib.suppress(struct.error, OverflowError):  # one that lies outside the file
            _check_directories(data)


def check_passes(data: bytes, pixels: int) -> None:
    """Check the passes of a JPEG of that many pixels before it is decoded.

    Raises:
        ExcessError: more than 100, where they would cost more than a large picture does.
    """
    if len(data) // _SHORTEST_PASS * pixels <= _LITTLE_WORK:
        return  # to count would take longer
    passes = data.count(_JPEG_PASS)
    if passes > _MOST_PASSES:
        raise ExcessError(f"it is drawn in {passes:,} passes, and {_MOST_PASSES} are accepted")


def keep_critical_chunks(data: bytes) -> bytes:
    """Give a PNG that is whole without the chunks that its picture does not need; else the file."""
    if not data.startswith(_PNG):
        return data
    kept, place = [_PNG], len(_PNG)
    while place < len(data):
        length, kind = _CHUNK.unpack_from(data, place)
        end = place + _CHUNK.size + length + _CHECKSUM
        if kind < _FIRST_ANCILLARY:
            kept.append(data[place:end])
        place = end
    return b"".join(kept)


def _check_directories(data: bytes) -> None:
    order, *formats = _TIFF_LAYOUTS[data[:4]]
    length, entry, offset = (struct.Struct(order + one) for one in formats)
    tags = 0
    (place,) = offset.unpack_from(data, offset.size)  # 4 in a TIFF, 8 in a BigTIFF
    for _ in range(_MOST_PAGES):
        if not place:
            return
        (entries,) = length.unpack_from(data, place)
        tags += entries
        if tags > _MOST_TAGS:
            raise ExcessError(f"it has {tags:,} tags, and {_MOST_TAGS:,} are accepted")
        place += length.size
        for _ in range(entries):
            tag, _, values = entry.unpack_from(data, place)
            if tag in _STRIP_TAGS and values > _MOST_STRIPS:
                raise ExcessError(
                    f"it lists {values:,} strips or tiles, and {_MOST_STRIPS:,} are accepted"
                )
            place += entry.size
        (place,) = offset.unpack_from(data, place)
