"""DICOM → pictures: what a header says of its pixels, and where they lie in the patient.

No value of a header gets into an error, a note or a log, other than names of DICOM's own
dictionary: any other may identify a patient.
"""

import logging
import math
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import config, uid
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import UID

from brainscan.messages import ScanError
from brainscan.scan import encapsulated
from brainscan.scan.bounds import ExcessError, measure_inflated, open_bounded
from brainscan.scan.memory import DECODING, weigh_stored, weigh_unpacked
from brainscan.scan.picture import Picture
from brainscan.scan.raster import Planes, gather, gather_deep, interpret, take_luminance
from brainscan.scan.volume import Placement, Volume, place
from brainscan.scan.window import Window, choose_window

_DIRECTORY = "1.2.840.10008.1.3.10"
_NATIVE = {
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
}
_STORAGE = "1.2.840.10008.5.1.4.1.1."
# MR images, secondary captures and parametric maps, with all their variants.
_ACCEPTED = tuple(_STORAGE + number for number in ("4", "7", "30"))
_MODALITIES = re.compile(
    "AR|AU|BI|CR|CT|CTPROTOCOL|DG|DOC|DX|ECG|ES|FID|GM|IO|IVUS|KO|LS|MG|NM|OCT|OP|OPT|OT|PR|PT|PX"
    "|REG|RF|RG|RTDOSE|RTIMAGE|RTPLAN|RTRECORD|RTSTRUCT|SEG|SM|SR|TG|US|XA|XC"
)
# Words for the part of the body that is examined. One of another part is enough to refuse, unless
# there is one of the head, too.
_HEAD_PARTS = re.compile("HEAD|BRAIN|SKULL|CRANI|CEREB|PITUI|SELLA|ORBIT|FACE|FACIAL|CALVARI")
_OTHER_PARTS = re.compile(
    "(?<![A-Z])(ABDOMEN|ANKLE|AORTA|ARM|BACK|BLADDER|BREAST|CALF|CARDIAC|CHEST|CLAVICLE|COCCYX|COLON"
    "|CSPINE|ELBOW|EXTREMITY|FEMUR|FINGER|FOOT|FOREARM|HAND|HEART|HIP|HUMERUS|KIDNEY|KNEE|LEG|LIVER"
    "|LSPINE|LUMBAR|LUNG|PANCREAS|PELVIS|PROSTATE|RIB|SACRUM|SCROTUM|SHOULDER|SPINE|SPLEEN|SSPINE"
    "|STERNUM|THIGH|THORAX|THUMB|TIBIA|TOE|TSPINE|UTERUS|WRIST)S?(?![A-Z])"
)

_PIXELS = {
    0x7FE00010: "PixelData",
    0x7FE00009: "DoubleFloatPixelData",
    0x7FE00008: "FloatPixelData",
}
_UNDEFINED = 0xFFFFFFFF
_MOST_NESTED = 2_000_000  # bytes of a sequence; it takes a hundred times as many to look into it
# Sequences whose first item describes the frames of a multi-frame image.
_SHARED, _EACH = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_SEQUENCES = (_SHARED, _EACH, "ModalityLUTSequence", "VOILUTSequence", "AnatomicRegionSequence")
_WANTED = [
    tag_for_keyword(keyword) or 0
    for keyword in (
        *_SEQUENCES,
        *("SOPClassUID", "Modality", "BodyPartExamined", "NumberOfFrames", "SamplesPerPixel"),
        *("PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns", "PixelSpacing"),
        *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue"),
        *("PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "WindowCenter"),
        *("WindowWidth", "VOILUTFunction", "ImageOrientationPatient", "ImagePositionPatient"),
        *("RedPaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData"),
        *("GreenPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableData"),
        *("BluePaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableData"),
        *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    )
]
# Of the range between the darkest air and the brightest of the head: a window that ends below or
# above leaves the head white or dark, and one that begins there leaves it black or grey.
_LEAST_HIGH, _MOST_HIGH = 0.25, 2.0
_LEAST_LOW, _MOST_LOW = -1.0, 0.5

# Everything that pydicom and its decoders raise on damaged input.
_DAMAGE = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    EOFError,
    OSError,
    OverflowError,
    NotImplementedError,
    RuntimeError,  # of recursion, too
    ZeroDivisionError,
    struct.error,
    zlib.error,
)

# What pydicom finds odd would be logged with the values of the header, which nobody may see.
config.settings.reading_validation_mode = config.IGNORE
warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")
for _name in ("pydicom", "pylibjpeg", "jpeg_ls"):
    logging.getLogger(_name).propagate = False


