"""NIfTI → pictures: the slices of its first volume, turned by its affine."""

import gzip
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.orientations import apply_orientation, io_orientation
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from brainscan.messages import Message, ScanError
from brainscan.scan.bounds import DAMAGE, refuse
from brainscan.scan.facts import describe_slices
from brainscan.scan.memory import DECODING, weigh_stored, weigh_unpacked
from brainscan.scan.picture import Picture
from brainscan.scan.planes import gather_deep, gather_stored, interpret
from brainscan.scan.volume import AS_STORED, Place, Volume, choose_turn, find_position, show
from brainscan.scan.window import choose_window

_HEADER = 544  # bytes that hold a header of either version, and what says whether more follows
_VERSION_2 = 540  # the size of its header, which comes first
_AXIAL = 2  # of the axes of NIfTI's space: right, front, head
_TO_DICOM = np.array((-1, -1, 1))  # towards left, back, head
_OF_SPACE, _MM = 0b111, {1: 1000.0, 3: 0.001}  # the bits of a unit; metres and microns
_FEW = 2  # times as many voxels: fewer along an axis are slices that are far apart
_TISSUE = 45 / 255  # of the window, as the crop's threshold
_MUCH = 0.5  # of the tissue of the slice with the most of it
_SAMPLE = 4  # each so many rows and columns of a volume are enough to find the head

_MOST_SKEWED = 1e6  # the condition of an affine
_PIECE = 2**20  # bytes that are unpacked at once
_SEARCHED = 1  # bytes of memory for each voxel, in which the head is searched: see `_SAMPLE`

_DAMAGE = (*DAMAGE, HeaderDataError, ImageFileError, WrapStructError)

logging.getLogger("nibabel.global").setLevel(logging.CRITICAL + 1)


class _Stored(NamedTuple):
    """How a file stores a volume.

    Attributes:
        shape: how many voxels there are along each of its three axes.
        volumes: how many volumes follow each other.
        number: the type of its voxels.
        start: the byte where they begin.
        sign: 1, or -1 where they are multiplied by a negative number.
        affine: shape (4, 4), from voxels to mm.
        is_oriented: whether the file says how the head lies, or the affine is a guess.
    """

    shape: tuple[int, int, int]
    volumes: int
    number: np.dtype[Any]
    start: int
    sign: int
    affine: NDArray[np.float64]
    is_oriented: bool

    @property
    def bytes_of_volume(self) -> int:
        return math.prod(self.shape) * self.number.itemsize


@contextmanager
def open_nifti(data: bytes, max_pixels: int) -> Iterator[Volume]:
    """Open a NIfTI file, compressed by gzip or not.

    Its slices are axial, unless it has far fewer voxels along another axis: it was scanned in
    slices along that one, and others would be blurred.

    Args:
        data: the whole file.
        max_pixels: the largest width × height accepted.

    Raises:
        ScanError: half of a pair of files, damaged, too small, too large, or of numbers that are
            not read.
    """
    with refuse(_DAMAGE, "its voxels are not what its header says"):
        stored = _read_header(_read(data, _HEADER))
        axis = _choose_axis(stored)
        width, height = np.delete(stored.shape, axis).tolist()
        size = weigh_stored(width, height, stored.number.itemsize, max_pixels)
        size += _SEARCHED * math.prod(stored.shape)
        if _is_packed(data):
            size += weigh_unpacked(stored.start + stored.bytes_of_volume, max_pixels)
        with DECODING.hold(size):
            yield _make_volume(_read_volume(data, stored), stored, axis)


def _is_packed(data: bytes) -> bool:
    return data.startswith(b"\x1f\x8b")


def _read(data: bytes, size: int) -> bytes:
    """Read the first bytes of a file, unpacked."""
    if not _is_packed(data):
        return data[:size]
    with gzip.GzipFile(fileobj=BytesIO(data)) as file:
        return file.read(size)


def _read_header(start: bytes) -> _Stored:
    is_second = _VERSION_2 in (int.from_bytes(start[:4], order) for order in ("little", "big"))
    kind = Nifti2Header if is_second else Nifti1Header
    header = kind(start[: kind.sizeof_hdr], check=False)
    magic = start[4:8] if is_second else start[344:348]
    if not magic.startswith(b"n+"):
        raise ScanError("file-pair")
    sides = [int(side) for side in header.get_data_shape()]
    across, down, along, *volumes = sides + [1] * (3 - len(sides))
    if min(sides) < 1:
        raise ValueError
    number = header.get_data_dtype()
    if (number.kind not in "iuf" and number.names is None) or number.itemsize > 8:
        raise ScanError("voxels-not-read", number=header.get_value_label("datatype"))
    slope, _ = header.get_slope_inter()
    sign = -1 if slope is not None and slope < 0 else 1
    start_of_voxels = max(int(header["vox_offset"]), kind.sizeof_hdr)
    affine, is_oriented = _read_affine(header)
    affine[:3] *= _MM.get(int(header["xyzt_units"]) & _OF_SPACE, 1.0)
    shape = (across, down, along)
    return _Stored(shape, math.prod(volumes), number, start_of_voxels, sign, affine, is_oriented)


