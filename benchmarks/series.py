"""A series in one request, compared with its slices predicted one by one.

    python -m benchmarks.series ../shared/samples/nifti/chris_t1.nii.gz

The slices of the volume are sent as they are, in one NIfTI file, and as the DICOM files of a
series, in one form and in one ZIP; the request is answered without HTTP. One by one, the same model
reads and predicts each slice as a DICOM file of its own. The best of several turns counts, because
other work on the machine can only slow a turn down.
"""

import argparse
import io
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from werkzeug.datastructures import FileStorage, MultiDict

from brainscan import ImageFile
from tumorapp import create_app

_SETTINGS = {"MAX_UPLOAD_MB": 512, "AUDIT_LOG": None}


def write_series(path: Path) -> list[ImageFile]:
    """Write the axial slices of a volume as DICOM files of 16 bits."""
    loaded: nibabel.Nifti1Image = nibabel.as_closest_canonical(nibabel.load(path))
    voxels = np.asarray(loaded.dataobj)
    grey = np.rint(voxels * (4095 / voxels.max())).astype(np.uint16)
    files = []
    for index in range(grey.shape[2]):
        slice_ = np.ascontiguousarray(grey[::-1, ::-1, index].T)
        file = Dataset()
        file.file_meta = FileMetaDataset()
        file.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        file.SOPClassUID, file.SOPInstanceUID = uid.MRImageStorage, f"1.2.3.{index}"
        file.SeriesInstanceUID, file.Modality = "1.2.3", "MR"
        file.Rows, file.Columns = slice_.shape
        file.ImageOrientationPatient, file.PixelSpacing = [1, 0, 0, 0, 1, 0], [1, 1]
        file.ImagePositionPatient = [0, 0, index]
        file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
        file.BitsAllocated, file.BitsStored, file.HighBit = 16, 12, 11
        file.PixelRepresentation = 0
        file.PixelData = slice_.tobytes()
        written = io.BytesIO()
        file.save_as(written, enforce_file_format=True)
        files.append(ImageFile(f"series/{index}.dcm", written.getvalue()))
    return files


def pack(files: list[ImageFile]) -> bytes:
    """Write a ZIP of files."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.writestr(file.name, file.data)
    return written.getvalue()


def main() -> None:
    """Measure each way in turn and print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("volume", type=Path, help="a NIfTI file")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    app = create_app(_SETTINGS)
    client, catalog = app.test_client(), app.extensions["catalog"]
    model = catalog.get(None)
    volume, files = arguments.volume.read_bytes(), write_series(arguments.volume)
    archive = pack(files)

    def predict_each() -> None:
        for file in files:
            model.examine_each([file])

    def post(data: object, content_type: str) -> None:
        answer = client.post("/api/predict", data=data, content_type=content_type)
        [found] = answer.get_json()["predictions"]
        if len(found["slices"]) != len(files):
            raise SystemExit(f"{len(found['slices'])} of {len(files)} slices were predicted.")

    def post_form() -> None:
        parts = [("image", FileStorage(io.BytesIO(file.data), file.name)) for file in files]
        post(MultiDict(parts), "multipart/form-data")

    ways: dict[str, Callable[[], None]] = {
        "one by one": predict_each,
        "NIfTI": lambda: post(volume, "application/octet-stream"),
        "DICOM files in a form": post_form,
        "DICOM files in a ZIP": lambda: post(archive, "application/zip"),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            best[name] = min(best[name], time.perf_counter() - start)
    for name, seconds in best.items():
        ratio = seconds / best["one by one"]
        print(f"{name:24} {len(files)} slices {seconds:6.2f} s {ratio:6.2f} × one by one")


if __name__ == "__main__":
    main()
