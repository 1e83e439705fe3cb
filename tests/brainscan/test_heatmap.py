import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from brainscan.heatmap import LONGEST_SIDE, lay_over, render_heatmap
from brainscan.scan import Box


def read(png: bytes) -> NDArray[np.uint8]:
    """Give a PNG's pixels: uint8, shape (height, width, 4)."""
    with Image.open(io.BytesIO(png)) as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGBA")
        return np.asarray(picture)


def spot(row: int, column: int, side: int = 7) -> NDArray[np.float32]:
    heat = np.zeros((side, side), np.float32)
    heat[row, column] = 1.0
    return heat


def test_the_heat_lies_inside_the_box() -> None:
    box = Box(left=25, top=10, right=75, bottom=60)
    picture = read(render_heatmap(np.ones((5, 5), np.float32), box, (100, 80)))
    assert picture.shape == (80, 100, 4)
    covered = picture[..., 3] > 0
    assert covered[10:60, 25:75].all()
    assert covered.sum() == 50 * 50


@pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 5)])
def test_a_hot_cell_is_where_it_was_in_the_box(row: int, column: int) -> None:
    box = Box(left=15, top=20, right=85, bottom=90)  # each cell is 10 pixels wide
    picture = read(render_heatmap(spot(row, column), box, (100, 100)))
    hottest = np.argwhere(picture[..., 3] == picture[..., 3].max()).mean(axis=0)
    expected = (20 + 10 * (row + 0.5), 15 + 10 * (column + 0.5))
    assert hottest == pytest.approx(expected, abs=5.5)  # at an edge the peak leans outwards


def test_cold_is_clear_and_hotter_covers_more() -> None:
    heat = np.linspace(0, 1, 11, dtype=np.float32)[np.newaxis].repeat(3, 0)
    picture = read(render_heatmap(heat, Box(0, 0, 220, 60), (220, 60)))
    cover = picture[30, :, 3].astype(int)
    assert cover[0] == 0
    assert 100 < cover.max() < 255
    assert (np.diff(cover) >= 0).all()
    warmth = picture[30, :, :3].astype(int).sum(axis=-1)
    assert warmth[-1] > warmth[cover > 0][0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 2.0])
def test_values_out_of_range_do_no_harm(value: float) -> None:
    heat = spot(2, 2)
    heat[4, 4] = value
    assert read(render_heatmap(heat, Box(0, 0, 70, 70), (70, 70))).shape == (70, 70, 4)


@pytest.mark.parametrize(
    ("whole", "expected"),
    [
        ((1024, 512), (128, 64)),
        ((100, 80), (100, 80)),
        ((16, 100_000), (1, 128)),
    ],
)
def test_the_proportions_of_the_scan(whole: tuple[int, int], expected: tuple[int, int]) -> None:
    picture = read(render_heatmap(spot(3, 3), Box(0, 0, *whole), whole))
    assert picture.shape[1::-1] == expected
    assert max(picture.shape[:2]) <= LONGEST_SIDE


def test_a_box_smaller_than_a_pixel_of_the_picture() -> None:
    picture = read(
        render_heatmap(np.ones((4, 4), np.float32), Box(9998, 0, 10_000, 9), (10_000, 9))
    )
    assert picture[..., 3].any()


def test_laid_over_its_scan() -> None:
    grey = np.full((400, 300), 100, np.uint8)
    heatmap = render_heatmap(spot(0, 0), Box(0, 0, 300, 400), (300, 400))
    found = lay_over(grey, heatmap)
    assert found is not None
    assert found.shape == (400, 300, 3)
    assert (found[200:, 150:] == 100).all()  # cold: the scan shows as it is
    assert found[5, 5].astype(int).std() > 10  # hot: coloured
