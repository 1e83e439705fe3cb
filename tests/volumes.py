"""DICOM and NIfTI files that are made up, in every way that pixels are stored; ZIPs of them."""

import gzip
import io
import zipfile
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

from brainscan import ImageFile

# What neither pydicom nor its plug-ins can write: JPEGs of `draw_small`, by DCMTK.
STREAMS = Path(__file__).with_name("streams")
_STORED = {
    uid.JPEGLosslessSV1: "lossless-1.jpg",
    uid.JPEGLossless: "lossless-6.jpg",
    uid.JPEGExtended12Bit: "extended-12.jpg",
}
_PLUGINS = {
    uid.RLELossless: "pydicom",
    uid.JPEG2000Lossless: "pylibjpeg",
    uid.JPEGLSLossless: "pyjpegls",
}
NATIVE = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
)
WRITTEN = tuple(_PLUGINS)
SYNTAXES = (*NATIVE, *_PLUGINS, uid.JPEGBaseline8Bit, *_STORED)


def draw_small() -> NDArray[np.uint16]:
    """Draw a head of 12 bits, shape (32, 32), with a spot that is right of and above its middle."""
    y, x = np.mgrid[:32, :32]
    head = np.where(((x - 15.5) / 13) ** 2 + ((y - 15.5) / 15) ** 2 < 1, 1200, 20)
    spot = np.where((x - 20) ** 2 + (y - 10) ** 2 < 16, 2400, 0)
    return np.asarray(head + spot + (x * 7 + y * 3) % 16, np.uint16)


def write_dicom(
    pixels: NDArray[Any] | None = None,
    syntax: str = uid.ExplicitVRLittleEndian,
    *,
    preamble: bool = True,
    **elements: Any,
) -> bytes:
    """Write a DICOM file.

    Args:
        pixels: shape (rows, columns), (frames, rows, columns), or with 3 colours; `draw_small`
            where none are given. JPEG stores 8 bits, and those that are written by DCMTK only it.
        syntax: its transfer syntax.
        preamble: whether it has one, and a group that names the syntax.
        elements: by their keywords, instead of those of an MR slice of a head; None takes one out.
    """
    pixels = draw_small() if pixels is None else pixels
    stored_as = uid.UID(syntax)
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = stored_as
    file.SOPClassUID = uid.MRImageStorage
    file.SOPInstanceUID = "1.2.3"
    file.Modality, file.PatientName, file.PatientID = "MR", "Doe^Jane", "MRN-4711"
    frames, colours = (pixels.shape[0], 1) if pixels.ndim == 3 else (1, 1)
    if pixels.shape[-1] == 3:
        frames, colours, file.PlanarConfiguration = 1, 3, 0
    file.Rows, file.Columns = pixels.shape[-2:] if colours == 1 else pixels.shape[:2]
    if frames > 1:
        file.NumberOfFrames = frames
    file.SamplesPerPixel = colours
    file.PhotometricInterpretation = "MONOCHROME2" if colours == 1 else "RGB"
    file.BitsAllocated = 8 * pixels.itemsize
    file.BitsStored = elements.pop("BitsStored", file.BitsAllocated)
    file.HighBit = file.BitsStored - 1
    file.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in elements.items():
        if value is None:
            delattr(file, name)
        else:
            setattr(file, name, value)
    _store(file, pixels, stored_as)
    file.file_meta.MediaStorageSOPClassUID = uid.UID(file["SOPClassUID"].value)
    file.file_meta.MediaStorageSOPInstanceUID = uid.UID(file.get("SOPInstanceUID", "1.2.3"))
    written = io.BytesIO()
    if preamble:
        file.save_as(written, enforce_file_format=True)
    else:
        del file.file_meta
        implicit, little = stored_as.is_implicit_VR, stored_as.is_little_endian
        file.save_as(written, implicit_vr=implicit, little_endian=little)
    return written.getvalue()


