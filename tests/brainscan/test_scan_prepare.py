from collections.abc import Callable

import cv2
import numpy as np
import pytest

from brainscan.scan import Box, Picture, ScanError, ScanSpecification, prepare_scan, read_picture
from brainscan.scan.prepare import read_scan

Draw = Callable[..., bytes]


@pytest.fixture(scope="module")
def picture(draw_scan: Draw) -> Picture:
    return read_picture(draw_scan("PNG"))


@pytest.mark.parametrize("size", [16, 224, 1024])
@pytest.mark.parametrize("crop", [True, False])
def test_what_a_model_takes(picture: Picture, size: int, crop: bool) -> None:
    prepared = prepare_scan(picture, ScanSpecification(size, crop))
    assert prepared.pixels.shape == (size, size, 1)
    assert prepared.pixels.dtype == np.uint8
    assert prepared.pixels.flags.c_contiguous
    assert prepared.whole == picture.size == (200, 220)
    assert prepared.found_head


def test_the_crop_fills_the_array(picture: Picture) -> None:
    cropped = prepare_scan(picture, ScanSpecification(100))
    whole = prepare_scan(picture, ScanSpecification(100, crop=False))
    assert cropped.box == picture.outline.box
    assert whole.box == Box(0, 0, 200, 220)
    pixels = cropped.pixels[..., 0]
    for edge in (pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:]):
        assert edge.max() > 100  # the skull touches every side
    assert whole.pixels[:3].max() < 20


def test_a_degenerate_crop_keeps_the_whole_image_and_says_so() -> None:
    spot = np.zeros((150, 200), np.uint8)
    spot[60:80, 90:110] = 255
    prepared = prepare_scan(Picture(spot), ScanSpecification(64))
    assert prepared.box == Box(0, 0, 200, 150)
    assert not prepared.found_head
    plain = prepare_scan(Picture(spot), ScanSpecification(64, crop=False))
    np.testing.assert_array_equal(prepared.pixels, plain.pixels)
    assert plain.found_head  # none was searched for


@pytest.mark.parametrize("size", [96])
def test_a_scan_and_its_half_become_nearly_the_same_array(draw_scan: Draw, size: int) -> None:
    picture = read_picture(draw_scan("PNG", width=600, height=660))
    half = Picture(cv2.resize(picture.grey, (300, 330), interpolation=cv2.INTER_AREA))
    one, other = (prepare_scan(scan, ScanSpecification(size)) for scan in (picture, half))
    difference = np.abs(one.pixels.astype(int) - other.pixels)
    assert difference.mean() < 4


def test_reading_passes_errors_on(draw_scan: Draw) -> None:
    with pytest.raises(ScanError, match="empty"):
        read_scan(b"", ScanSpecification(64))
    with pytest.raises(ScanError, match="Accepted: at most 1,000 in all"):
        read_scan(draw_scan("PNG"), ScanSpecification(64), max_pixels=1000)


@pytest.mark.parametrize("shape", [(16, 16), (16, 5000), (5000, 16)])
@pytest.mark.parametrize("crop", [True, False])
def test_any_shape(shape: tuple[int, int], crop: bool) -> None:
    noise = Picture(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    assert prepare_scan(noise, ScanSpecification(64, crop)).pixels.shape == (64, 64, 1)


@pytest.mark.parametrize("size", [15, 1025])
def test_a_size_out_of_range(size: int) -> None:
    with pytest.raises(ValueError, match=f"16 to 1024 pixels is accepted. Received: {size}"):
        ScanSpecification(size)
