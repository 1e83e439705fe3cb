"""Whether a picture looks like a slice of a head: drawn pictures, and real ones where they are."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brainscan.scan import read_picture

Draw = Callable[..., bytes]

SHARED = Path(__file__).parents[3] / "shared"


def save(picture: Image.Image, file_format: str = "PNG") -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format)
    return file.getvalue()


@pytest.mark.parametrize(
    ("file_format", "mode"),
    [("JPEG", "L"), ("JPEG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("TIFF", "L"), ("WEBP", "RGB")],
)
def test_a_head_on_black_is_a_scan(draw_scan: Draw, file_format: str, mode: str) -> None:
    assert read_picture(draw_scan(file_format, mode=mode)).resembles_scan


@pytest.mark.parametrize("size", [(32, 32), (96, 400), (3000, 2000)])
def test_size_and_shape_do_not_matter(draw_scan: Draw, size: tuple[int, int]) -> None:
    width, height = size
    assert read_picture(draw_scan("PNG", width=width, height=height)).resembles_scan


def test_a_picture_bright_to_its_edge_is_none() -> None:
    bright = np.random.default_rng(0).integers(60, 256, (200, 200), np.uint8)
    assert not read_picture(save(Image.fromarray(bright))).resembles_scan


def test_a_few_spots_on_black_are_none() -> None:
    spots = np.zeros((200, 200), np.uint8)
    spots[60:140:40, 60:140:40] = 220
    spots[95:110, 90:115] = 200
    assert not read_picture(save(Image.fromarray(spots))).resembles_scan


def test_a_coloured_head_is_none(draw_scan: Draw) -> None:
    head = Image.open(io.BytesIO(draw_scan("PNG")))
    coloured = Image.merge("RGB", (head, head.point(lambda value: value // 3), head))
    assert not read_picture(save(coloured)).resembles_scan


def test_a_coloured_label_is_no_objection(draw_scan: Draw) -> None:
    scan = Image.open(io.BytesIO(draw_scan("PNG"))).convert("RGB")
    scan.paste((255, 220, 0), (5, 5, 45, 20))
    picture = read_picture(save(scan))
    assert picture.coloured == pytest.approx(600 / 44_000, abs=0.001)
    assert picture.resembles_scan


def test_real_scans_and_photographs() -> None:
    samples = SHARED / "samples"
    if not samples.is_dir():
        pytest.skip("There are no real scans beside this checkout.")
    for path in (samples / "scans").iterdir():
        assert read_picture(path.read_bytes()).resembles_scan, path.name
    vessels = samples / "nifti" / "CT_AVM.nii.gz"  # CT of which only the vessels are left
    for path in (vessels, *(samples / "not_mri").iterdir()):
        assert not read_picture(path.read_bytes()).resembles_scan, path.name
