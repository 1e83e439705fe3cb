"""Negatives, borders, a viewer's tools, and several heads in one picture."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from brainscan.scan import Box, Picture, ScanSpecification, prepare_scan, read_picture
from brainscan.scan.frame import is_inverted

SHARED = Path(__file__).parents[3] / "shared" / "data"
Draw = Callable[..., bytes]
Grey = NDArray[np.uint8]


@pytest.fixture(scope="module")
def head(draw_scan: Draw) -> Grey:
    return read_picture(draw_scan("PNG")).grey


def read(grey: NDArray[np.generic], ending: str = ".png") -> Picture:
    return read_picture(bytes(cv2.imencode(ending, grey)[1]))


def list_codes(picture: Picture) -> list[str]:
    return [warning.code for warning in picture.warnings]


def move(box: Box | None, across: int, down: int) -> Box:
    assert box is not None
    return Box(box.left + across, box.top + down, box.right + across, box.bottom + down)


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_a_negative_is_inverted_and_said(head: Grey, ending: str) -> None:
    picture = read(255 - head, ending)
    assert np.abs(picture.grey.astype(int) - head).mean() < 2
    assert list_codes(picture) == ["inverted"]


def test_a_negative_of_16_bits(head: Grey) -> None:
    picture = read(4095 - head.astype(np.uint16) * 16)
    assert np.abs(picture.grey.astype(int) - head).mean() < 8
    assert "inverted" in list_codes(picture)


@pytest.mark.parametrize("value", [255, 128])
@pytest.mark.parametrize("wide", [1, 10, 100])
def test_the_head_in_a_border(head: Grey, value: int, wide: int) -> None:
    framed = cv2.copyMakeBorder(head, *4 * (wide,), cv2.BORDER_CONSTANT, value=value)
    picture, plain = read(framed), Picture(head)
    np.testing.assert_array_equal(picture.grey, framed)
    found = picture.outline.box
    expected = move(plain.outline.box, wide, wide)
    assert found is not None
    assert np.abs(np.subtract(found, expected)).max() <= 6
    assert picture.resembles_scan
    assert not picture.warnings


def test_the_head_among_the_tools_of_a_viewer(head: Grey) -> None:
    canvas = cv2.copyMakeBorder(head, 10, 10, 60, 60, cv2.BORDER_CONSTANT, value=0)
    shot = cv2.copyMakeBorder(canvas, 30, 0, 50, 80, cv2.BORDER_CONSTANT, value=190)
    for top in range(44, 200, 44):
        cv2.rectangle(shot, (10, top), (38, top + 26), 90, -1)
        cv2.putText(shot, "Series", (375, top), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 40)
    picture = read(shot)
    found = picture.outline.box
    assert found is not None
    assert np.abs(np.subtract(found, move(Picture(head).outline.box, 110, 40))).max() <= 8
    assert picture.resembles_scan


@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (2, 2), (3, 3)])
def test_of_several_heads_one_is_read_and_all_are_counted(
    head: Grey, rows: int, columns: int
) -> None:
    picture = read(np.tile(head, (rows, columns)))
    (warning,) = picture.warnings
    assert (warning.code, warning.values["heads"]) == ("several-heads", rows * columns)
    scan = prepare_scan(picture, ScanSpecification(64))
    assert scan.found_head
    assert scan.box.right - scan.box.left == pytest.approx(160, abs=12)


@pytest.mark.skipif(not SHARED.is_dir(), reason="there are no real scans here")
def test_real_scans_are_read_as_they_are() -> None:
    files = sorted(SHARED.glob("[!n]*/**/*.jpg"))[::100]
    assert len(files) > 50
    for file in files:
        data = file.read_bytes()
        grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert not is_inverted(np.asarray(grey, np.uint8)), file.name
        np.testing.assert_array_equal(read_picture(data).grey, grey, err_msg=file.name)
