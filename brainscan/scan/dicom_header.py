"""The bytes of a DICOM file → its header, up to its pixels."""

import logging
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydicom import config, uid
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.filereader import read_dataset
from pydicom.uid import UID

from brainscan.scan.bounds import DAMAGE, ExcessError, measure_inflated, open_bounded, refuse
from brainscan.scan.facts import KEYWORDS
from brainscan.scan.memory import DECODING, weigh_unpacked

_PIXELS = {
    0x7FE00010: "PixelData",
    0x7FE00009: "DoubleFloatPixelData",
    0x7FE00008: "FloatPixelData",
}
_MOST_NESTED = 2_000_000  # bytes of an element; of a sequence, a hundred times as many are taken
# Sequences whose first item describes the frames of a multi-frame image.
SHARED, EACH = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_SEQUENCES = (SHARED, EACH, "ModalityLUTSequence", "VOILUTSequence", "AnatomicRegionSequence")
_WANTED = [
    tag_for_keyword(keyword) or 0
    for keyword in (
        *_SEQUENCES,
        *("SOPInstanceUID", "SeriesInstanceUID", "InstanceNumber"),
        *KEYWORDS,
        *("SOPClassUID", "ImageType", "NumberOfFrames", "SamplesPerPixel"),
        *("PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns", "PixelSpacing"),
        *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue"),
        *("PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "WindowCenter"),
        *("WindowWidth", "VOILUTFunction", "ImageOrientationPatient", "ImagePositionPatient"),
        "SpacingBetweenSlices",
        *("RedPaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData"),
        *("GreenPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableData"),
        *("BluePaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableData"),
        *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    )
]
BAD_HEADER = "its header is not valid"
# Bytes of memory that each inflated byte takes at most: itself, and those of eight pixels of a bit.
_OF_DEFLATED = 41
DICOM_DAMAGE = (*DAMAGE, AttributeError, BytesLengthException, RuntimeError)  # of recursion, too

# What pydicom finds odd would be logged with the values of the header, which nobody may see.
config.settings.reading_validation_mode = config.IGNORE
config.convert_wrong_length_to_UN = True  # else it raises something that is not a ValueError
warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")
for _name in ("pydicom", "pylibjpeg", "jpeg_ls"):
    logging.getLogger(_name).propagate = False


@dataclass(frozen=True, eq=False)
class DicomFile:
    """A file that was parsed up to its pixels.

    Attributes:
        stream: of its bytes, as far as they are not deflated.
        header: the elements that are wanted.
        syntax: its transfer syntax.
        object_class: the UID of its SOP class; "" where it has none.
        pixels: the keyword of its pixels; "" where it has none.
        pixels_vr: their value representation.
        start: where their value begins.
    """

    stream: Any
    header: Dataset
    syntax: UID
    object_class: str
    pixels: str = ""
    pixels_vr: str = ""
    start: int = 0


@contextmanager
def open_header(data: bytes, max_pixels: int) -> Iterator[DicomFile]:
    """Parse a DICOM file up to its pixels; what is deflated is held in memory meanwhile.

    Args:
        data: the whole file.
        max_pixels: the largest width × height accepted.

    Raises:
        ScanError: it is damaged, or too much work.
    """
    with refuse(DICOM_DAMAGE, BAD_HEADER):
        meta, start = _read_meta(data)
        syntax = UID(meta.get("TransferSyntaxUID", ""))
        inflated = 0
        if syntax == uid.DeflatedExplicitVRLittleEndian:
            inflated = _weigh_deflated(memoryview(data)[start:], max_pixels)
    with DECODING.hold(_OF_DEFLATED * inflated):
        with refuse(DICOM_DAMAGE, BAD_HEADER):
            file = _parse(data, meta, start, syntax)
        yield file


def _read_meta(data: bytes) -> tuple[Dataset, int]:
    """Read the elements that say how the others are stored, and where those begin."""
    stream: Any = open_bounded(data)
    stream.seek(132 if data.startswith(b"DICM", 128) else 0)
    meta = read_dataset(
        stream,
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, *_: tag >> 16 != 2,
    )
    return meta, stream.tell()


def _weigh_deflated(deflated: memoryview, max_pixels: int) -> int:
    """Give the bytes that something deflated is inflated to.

    To count takes no memory; a bomb is noticed before it is inflated whole.
    """
    size = 0
    for size in measure_inflated(deflated, -zlib.MAX_WBITS):
        weigh_unpacked(size, max_pixels)
    return size


def _parse(data: bytes, meta: Dataset, start: int, syntax: UID) -> DicomFile:
    stream: Any
    if syntax == uid.DeflatedExplicitVRLittleEndian:
        stream = open_bounded(zlib.decompress(memoryview(data)[start:], -zlib.MAX_WBITS))
    else:
        stream = open_bounded(data)
        stream.seek(start)
        syntax = syntax or _guess_syntax(data[start : start + 6])
    implicit = syntax == uid.ImplicitVRLittleEndian
    found: dict[str, Any] = {}

    def stop_at_pixels(tag: int, vr: str | None, _: int) -> bool:
        if tag in _PIXELS:
            found.update(pixels=_PIXELS[tag], pixels_vr=vr or "OW", start=stream.tell())
        return tag in _PIXELS

    little = syntax != uid.ExplicitVRBigEndian
    header = read_dataset(stream, implicit, little, stop_when=stop_at_pixels, specific_tags=_WANTED)
    for element in header.values():
        if isinstance(element, RawDataElement) and len(element.value or b"") > _MOST_NESTED:
            raise ExcessError("its header is too long")
    named = meta.get("MediaStorageSOPClassUID") or header.get("SOPClassUID") or ""
    header.set_original_encoding(implicit, little)
    return DicomFile(stream, header, syntax, str(named), **found)


def _guess_syntax(start: bytes) -> UID:
    """Guess the transfer syntax by the first bytes of a header that does not name it."""
    if not start[4:6].isalpha():
        return uid.ImplicitVRLittleEndian
    big = start[:1] == b"\0"
    return uid.ExplicitVRBigEndian if big else uid.ExplicitVRLittleEndian