def _store(file: Dataset, pixels: NDArray[Any], syntax: uid.UID) -> None:
    kind = pixels.dtype.newbyteorder("<" if syntax.is_little_endian else ">")
    stored = pixels.astype(kind).tobytes()
    if syntax in _PLUGINS:
        file.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        file.PixelData = stored
        file.compress(syntax, encoding_plugin=_PLUGINS[syntax], generate_instance_uid=False)
    elif syntax == uid.JPEGBaseline8Bit:
        jpeg = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(jpeg, "JPEG", quality=95)
        file.PixelData = encapsulate([jpeg.getvalue()])
    elif syntax in _STORED:
        file.PixelData = encapsulate([(STREAMS / _STORED[syntax]).read_bytes()])
    else:
        file.PixelData = stored
        file["PixelData"].VR = "OW"


def write_series(
    voxels: NDArray[np.uint16],
    uid_of_series: str,
    *,
    directions: tuple[int, ...] = (1, 0, 0, 0, 1, 0),
    spacing: tuple[float, float, float] = (1.0, 1.0, 5.0),
    **elements: Any,
) -> list[bytes]:
    """Write the DICOM files of a series, one for each slice.

    Args:
        voxels: shape (slices, rows, columns), of 12 bits.
        uid_of_series: its UID; that of its study is all before the last dot.
        directions: of the rows' pixels and of the columns', along the axes of the patient.
        spacing: mm from column to column, row to row, and slice to slice.
        elements: of all files, by their keywords; None takes one out.
    """
    study = uid_of_series.rpartition(".")[0]
    step = np.cross(directions[:3], directions[3:]) * spacing[2]
    common = {
        "StudyInstanceUID": study,
        "SeriesInstanceUID": uid_of_series,
        "FrameOfReferenceUID": f"{study}.0",
        "SeriesNumber": 3,
        "ImageOrientationPatient": [*directions],
        "PixelSpacing": [spacing[1], spacing[0]],
        "SliceThickness": spacing[2],
        "BitsStored": 12,
        **elements,
    }
    given: dict[str, Any] = {name: value for name, value in common.items() if value}
    return [
        write_dicom(
            np.ascontiguousarray(pixels),
            SOPInstanceUID=f"{uid_of_series}.{number + 1}",
            ImagePositionPatient=[*(number * step)],
            **given,
        )
        for number, pixels in enumerate(voxels)
    ]


def write_series_of(nifti: Path, uid_of_series: str) -> list[bytes]:
    """Write the axial slices of a NIfTI file as `write_series` does."""
    image: Any = nibabel.load(nifti)
    voxels = np.asarray(image.dataobj, np.float32).transpose(2, 1, 0).clip(0)
    right, front, _, _ = -np.sign(np.diag(image.affine)).astype(int)  # RAS → LPS
    width, height, thickness = map(float, image.header.get_zooms()[:3])
    return write_series(
        (voxels * (4000 / voxels.max())).astype(np.uint16),
        uid_of_series,
        directions=(int(right), 0, 0, 0, int(front), 0),
        spacing=(width, height, thickness),
    )


def write_nifti(
    voxels: NDArray[Any], affine: NDArray[Any] | None = None, *, packed: bool = True
) -> bytes:
    """Write a NIfTI file, of voxels of shape (across, down, along) or more; RAS by default."""
    written: bytes = nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine).to_bytes()
    return gzip.compress(written) if packed else written


def write_slices(
    positions: Sequence[float],
    uid: str = "1.2.3.4",
    *,
    pixels: Sequence[NDArray[Any]] = (),
    **elements: Any,
) -> list[bytes]:
    """Write the DICOM files of a series of axial slices, which lie at these mm.

    Args:
        positions: of the slices.
        uid: of the series.
        pixels: of each slice; `draw_small` where none are given.
        elements: as `write_dicom` takes them.
    """
    placed = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [2, 1], **elements}
    return [
        write_dicom(shown, SeriesInstanceUID=uid, ImagePositionPatient=[0, 0, position], **placed)
        for position, shown in zip_longest(positions, pixels)
    ]


def write_files(name: str, positions: Sequence[float], uid: str = "1.2.3.4") -> list[ImageFile]:
    """Write the files of such a series, in a folder of that name."""
    return [
        ImageFile(f"{name}/{number}.dcm", data)
        for number, data in enumerate(write_slices(positions, uid))
    ]


def pack(*entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Write a ZIP of files, by their names."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return file.getvalue()
