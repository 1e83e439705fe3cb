import gzip
import json
import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from numpy.typing import NDArray

from brainscan.messages import ScanError
from brainscan.scan import Picture, read_picture
from brainscan.scan.formats import read_slices
from tests.volumes import write_nifti

SAMPLES = Path("../shared/samples/nifti")
SHAPE = (40, 44, 36)


def draw_volume() -> NDArray[np.int16]:
    """Draw a head, in RAS, with a spot that is at its left, in front and a little above."""
    x, y, z = (
        (place - side / 2) / side for place, side in zip(np.indices(SHAPE), SHAPE, strict=True)
    )
    head = np.where(x**2 + y**2 + z**2 < 0.16, 900, 10)
    spot = np.where((x + 0.15) ** 2 + (y - 0.2) ** 2 + (z - 0.05) ** 2 < 0.01, 1500, 0)
    return np.asarray(head + spot + (np.arange(head.size).reshape(SHAPE) % 200), np.int16)


def read(voxels: NDArray[Any], affine: NDArray[Any] | None = None) -> Picture:
    return read_picture(write_nifti(voxels, affine))


def refuse(data: bytes) -> str:
    with pytest.raises(ScanError) as refused:
        read_picture(data)
    return refused.value.code


def list_values(picture: Picture, code: str) -> Any:
    return next(note.values for note in picture.notes if note.code == code)


def test_an_axial_slice_with_the_right_at_the_left() -> None:
    picture = read(draw_volume())
    assert picture.size == SHAPE[:2]
    y, x = np.unravel_index(picture.grey.argmax(), picture.grey.shape)
    assert x > SHAPE[0] / 2  # the patient's left
    assert y < SHAPE[1] / 2  # in front
    values = list_values(picture, "one-slice")
    assert values["slices"] == SHAPE[2]
    assert abs(values["slice"] - SHAPE[2] / 2) <= 2


@pytest.mark.parametrize("codes", ["LPS", "RAS", "PIR", "SAR", "IPL", "ASL"])
def test_however_it_is_stored(codes: str) -> None:
    volume = draw_volume()
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(tuple(codes)))
    stored = volume
    axes = np.argsort(turn[:, 0]).astype(int)
    for axis, direction in enumerate(turn[:, 1]):
        stored = np.flip(stored, axis) if direction < 0 else stored
    stored = np.transpose(stored, axes)
    affine = inv_ornt_aff(turn, SHAPE)
    assert np.array_equal(read(stored, affine).grey, read(volume).grey)


def test_few_slices_are_shown_as_they_were_scanned() -> None:
    sagittal = read(draw_volume()[::4], np.diag([4, 1, 1, 1]))
    assert sagittal.size == (SHAPE[1], SHAPE[2])
    assert list_values(sagittal, "one-slice")["slices"] == 10


@pytest.mark.parametrize("kind", ["u2", "i4", ">f4", "f8"])
def test_number_types(kind: str) -> None:
    assert np.array_equal(read(draw_volume().astype(kind)).grey, read(draw_volume()).grey)


def test_negative_values_and_nan() -> None:
    values = draw_volume().astype(np.float32) - 2000
    expected = read(draw_volume()).grey
    assert np.abs(read(values).grey.astype(int) - expected).max() <= 1
    values[values < -1800] = np.nan
    grey = read(values).grey
    assert grey[0].max() <= 1
    assert grey.max() == 255


def test_colours() -> None:
    eight = (draw_volume() >> 4).astype(np.uint8)
    colours = np.repeat(eight[..., np.newaxis], 3, -1).view([(name, "u1") for name in "RGB"])
    assert np.abs(read(colours[..., 0]).grey.astype(int) - read(eight).grey).max() <= 1