@contextmanager
def open_dicom(data: bytes, max_pixels: int) -> Iterator[Volume]:
    """Open a DICOM file: its frames are the slices of a volume.

    Args:
        data: the whole file.
        max_pixels: the largest width × height accepted.

    Raises:
        ScanError: not an MR image of a head by what its header says, without pixels, in a transfer
            syntax that is not read, damaged, too small, too large, or too much work.
    """
    with _as_problems("its header is not valid"):
        file = _parse(data, max_pixels)
        _check_object(file)
        image = _describe(file)
        size = weigh_stored(image.columns, image.rows, image.bytes_of_pixel, max_pixels)
    with DECODING.hold(size + file.inflated):
        yield Volume(image.frames, image.find_middle(), partial(_read_frame, image))


@contextmanager
def _as_problems(reason: str) -> Iterator[None]:
    """Raise what is wrong with a file as a ScanError, without the words of pydicom."""
    try:
        yield
    except ExcessError as error:
        raise ScanError("image-too-complex", reason=str(error)) from None
    except _DAMAGE:
        raise ScanError("damaged-image", reason=reason) from None


@dataclass(frozen=True, eq=False)
class _File:
    """A file that was parsed up to its pixels.

    Attributes:
        stream: of its bytes, as far as they are not deflated.
        header: the elements that are wanted.
        syntax: its transfer syntax.
        object_class: the UID of its SOP class; "" where it has none.
        pixels: the keyword of its pixels; "" where it has none.
        pixels_vr: their value representation.
        start: where their value begins.
        inflated: the bytes that it took beyond its own.
    """

    stream: Any
    header: Dataset
    syntax: UID
    object_class: str
    pixels: str = ""
    pixels_vr: str = ""
    start: int = 0
    inflated: int = 0


def _parse(data: bytes, max_pixels: int) -> _File:
    stream: Any = open_bounded(data)
    stream.seek(132 if data.startswith(b"DICM", 128) else 0)
    meta = read_dataset(
        stream,
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, *_: tag >> 16 != 2,
    )
    syntax = UID(meta.get("TransferSyntaxUID", ""))
    inflated = 0
    if syntax == uid.DeflatedExplicitVRLittleEndian:
        deflated = memoryview(data)[stream.tell() :]
        # To count takes no memory; a bomb is noticed before it is inflated whole.
        for size in measure_inflated(deflated, -zlib.MAX_WBITS):
            inflated = weigh_unpacked(size, max_pixels)
        stream = open_bounded(zlib.decompress(deflated, -zlib.MAX_WBITS))
    elif not syntax:
        syntax = _guess_syntax(data[stream.tell() :][:6])
    implicit = syntax == uid.ImplicitVRLittleEndian
    found: dict[str, Any] = {}

    def stop_at_pixels(tag: int, vr: str | None, _: int) -> bool:
        if tag in _PIXELS:
            found.update(pixels=_PIXELS[tag], pixels_vr=vr or "OW", start=stream.tell())
        return tag in _PIXELS

    little = syntax != uid.ExplicitVRBigEndian
    header = read_dataset(stream, implicit, little, stop_when=stop_at_pixels, specific_tags=_WANTED)
    for keyword in _SEQUENCES:
        nested: Any = header.get_item(keyword)
        if isinstance(nested, RawDataElement) and len(nested.value or b"") > _MOST_NESTED:
            raise ExcessError("its header is too long")
    named = meta.get("MediaStorageSOPClassUID") or header.get("SOPClassUID") or ""
    header.set_original_encoding(implicit, little)
    return _File(stream, header, syntax, str(named), **found, inflated=inflated)


def _guess_syntax(start: bytes) -> UID:
    """Guess the transfer syntax by the first bytes of a header that does not name it."""
    if not start[4:6].isalpha():
        return uid.ImplicitVRLittleEndian
    big = start[:1] == b"\0"
    return uid.ExplicitVRBigEndian if big else uid.ExplicitVRLittleEndian


def _check_object(file: _File) -> None:
    """Refuse what is not an MR image of a head by what its header says."""
    if file.object_class == _DIRECTORY:
        raise ScanError("dicomdir")
    modality = str(file.header.get("Modality") or "MR")
    if not file.pixels:
        raise ScanError("no-pixels", object=_name_object(file.object_class, modality))
    if modality != "MR" or (_is_known(file.object_class) and not _is_accepted(file.object_class)):
        raise ScanError("not-mr", object=_name_object(file.object_class, modality))
    for part in _list_parts(file.header):
        other = _OTHER_PARTS.search(part.upper())
        if other and not _HEAD_PARTS.search(part.upper()):
            raise ScanError("not-a-head", part=other[1].lower())
    if file.syntax not in _NATIVE | encapsulated.ACCEPTED:
        name = file.syntax.name if _is_known(file.syntax) else "an unknown transfer syntax"
        raise ScanError("transfer-syntax", syntax=name)


