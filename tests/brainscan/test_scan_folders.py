from pathlib import Path

from brainscan.scan.folders import find_images
from tests.volumes import draw_small, uid, write_dicom, write_nifti


def test_what_a_disc_holds(tmp_path: Path) -> None:
    """DICOM files are often named by numbers; the index of a disc is not an image."""
    slice_of_head = write_dicom()
    directory = write_dicom(SOPClassUID=uid.MediaStorageDirectoryStorage)
    for name, data in {
        "DICOMDIR": directory,
        "MR/IM0001": slice_of_head,
        "MR/1.2.840.7": slice_of_head,
        "MR/slice.DCM": slice_of_head,
        "head.nii.gz": write_nifti(draw_small()[..., None]),
        "table.gz": b"\x1f\x8b",
        "README": b"Dear doctor",
        "letter.txt": b"Dear doctor",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    found = [path.relative_to(tmp_path).as_posix() for path in find_images([tmp_path])]
    assert found == ["MR/1.2.840.7", "MR/IM0001", "MR/slice.DCM", "head.nii.gz"]
    assert find_images([tmp_path / "DICOMDIR"]) == [tmp_path / "DICOMDIR"]