def test_the_first_of_several_volumes() -> None:
    volume = draw_volume()
    picture = read(np.stack([volume, volume // 2, volume * 0], axis=-1))
    assert np.array_equal(picture.grey, read(volume).grey)
    assert list_values(picture, "one-volume") == {"volumes": 3}


def test_pixels_become_square() -> None:
    assert read(draw_volume(), np.diag([2, 1, 1, 1])).size == (2 * SHAPE[0], SHAPE[1])


def test_what_the_header_says() -> None:
    picture = read(np.stack([draw_volume()] * 2, axis=-1), np.diag([-1, 1.2, 2.5, 1]))
    assert picture.facts == {
        "matrix": [*SHAPE[:2]],
        "slices": SHAPE[2],
        "pixel_spacing_mm": [1, 1.2],
        "slice_spacing_mm": 2.5,
        "plane": "axial",
        "volumes": 2,
    }
    assert json.loads(json.dumps(picture.facts)) == picture.facts


@pytest.mark.parametrize("number", [0, np.nan, np.inf])
def test_an_orientation_that_cannot_be_used(number: float) -> None:
    whole = write_nifti(draw_volume(), np.diag([-1, 1, 1, 1]), packed=False)
    sform, qform = np.float32([number] * 12).tobytes(), struct.pack("<2h", 1, 1)
    picture = read_picture(whole[:280] + sform + whole[328:])
    assert [note.code for note in picture.notes] == ["no-orientation", "one-slice"]
    assert "plane" not in picture.facts
    stated = read_picture(whole[:252] + qform + whole[256:280] + sform + whole[328:])
    assert [note.code for note in stated.notes] == ["one-slice"]


def test_version_2_and_unpacked() -> None:
    import nibabel

    volume = draw_volume()
    second = nibabel.Nifti2Image(volume, np.eye(4)).to_bytes()
    for data in (second, write_nifti(volume, packed=False)):
        assert np.array_equal(read_picture(data).grey, read(volume).grey)


def test_half_of_a_pair_is_named() -> None:
    import nibabel

    header = nibabel.AnalyzeHeader()
    header.set_data_shape(SHAPE)
    assert refuse(header.binaryblock) == "file-pair"
    assert refuse(gzip.compress(header.binaryblock)) == "file-pair"
    pair = write_nifti(draw_volume(), packed=False).replace(b"n+1\0", b"ni1\0", 1)
    assert refuse(pair) == "file-pair"


def test_complex_numbers_are_named() -> None:
    assert refuse(write_nifti(draw_volume().astype(np.complex64))) == "voxels-not-read"


def test_what_is_damaged() -> None:
    whole = write_nifti(draw_volume(), packed=False)
    packed = write_nifti(draw_volume())
    wrong = bytearray(packed)
    wrong[-8] ^= 1  # the checksum
    for data in (whole[:-9], whole[:300], packed[:-30], packed[:400], bytes(wrong)):
        assert refuse(data) == "damaged-image"


def test_more_than_memory_may_take() -> None:
    whole = write_nifti(draw_volume(), packed=False)
    huge = whole[:42] + struct.pack("<3h", 1000, 1000, 1000) + whole[48:]
    assert refuse(gzip.compress(huge)) == "image-too-complex"
    assert refuse(huge) == "damaged-image"
    far = whole[:108] + struct.pack("<f", 2e9) + whole[112:]
    assert refuse(gzip.compress(far)) == "image-too-complex"


def test_other_packed_files_are_not_images() -> None:
    assert refuse(gzip.compress(b"Dear doctor")) == "not-an-image"
    assert refuse(b"\x1f\x8b\x08" + bytes(50)) == "not-an-image"


def test_a_head_that_is_stored_in_ten_ways() -> None:
    if not SAMPLES.is_dir():
        pytest.skip("../shared is not there")
    paths = sorted((SAMPLES / "orientations").glob("*.nii.gz"))
    first, *others = (read_picture(path.read_bytes()).grey for path in paths)
    assert len(others) == 9
    for grey in others:
        assert np.array_equal(grey, first)


def test_positions_in_metres_are_given_in_mm() -> None:
    image = nibabel.Nifti1Image(draw_volume(), np.diag([0.001, 0.001, 0.002, 1]))
    image.header.set_xyzt_units("meter")
    (_, first), (_, second), *_ = read_slices(image.to_bytes())
    assert (first.position, second.position) == (0, 2)
    assert first.area == pytest.approx(SHAPE[0] * SHAPE[1])
