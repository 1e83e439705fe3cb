"""More than 8 bits, floating-point numbers and dim pictures: windowed by the head."""

import io
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from brainscan.scan import Picture, ScanError, read_picture

Draw = Callable[..., bytes]
Grey = NDArray[np.uint8]

WHITE_IS_ZERO = {262: 0}


@pytest.fixture(scope="module")
def head(draw_scan: Draw) -> Grey:
    """A head with noise, so that it has many levels: uint8, shape (220, 200)."""
    drawn = read_picture(draw_scan("PNG")).grey
    noise = np.random.default_rng(0).integers(-4, 5, drawn.shape)
    return np.asarray(np.clip(cv2.GaussianBlur(drawn, (0, 0), 2) + noise, 0, 255), np.uint8)


def encode(pixels: NDArray[Any], ending: str = ".tiff") -> bytes:
    return bytes(cv2.imencode(ending, pixels)[1])


def read_like(data: bytes, head: Grey, most_off: float = 6) -> Picture:
    """Read a file, and check that it shows nearly what the head does."""
    picture = read_picture(data)
    assert picture.grey.shape == head.shape
    spread = cv2.normalize(head, None, 0, 255, cv2.NORM_MINMAX)
    assert np.abs(picture.grey.astype(int) - spread).mean() < most_off
    return picture


@pytest.mark.parametrize("ending", [".png", ".tiff"])
def test_a_hot_pixel_and_a_label_do_not_move_the_window(head: Grey, ending: str) -> None:
    deep = head.astype(np.uint16) * 16
    deep[100, 100] = 65535
    label = cv2.putText(
        np.zeros_like(head), "R 12:30", (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 255
    )
    deep[label > 0] = 65535
    assert not read_like(encode(deep, ending), head).warnings


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("ending", [".png", ".tiff"])
def test_colour_of_16_bits_keeps_them(head: Grey, channels: int, ending: str) -> None:
    deep = np.repeat(head.astype(np.uint16)[..., np.newaxis] * 2, channels, axis=2)
    deep[..., 3:] = 65535
    assert not read_like(encode(deep, ending), head).warnings


def test_transparency_of_16_bits_is_laid_over_black(head: Grey) -> None:
    deep = np.repeat(head.astype(np.uint16)[..., np.newaxis] * 100, 4, axis=2)
    deep[..., 3] = 65535
    deep[:110, :, 3] = 0
    assert not read_picture(encode(deep, ".png")).grey[:110].any()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_background(head: Grey, kind: type, value: float) -> None:
    values = head.astype(kind) / 300
    air = head < 12
    values[air] = value
    assert not read_like(encode(values), head).grey[air].any()


@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_padding_is_background(head: Grey, kind: type) -> None:
    values = np.pad(head.astype(kind) * 4, 30, constant_values=-2000)
    read_like(encode(values), np.pad(head, 30))


@pytest.mark.parametrize("largest", [1e-40, 3e38])
def test_what_float32_cannot_tell_apart_is_blank(head: Grey, largest: float) -> None:
    deep = (head / np.float64(255) * 2 - 1) * largest
    with pytest.raises(ScanError) as caught:
        read_picture(encode(deep.astype(np.float32)))
    assert caught.value.code == "blank-image"


def test_nothing_but_padding_is_blank() -> None:
    with pytest.raises(ScanError) as caught:
        read_picture(encode(np.full((64, 64), np.nan, np.float32)))
    assert caught.value.code == "blank-image"


@pytest.mark.parametrize("factor", [1, 16, 257])
def test_a_tiff_in_which_0_is_white(head: Grey, factor: int) -> None:
    pixels = head if factor == 1 else 65535 - head.astype(np.uint16) * np.uint16(factor)
    file = io.BytesIO()  # Pillow inverts those of 8 bits itself
    Image.fromarray(pixels).save(file, "TIFF", tiffinfo=WHITE_IS_ZERO)
    assert not read_like(file.getvalue(), head).warnings


def test_a_dim_scan_is_brightened_and_said_to_have_few_levels(head: Grey) -> None:
    dim = np.rint(head * 0.2).astype(np.uint8)
    picture = read_like(encode(dim, ".png"), head)
    (warning,) = picture.warnings
    assert warning.code == "few-grey-levels"
    assert warning.values["levels"] == np.unique(dim).size


@pytest.mark.parametrize("brightness", [0.4, 1.0])
def test_other_scans_of_8_bits_are_left_as_they_are(head: Grey, brightness: float) -> None:
    grey = np.rint(head * brightness).astype(np.uint8)
    picture = read_picture(encode(grey, ".png"))
    np.testing.assert_array_equal(picture.grey, grey)
    assert not picture.warnings
