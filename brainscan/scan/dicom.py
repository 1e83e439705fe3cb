"""DICOM → pictures: what a header says of its pixels, and where they lie in the patient.

No value of a header gets into an error, a note or a log, other than names of DICOM's own
dictionary: any other may identify a patient.
"""

import logging
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydicom import config, uid
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.filereader import read_dataset
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import UID

from brainscan.messages import Message, ScanError
from brainscan.scan import encapsulated
from brainscan.scan.bounds import DAMAGE, ExcessError, measure_inflated, open_bounded, refuse
from brainscan.scan.dicom_values import interpret_frame
from brainscan.scan.facts import KEYWORDS, describe_slices, read_facts, read_number, read_terms
from brainscan.scan.memory import DECODING, weigh_stored, weigh_unpacked
from brainscan.scan.picture import Picture
from brainscan.scan.volume import AS_STORED, Place, Turn, Volume, choose_turn, find_position, show

DIRECTORY = "1.2.840.10008.1.3.10"
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

_MOSAIC = "MOSAIC"  # of Siemens: all slices of a volume in one picture
# From the third on, what values of an image type say of one that models have not learned from.
_UNUSUAL = re.compile(
    "LOCALIZER|P|PHASE([ _]MAP)?|REAL|IMAGINARY|VELOCITY([ _]MAP)?|FLOW_ENCODED|DIFFUSION(_ANISO)?"
    "|E?ADC|FA|TENSOR|TRACEW|PERFUSION|ASL|FMRI|RELCB[FV]|RELMTT|TTP|METABOLITE_MAP|TEMPERATURE"
    "|T[12](_STAR)?[ _]MAP|SUB|SUBTRACTION|PROJECTION IMAGE|M(AX|IN)_IP|SCREEN SAVE"
)

_PIXELS = {
    0x7FE00010: "PixelData",
    0x7FE00009: "DoubleFloatPixelData",
    0x7FE00008: "FloatPixelData",
}
_UNDEFINED = 0xFFFFFFFF
_MOST_NESTED = 2_000_000  # bytes of an element; of a sequence, a hundred times as many are taken
# Sequences whose first item describes the frames of a multi-frame image.
_SHARED, _EACH = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_SEQUENCES = (_SHARED, _EACH, "ModalityLUTSequence", "VOILUTSequence", "AnatomicRegionSequence")
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
_BAD_HEADER = "its header is not valid"
# Bytes of memory that each inflated byte takes at most: itself, and those of eight pixels of a bit.
_OF_DEFLATED = 41
DICOM_DAMAGE = (*DAMAGE, AttributeError, BytesLengthException, RuntimeError)  # of recursion, too

