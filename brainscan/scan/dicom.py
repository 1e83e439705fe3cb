"""DICOM → pictures: the frames of a file, and where they lie in the patient."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.pixels.utils import as_pixel_options

from brainscan.scan.bounds import refuse
from brainscan.scan.dicom_header import (
    BAD_HEADER,
    DICOM_DAMAGE,
    EACH,
    SHARED,
    DicomFile,
    open_header,
)
from brainscan.scan.dicom_object import check_object, find_unusual
from brainscan.scan.dicom_values import interpret_frame
from brainscan.scan.encapsulated import decode
from brainscan.scan.facts import describe_slices, read_facts, read_number
from brainscan.scan.memory import DECODING, weigh_stored
from brainscan.scan.picture import Picture
from brainscan.scan.volume import AS_STORED, Place, Turn, Volume, choose_turn, find_position, show


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
    with open_header(data, max_pixels) as file:
        with refuse(DICOM_DAMAGE, BAD_HEADER):
            check_object(file)
            image = _describe(file)
            size = weigh_stored(image.columns, image.rows, image.bytes_of_pixel, max_pixels)
            volume = _make_volume(image)
        # Never two: each would wait for the other's.
        held = file.syntax == uid.DeflatedExplicitVRLittleEndian
        with DECODING.hold(0 if held else size):
            yield volume


@dataclass(frozen=True, eq=False)
class _Image:
    """The pixels of a file, and how they are stored.

    Attributes:
        file: it.
        options: of pydicom's decoders.
        shared: what all frames have in common.
        each: what they have not; none of an image of one frame.
    """

    file: DicomFile
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


def _describe(file: DicomFile) -> _Image:
    options = as_pixel_options(file.header, pixel_keyword=file.pixels, pixel_vr=file.pixels_vr)
    shared = (file.header.get(SHARED) or [Dataset()])[0]
    each = file.header.get(EACH) or ()
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
    read, place = partial(_read_frame, image), partial(_find_place, image)
    return Volume(image.frames, middle, read, place, find_unusual(header), facts)


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
        stored = decode(
            image.file.stream, image.file.start, image.file.syntax, image.options, frame
        )
        placement = _read_placement(header)
        return show(
            interpret_frame(stored, header), placement.turn, placement.spacing or (1.0, 1.0)
        )