def _read_affine(header: Nifti1Header) -> tuple[NDArray[np.float64], bool]:
    """Read the affine, and whether the file states it: sform, qform, or what is stored as it is."""
    for read in (header.get_sform, header.get_qform):
        with suppress(*_DAMAGE):
            affine, code = read(coded=True)
            # Of what is not finite, LAPACK would write to standard error.
            is_known = code and np.isfinite(affine).all()
            if is_known and np.linalg.cond(affine[:3, :3]) < _MOST_SKEWED:
                return np.asarray(affine, np.float64), True
    sides = [side if 0 < side < math.inf else 1 for side in header["pixdim"][1:4].tolist()]
    return np.diag([-sides[0], *sides[1:], 1]), False  # as nibabel guesses


def _choose_axis(stored: _Stored) -> int:
    """Choose the axis that the slices are perpendicular to."""
    fewest = int(np.argmin(stored.shape))
    if sorted(stored.shape)[1] > _FEW * stored.shape[fewest]:
        return fewest
    axes: list[float] = io_orientation(stored.affine)[:, 0].tolist()
    return axes.index(_AXIAL)


def _read_volume(data: bytes, stored: _Stored) -> NDArray[Any]:
    """Read the voxels of the first volume, shape as it is stored."""
    if not _is_packed(data):
        count = math.prod(stored.shape)
        voxels = np.frombuffer(data, stored.number, count, stored.start)
    else:
        whole = memoryview(bytearray(stored.bytes_of_volume))
        with gzip.GzipFile(fileobj=BytesIO(data)) as file:
            file.seek(stored.start)
            for start in range(0, len(whole), _PIECE):  # all at once would be held twice
                piece = whole[start : start + _PIECE]
                if file.readinto(piece) < len(piece):
                    raise EOFError
            file.read(1)  # at the end of the file, the checksum is compared
        voxels = np.frombuffer(whole, stored.number)
    return voxels.reshape(stored.shape, order="F")


def _make_volume(voxels: NDArray[Any], stored: _Stored, axis: int) -> Volume:
    """Make a volume of voxels, whose slices are perpendicular to an axis."""
    slices = np.moveaxis(voxels, axis, -1)
    towards = stored.affine[:3] * _TO_DICOM[:, np.newaxis]
    directions = towards[:, :3]
    spacing = np.linalg.norm(directions, axis=0)
    first, second = np.delete(directions / spacing, axis, axis=1).T
    across, down = np.delete(spacing, axis).tolist()
    turn = choose_turn(first, second)
    area = slices.shape[0] * across * slices.shape[1] * down

    def read(index: int) -> Picture:
        picture = _interpret(slices[..., index].T, stored.sign)
        return show(picture, turn or AS_STORED, (across, down))

    def place(index: int) -> Place:
        if turn is None:
            return Place(index)
        corner = towards[:, axis] * index + towards[:, 3]
        return Place(index, find_position(first, second, corner), area=area, turn=turn)

    notes: tuple[Message, ...] = ()
    if stored.volumes > 1:
        notes = (Message("one-volume", {"volumes": stored.volumes}),)
    if not stored.is_oriented:
        notes += (Message("no-orientation"),)
    width, height, count = slices.shape
    known = first if stored.is_oriented else ()
    facts = describe_slices((width, height), count, known, second, (across, down), spacing[axis])
    facts["volumes"] = stored.volumes
    # The same head is to be searched in the same way, however it is stored.
    orientation = io_orientation(stored.affine)
    upright = np.moveaxis(apply_orientation(voxels, orientation), int(orientation[axis, 0]), -1)
    middle = _find_middle(upright, stored.sign)
    if orientation[axis, 1] < 0:
        middle = slices.shape[-1] - 1 - middle
    return Volume(slices.shape[-1], middle, read, place, notes, facts)


def _interpret(voxels: NDArray[Any], sign: int) -> Picture:
    """Make a picture of a slice, shape (rows, columns)."""
    if voxels.dtype.names:
        return interpret(gather_stored(np.stack([voxels[name] for name in "RGB"], axis=-1)))
    if voxels.dtype == np.uint8 and sign > 0:
        return interpret(gather_stored(voxels))
    shape = voxels.shape[0], voxels.shape[1]
    return interpret(gather_deep(shape, lambda rows: (voxels[rows] * np.float32(sign), None)))


def _find_middle(slices: NDArray[Any], sign: int) -> int:
    """Find the slice in the middle of those that show much of the head."""
    sample = slices[::_SAMPLE, ::_SAMPLE]
    if sample.dtype.names:
        sample = sample["G"]
    values = sample * np.float32(sign)
    window = choose_window(values.reshape(-1, values.shape[-1]))
    threshold = window.low + _TISSUE * (window.high - window.low)
    tissue = np.count_nonzero(values > threshold, axis=(0, 1))
    return int(np.median(np.flatnonzero(tissue >= _MUCH * tissue.max())))