def _is_known(name: str) -> bool:
    """Tell whether a UID is one of DICOM's dictionary; any other may identify a patient."""
    return UID(name).name != name


def _is_accepted(object_class: str) -> bool:
    return any(f"{object_class}.".startswith(f"{one}.") for one in _ACCEPTED)


def _name_object(object_class: str, modality: str) -> str:
    """Name an object in DICOM's words."""
    if _is_known(object_class) and (modality == "MR" or not _is_accepted(object_class)):
        return UID(object_class).name.removesuffix(" Storage")
    return f"modality {modality}" if _MODALITIES.fullmatch(modality) else "another modality"


def _list_parts(header: Dataset) -> Iterator[str]:
    """List what a header says of the part of the body."""
    yield str(header.get("BodyPartExamined") or "")
    groups = [*(header.get(_SHARED) or ()), *(header.get(_EACH) or ())[:1]]
    anatomies = [one for group in groups for one in group.get("FrameAnatomySequence") or ()]
    for place_of in (header, *anatomies):
        for region in place_of.get("AnatomicRegionSequence") or ():
            yield str(region.get("CodeMeaning") or "")


@dataclass(frozen=True, eq=False)
class _Image:
    """The pixels of a file, and how they are stored.

    Attributes:
        file: it.
        options: of pydicom's decoders.
        shared: what all frames have in common.
        each: what they have not; none of an image of one frame.
    """

    file: _File
    options: dict[str, Any]
    shared: Dataset
    each: Sequence[Dataset]

    @property
    def rows(self) -> int:
        return int(self.options["rows"])

    @property
    def columns(self) -> int:
        return int(self.options["columns"])

    @property
    def frames(self) -> int:
        return int(self.options["number_of_frames"])

    @property
    def bytes_of_pixel(self) -> int:
        return int(self.options["samples_per_pixel"]) * -(-int(self.options["bits_allocated"]) // 8)

    def describe(self, frame: int) -> Dataset:
        """Give what the header says of a frame."""
        return _flatten(self.shared, self.each[frame]) if frame < len(self.each) else self.shared

    def find_middle(self) -> int:
        """Find the frame in the middle: by their positions where those are known."""
        with suppress(*_DAMAGE):
            positions = [_find_position(_flatten(self.shared, one)) for one in self.each]
            if len(positions) == self.frames:
                along = sorted(set(positions))
                return positions.index(along[len(along) // 2])
        return self.frames // 2


def _describe(file: _File) -> _Image:
    options = as_pixel_options(file.header, pixel_keyword=file.pixels, pixel_vr=file.pixels_vr)
    shared = (file.header.get(_SHARED) or [Dataset()])[0]
    each = file.header.get(_EACH) or ()
    image = _Image(file, options, _flatten(file.header, shared), each)
    if image.frames < 1 or image.bytes_of_pixel < 1:
        raise ValueError
    return image


def _flatten(header: Dataset, groups: Dataset) -> Dataset:
    """Lay the functional groups of a frame over a header, as if it were of one frame."""
    flat = Dataset()
    flat.update(header)
    flat.set_original_encoding(*header.original_encoding)
    for element in groups:
        if element.VR == "SQ" and element.value:
            flat.update(element.value[0])
    return flat


def _find_position(header: Dataset) -> float:
    """Say where a frame lies along the normal of its plane, in mm."""
    directions = np.asarray(header.ImageOrientationPatient, np.float64)
    normal = np.cross(directions[:3], directions[3:])
    return round(float(normal @ np.asarray(header.ImagePositionPatient, np.float64)), 2)


def _find_placement(header: Dataset) -> Placement | None:
    with suppress(*_DAMAGE):
        directions = [float(number) for number in header.ImageOrientationPatient]
        down, across = (float(number) for number in header.get("PixelSpacing") or (1, 1))
        return place(directions[:3], directions[3:], (across, down))
    return None


def _read_frame(image: _Image, frame: int) -> Picture:
    header = image.describe(frame)
    with _as_problems("its pixels are not what its header says"):
        stored = encapsulated.decode(
            image.file.stream, image.file.start, image.file.syntax, image.options, frame
        )
        picture = _interpret(stored, header)
    placement = _find_placement(header)
    grey = picture.grey if placement is None else placement.show(picture.grey)
    return Picture(grey, picture.coloured, picture.notes)


def _interpret(stored: NDArray[Any], header: Dataset) -> Picture:
    """Make a picture of the pixels of a frame, shape (rows, columns) or (rows, columns, 3)."""
    photometric = str(header.PhotometricInterpretation)
    bits = int(header.get("BitsStored") or header.BitsAllocated)
    if photometric == "PALETTE COLOR":
        stored = apply_color_lut(stored, header)
        bits = 8 * stored.itemsize
    if stored.ndim == 3:
        colours = (stored >> max(0, bits - 8)).astype(np.uint8)
        return interpret(
            gather(stored.shape[:2], lambda rows: (take_luminance(colours[rows]), colours[rows]))
        )
    stored = _fill_padding(stored, header)
    slope, intercept = _read_rescale(header)
    if header.get("ModalityLUTSequence"):
        stored = _look_up(stored, header.ModalityLUTSequence[0])
        slope, intercept = 1, 0
    stated = _read_window(header)
    if header.get("VOILUTSequence"):
        stored = _look_up(_rescale(stored, slope, intercept), header.VOILUTSequence[0])
        slope, intercept = 1, 0
        stated = Window(0, 2 ** int(header.VOILUTSequence[0].LUTDescriptor[2]) - 1, 0)
    negative = photometric == "MONOCHROME1"
    if stored.dtype == np.uint8 and stated is None and slope > 0:
        most = 2 ** min(bits, 8) - 1
        grey = np.asarray(most - np.minimum(stored, most) if negative else stored, np.uint8)
        return interpret(Planes(grey))
    sign = -1 if negative else 1

    def read(rows: slice) -> tuple[NDArray[Any], None]:
        return _rescale(stored[rows], sign * slope, sign * intercept), None

    if stated is not None and negative:
        stated = Window(-stated.high, -stated.low, 0)
    return interpret(gather_deep(stored.shape, read, partial(_choose_window, stated)))


def _fill_padding(stored: NDArray[Any], header: Dataset) -> NDArray[Any]:
    """Give what pads a picture the darkest value of the rest."""
    padding = _read_number(header, "PixelPaddingValue")
    if padding is None:
        return stored
    limit = _read_number(header, "PixelPaddingRangeLimit")
    least, most = sorted((padding, padding if limit is None else limit))
    pads = (stored >= least) & (stored <= most)
    if not pads.any() or pads.all():
        return stored
    negative = header.PhotometricInterpretation == "MONOCHROME1"
    darkest = stored[~pads].max() if negative else stored[~pads].min()
    return np.where(pads, darkest, stored)


def _look_up(values: NDArray[Any], table: Dataset) -> NDArray[np.uint16]:
    """Replace values by those of a table.

    pydicom's functions for that mistake the values of a table of 8 bits for those of its index.
    """
    count, first, _ = (int(number) for number in table.LUTDescriptor)
    entries = table.LUTData
    if isinstance(entries, bytes):
        entries = np.frombuffer(entries, "<u2" if table.original_encoding[1] else ">u2")
    entries = np.asarray(entries, np.uint16)[: count or 2**16]
    places = np.rint(values).astype(np.int64) - first
    return np.asarray(entries[np.clip(places, 0, entries.size - 1)])


def _rescale(stored: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    return stored if (slope, intercept) == (1, 0) else stored * np.float32(slope) + intercept


def _read_rescale(header: Dataset) -> tuple[float, float]:
    slope, intercept = (_read_number(header, f"Rescale{name}") for name in ("Slope", "Intercept"))
    return (slope, intercept or 0) if slope else (1, 0)


def _read_window(header: Dataset) -> Window | None:
    """Read the first window of a header; None where it has none.

    That of the function SIGMOID is taken as linear: it is as steep in its middle.
    """
    center, width = (_read_number(header, f"Window{name}") for name in ("Center", "Width"))
    if center is None or width is None:
        return None
    if str(header.get("VOILUTFunction") or "LINEAR") == "LINEAR":
        center, width = center - 0.5, width - 1
    return Window(center - width / 2, center + width / 2, 0) if width > 0 else None


def _read_number(header: Dataset, keyword: str) -> float | None:
    """Read the first value of an element; None where there is none that is finite."""
    with suppress(*_DAMAGE):
        value = header.get(keyword)
        first = value if isinstance(value, int | float) else value[0]  # several are a list
        return float(first) if math.isfinite(first) else None
    return None


def _choose_window(stated: Window | None, values: NDArray[Any]) -> Window:
    """Choose the header's window, unless it would leave the head black, dark, grey or white."""
    best = choose_window(values)
    spread = best.high - best.low
    if stated is None or spread <= 0:
        return best
    low, high = ((end - best.low) / spread for end in stated[:2])
    if not (_LEAST_LOW <= low <= _MOST_LOW and _LEAST_HIGH <= high <= _MOST_HIGH):
        return best
    within = values[(values >= stated.low) & (values <= stated.high)]
    return stated._replace(levels=np.unique(within).size)
