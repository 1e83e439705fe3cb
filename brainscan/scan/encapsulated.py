"""The pixels of a DICOM frame, in whatever transfer syntax: checked first, then decoded.

Decoders trust what a frame says of itself, so it must say the same as the header, whose size was
checked: of a small file, they would make gigabytes.
"""

import struct
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder

from brainscan.messages import ScanError
from brainscan.scan.bounds import check_passes

_JPEG_8 = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit)
_JPEG = (*_JPEG_8, uid.JPEGLossless, uid.JPEGLosslessSV1, *uid.JPEGLSTransferSyntaxes)
ACCEPTED = frozenset({*_JPEG, *uid.JPEG2000TransferSyntaxes, uid.RLELossless})

# A marker that says so; without any, libjpeg takes three channels for YCbCr. One that a frame has
# comes later and counts.
_AS_RGB = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0"
_END = b"\xff\xd9"  # of every JPEG and JPEG 2000
_PADDING = 16  # bytes that may follow it
_J2K = struct.Struct(">4s4x8I H")
_J2K_START = b"\xff\x4f\xff\x51"
_MOST_TILES = 1024  # of a JPEG 2000; each takes kilobytes
_RLE_SEGMENTS = 15
_PRECISION_8 = 8


class _Frame(NamedTuple):
    """What an encoded frame says of itself."""

    rows: int
    columns: int
    samples: int
    precision: int = 0


def decode(
    stream: Any, start: int, syntax: uid.UID, options: dict[str, Any], index: int
) -> NDArray[Any]:
    """Decode a frame.

    Args:
        stream: the bytes of the file.
        start: where its pixels begin.
        syntax: its transfer syntax.
        options: what its header says, as `pydicom.pixels.as_pixel_options` gives it.
        index: of the frame.

    Returns:
        Shape (rows, columns), or (rows, columns, 3) of colours as RGB.

    Raises:
        ExcessError: it is more work than any real scan.
        ScanError: the package that decodes it is not installed.
        ValueError, RuntimeError and others of pydicom: it is damaged.
    """
    stream.seek(start)
    plugin = ""
    if syntax.is_encapsulated:
        frame = get_frame(
            stream,
            index,
            number_of_frames=options["number_of_frames"],
            extended_offsets=options.get("extended_offsets"),
        )
        stated = _Frame(options["rows"], options["columns"], options["samples_per_pixel"])
        if syntax == uid.RLELossless:
            return _decode_rle(frame, options)
        found = _read_j2k(frame) if syntax in uid.JPEG2000TransferSyntaxes else _read_jpeg(frame)
        if found[:3] != stated[:3] or _END not in frame[-_PADDING:]:
            raise ValueError
        check_passes(frame, found.rows * found.columns)
        if syntax in _JPEG_8 and found.precision == _PRECISION_8:
            if options["photometric_interpretation"] == "RGB":
                frame = frame[:2] + _AS_RGB + frame[2:]
            decoded = simplejpeg.decode_jpeg(frame, "RGB" if found.samples > 1 else "GRAY")
            return np.asarray(decoded if found.samples > 1 else decoded[..., 0])
        plugin = "pyjpegls" if syntax in uid.JPEGLSTransferSyntaxes else "pylibjpeg"
    decoder = get_decoder(syntax)
    if plugin and plugin not in decoder.available_plugins:
        raise ScanError("transfer-syntax", syntax=syntax.name)
    return decoder.as_array(stream, index=index, decoding_plugin=plugin, **options)[0]


def _read_j2k(frame: bytes) -> _Frame:
    """Read the size that a JPEG 2000 codestream says.

    Raises:
        ValueError, struct.error: it does not begin as one, or has too many tiles.
    """
    start, *numbers, samples = _J2K.unpack_from(frame)
    width, height, left, top, across, down, *_ = numbers
    if start != _J2K_START or left or top or not (across and down):
        raise ValueError
    if -(-width // across) * -(-height // down) > _MOST_TILES:
        raise ValueError
    return _Frame(height, width, samples)


def _read_jpeg(frame: bytes) -> _Frame:
    """Read the size that a JPEG or JPEG-LS says.

    Raises:
        ValueError, struct.error: it does not begin as one.
    """
    place = 2
    while True:
        mark, kind, length = struct.unpack_from(">BBH", frame, place)
        if mark != 0xFF:
            raise ValueError
        if kind == 0xF7 or (0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC)):
            precision, rows, columns, samples = struct.unpack_from(">BHHB", frame, place + 4)
            return _Frame(rows, columns, samples, precision)
        place += 2 + length


def _decode_rle(frame: bytes, options: dict[str, Any]) -> NDArray[Any]:
    """Decode a frame of RLE: a segment for each byte of each sample, the highest first.

    By Pillow, and not by pylibjpeg-rle, which aborts with a message to standard error where a
    segment is too long, nor by pydicom, which fills the memory then.
    """
    rows, columns, samples = (options[key] for key in ("rows", "columns", "samples_per_pixel"))
    width = options["bits_allocated"] // 8
    count, *starts = struct.unpack_from("<16I", frame)
    if count != width * samples or count > _RLE_SEGMENTS:
        raise ValueError
    ends = [*starts[1:count], len(frame)]
    planes = [
        _unpack(frame[start:end], rows * columns)
        for start, end in zip(starts[:count], ends, strict=True)
    ]
    kind = "i" if options.get("pixel_representation") and samples == 1 else "u"
    stored = np.stack(planes, axis=-1).reshape(rows, columns, samples, width)
    values = np.ascontiguousarray(stored).view(f">{kind}{width}")[..., 0]
    return np.asarray(values[..., 0] if samples == 1 else values)


def _unpack(segment: bytes, length: int) -> NDArray[np.uint8]:
    """Unpack PackBits; raises ValueError where it holds more bytes than that, or fewer."""
    try:
        _unpack_first(segment.rstrip(b"\0"), length + 1)  # without what it may be padded with
    except ValueError:
        return _unpack_first(segment, length)
    raise ValueError


def _unpack_first(segment: bytes, length: int) -> NDArray[np.uint8]:
    # As if it were one row: runs may reach from one to the next.
    return np.asarray(Image.frombytes("L", (length, 1), segment, "packbits", "L"))
