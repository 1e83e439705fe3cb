"""What is drawn on a scan is said and taken off."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from brainscan.scan import Picture, read_picture

Draw = Callable[..., bytes]
Grey = NDArray[np.uint8]

RED, YELLOW = (0, 0, 255), (0, 255, 255)  # as OpenCV orders channels


@pytest.fixture(scope="module")
def head(draw_scan: Draw) -> Grey:
    return read_picture(draw_scan("PNG")).grey


def read(pixels: NDArray[np.generic], ending: str = ".png") -> Picture:
    return read_picture(bytes(cv2.imencode(ending, pixels)[1]))


def list_codes(picture: Picture) -> list[str]:
    return [warning.code for warning in picture.warnings]


@pytest.mark.parametrize("ending", [".png", ".jpg"])
@pytest.mark.parametrize("colour", [RED, YELLOW])
def test_a_coloured_ring_and_arrow(head: Grey, colour: tuple[int, int, int], ending: str) -> None:
    drawn = cv2.cvtColor(head, cv2.COLOR_GRAY2BGR)
    cv2.circle(drawn, (80, 90), 24, colour, 2)
    cv2.arrowedLine(drawn, (150, 20), (130, 60), colour, 2)
    picture = read(drawn, ending)
    assert list_codes(picture) == ["annotated"]
    assert picture.resembles_scan
    assert np.abs(picture.grey.astype(int) - head).mean() < 1.5


def test_a_region_marked_in_colour_keeps_its_texture(head: Grey) -> None:
    drawn = cv2.cvtColor(head, cv2.COLOR_GRAY2BGR)
    marked = np.s_[70:110, 70:110]
    drawn[marked] = (drawn[marked] * 0.7 + np.array(RED) * 0.3).astype(np.uint8)
    drawn[90, 90] = (0, 0, 77)  # a black spot that shows through
    picture = read(drawn)
    assert list_codes(picture) == ["annotated"]
    np.testing.assert_allclose(picture.grey[85, 75:85], head[85, 75:85] * 0.7, atol=1)
    assert picture.grey[90, 90] == 0


def test_a_ring_in_colours_of_16_bits(head: Grey) -> None:
    deep = cv2.cvtColor(head, cv2.COLOR_GRAY2BGR).astype(np.uint16) * 16
    cv2.circle(deep, (80, 90), 24, (0, 0, 4095), 2)
    picture = read(deep)
    assert "annotated" in list_codes(picture)
    assert np.abs(picture.grey.astype(int) - head).mean() < 8


@pytest.mark.parametrize("thick", [1, 2, 4])
@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_a_white_ring(head: Grey, thick: int, ending: str) -> None:
    drawn = head.copy()
    cv2.ellipse(drawn, (80, 110), (28, 22), 30, 0, 360, (255,), thick)
    picture = read(drawn, ending)
    assert list_codes(picture) == ["annotated"]
    assert np.abs(picture.grey.astype(int) - head).mean() < 2


@pytest.mark.parametrize("size", [(64, 64), (2000, 1500)])
def test_any_size(draw_scan: Draw, size: tuple[int, int]) -> None:
    width, height = size
    scan = read_picture(draw_scan("PNG", width=width, height=height)).grey
    drawn = cv2.cvtColor(scan, cv2.COLOR_GRAY2BGR)
    cv2.circle(drawn, (width // 2, height // 3), width // 8, RED, max(2, width // 200))
    picture = read(drawn)
    assert list_codes(picture) == ["annotated"]
    assert np.abs(picture.grey.astype(int) - scan).mean() < 3


def test_a_sliver_and_marks_of_two_kinds(draw_scan: Draw) -> None:
    sliver = np.tile(np.arange(200, dtype=np.uint16), (16, 200)) * np.uint16(300)
    assert read(sliver).size == (40_000, 16)
    drawn = cv2.cvtColor(read_picture(draw_scan("PNG")).grey, cv2.COLOR_GRAY2BGR)
    cv2.circle(drawn, (100, 100), 30, (255, 255, 255), 3)
    cv2.line(drawn, (60, 150), (140, 150), RED, 3)
    assert list_codes(read(drawn)) == ["annotated"]


def test_colour_all_over_is_a_photograph(draw_scan: Draw) -> None:
    photograph = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    picture = read(photograph)
    assert not picture.warnings
    assert not picture.resembles_scan