# What pydicom finds odd would be logged with the values of the header, which nobody may see.
config.settings.reading_validation_mode = config.IGNORE
config.convert_wrong_length_to_UN = True  # else it raises something that is not a ValueError
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
    with refuse(DICOM_DAMAGE, _BAD_HEADER):
        meta, start = _read_meta(data)
        syntax = UID(meta.get("TransferSyntaxUID", ""))
        inflated = 0
        if syntax == uid.DeflatedExplicitVRLittleEndian:
            inflated = _weigh_deflated(memoryview(data)[start:], max_pixels)
    with DECODING.hold(_OF_DEFLATED * inflated):
        with refuse(DICOM_DAMAGE, _BAD_HEADER):
            file = _parse(data, meta, start, syntax)
            _check_object(file)
            image = _describe(file)
            size = weigh_stored(image.columns, image.rows, image.bytes_of_pixel, max_pixels)
            volume = _make_volume(image)
        with DECODING.hold(0 if inflated else size):  # never two: each would wait for the other's
            yield volume


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
    """

    stream: Any
    header: Dataset
    syntax: UID
    object_class: str
    pixels: str = ""
    pixels_vr: str = ""
    start: int = 0


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


def _parse(data: bytes, meta: Dataset, start: int, syntax: UID) -> _File:
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
    return _File(stream, header, syntax, str(named), **found)


def _guess_syntax(start: bytes) -> UID:
    """Guess the transfer syntax by the first bytes of a header that does not name it."""
    if not start[4:6].isalpha():
        return uid.ImplicitVRLittleEndian
    big = start[:1] == b"\0"
    return uid.ExplicitVRBigEndian if big else uid.ExplicitVRLittleEndian


def _check_object(file: _File) -> None:
    """Refuse what is not an MR image of a head by what its header says."""
    if file.object_class == DIRECTORY:
        raise ScanError("dicomdir")
    modality = str(file.header.get("Modality") or "MR")
    if not file.pixels:
        raise ScanError("no-pixels", object=_name_object(file.object_class, modality))
    if modality != "MR" or (_is_known(file.object_class) and not _is_accepted(file.object_class)):
        raise ScanError("not-mr", object=_name_object(file.object_class, modality))
    if _MOSAIC in read_terms(file.header, "ImageType"):
        raise ScanError("mosaic")
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
        with suppress(*DICOM_DAMAGE):
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


@dataclass(frozen=True)
class _Placement:
    """Where a frame lies in the patient.

    Attributes:
        across: the direction of its rows' pixels, as `choose_turn` takes it.
        down: the same of its columns'.
        spacing: mm from column to column, and from row to row; None where that is unknown.
        turn: for its picture.
    """

    across: Sequence[float] = ()
    down: Sequence[float] = ()
    spacing: tuple[float, float] | None = None
    turn: Turn = AS_STORED


def _make_volume(image: _Image) -> Volume:
    middle = image.find_middle()
    header = image.describe(middle)
    placement = _read_placement(header)
    facts = read_facts(header) | describe_slices(
        (image.columns, image.rows),
        image.frames,
        placement.across,
        placement.down,
        placement.spacing or (),
        read_number(header, "SpacingBetweenSlices"),
    )
    types = [*read_terms(header, "ImageType")[2:], *read_terms(header, "FrameType")[2:]]
    unusual = [one for one in types if _UNUSUAL.fullmatch(one)]
    notes = tuple(Message("unusual-image", {"type": one}) for one in unusual[:1])
    read, place = partial(_read_frame, image), partial(_find_place, image)
    return Volume(image.frames, middle, read, place, notes, facts)


def _read_placement(header: Dataset) -> _Placement:
    with suppress(*DICOM_DAMAGE):
        directions = [float(number) for number in header.ImageOrientationPatient]
        across, down = directions[:3], directions[3:]
        if turn := choose_turn(across, down):
            return _Placement(across, down, _read_spacing(header), turn)
    return _Placement(spacing=_read_spacing(header))


def _find_position(header: Dataset) -> float:
    """Say where a frame lies along the normal of its plane, in mm."""
    directions = header.ImageOrientationPatient
    return find_position(directions[:3], directions[3:], header.ImagePositionPatient)


def _find_place(image: _Image, frame: int) -> Place:
    header = image.describe(frame)
    placement = _read_placement(header)
    position = area = None
    with suppress(*DICOM_DAMAGE):
        position = _find_position(header)
    if placement.spacing is not None:
        area = image.columns * placement.spacing[0] * image.rows * placement.spacing[1]
    series = str(header.get("SeriesInstanceUID") or "")
    if series:  # a scout in three planes is three series, as are pictures of two sizes
        # Plus 0.0, since -0.0 is written differently.
        plane = [round(number, 1) + 0.0 for number in (*placement.across, *placement.down)]
        series = f"{series} {plane} {image.columns} {image.rows}"
    number = int(read_number(header, "InstanceNumber") or 0)
    instance = str(header.get("SOPInstanceUID") or "")
    return Place(frame, position, number, area, placement.turn, series, instance)


def _read_spacing(header: Dataset) -> tuple[float, float] | None:
    """Read mm from column to column, and from row to row; None where the header has none."""
    with suppress(*DICOM_DAMAGE):
        down, across = (float(number) for number in header.PixelSpacing)
        return across, down
    return None


def _read_frame(image: _Image, frame: int) -> Picture:
    header = image.describe(frame)
    with refuse(DICOM_DAMAGE, "its pixels are not what its header says"):
        stored = encapsulated.decode(
            image.file.stream, image.file.start, image.file.syntax, image.options, frame
        )
        placement = _read_placement(header)
        return show(
            interpret_frame(stored, header), placement.turn, placement.spacing or (1.0, 1.0)
        )
