"""What stands where a region was, and what a model says then."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from brainscan import ImageFile, open_model
from brainscan.counterfactual import draw_outline, examine_without_lesion, replace_region
from brainscan.scan import Picture
from tests.cards import LESION_NETWORK

BRAIN, TUMOR, MARK = 90, 240, 150
SPOT = (0.66, 0.5)  # of the tumour's middle
MARKED = (0.34, 0.5)  # of a mark in the other half


def draw_head(
    width: int = 200, height: int = 220, *, marked: tuple[float, float] | None = None
) -> NDArray[np.uint8]:
    """Draw a symmetric head with a tumour, and a mark somewhere."""
    grey = np.full((height, width), 4, np.uint8)

    def ellipse(place: tuple[float, float], axes: tuple[float, float], value: int) -> None:
        middle = (round(place[0] * width), round(place[1] * height))
        cv2.ellipse(
            grey, middle, (round(axes[0] * width), round(axes[1] * height)), 0, 0, 360, value, -1
        )

    ellipse((0.5, 0.5), (0.4, 0.43), 200)
    ellipse((0.5, 0.5), (0.35, 0.38), BRAIN)
    for side in (0.4, 0.6):
        ellipse((side, 0.3), (0.03, 0.08), 30)
    if marked is not None:
        ellipse(marked, (0.02, 0.02), MARK)
    ellipse(SPOT, (0.07, 0.07), TUMOR)
    return grey


def draw_region(grey: NDArray[np.uint8], radius: float = 0.08) -> NDArray[np.uint8]:
    """Draw the region of the tumour, in shares of the picture as an outline has it."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = [(SPOT[0] + radius * np.cos(a), SPOT[1] + radius * np.sin(a)) for a in angles]
    return draw_outline([circle], grey.shape[::-1])


def cut_spot(grey: NDArray[np.uint8], place: tuple[float, float] = SPOT) -> NDArray[np.uint8]:
    column, row = round(place[0] * grey.shape[1]), round(place[1] * grey.shape[0])
    reach = round(0.06 * grey.shape[1])
    return grey[row - reach : row + reach, column - reach : column + reach]


@pytest.mark.parametrize("size", [(200, 220), (130, 140), (800, 880)])
def test_tissue_stands_where_the_region_was(size: tuple[int, int]) -> None:
    grey = draw_head(*size)
    changed = replace_region(Picture(grey), region := draw_region(grey))
    assert changed is not None
    assert cut_spot(changed.grey) == pytest.approx(np.float64(BRAIN), abs=5)
    margin = 2 * round(0.08 * size[0]) + 1
    far = cv2.dilate(region, np.ones((margin, margin), np.uint8)) == 0
    assert changed.grey.shape == grey.shape
    assert (changed.grey[far] == grey[far]).all()


def test_it_is_from_the_same_place_in_the_other_half() -> None:
    grey = draw_head(marked=MARKED)
    changed = replace_region(Picture(grey), draw_region(grey))
    assert changed is not None
    mirrored = cv2.flip(cut_spot(grey, MARKED), 1)
    assert cut_spot(changed.grey).max() > (BRAIN + MARK) / 2
    assert np.corrcoef(cut_spot(changed.grey).ravel(), mirrored.ravel())[0, 1] > 0.8


def test_of_a_head_without_halves_it_is_what_fits() -> None:
    grey = draw_head(marked=MARKED)
    grey[110:, 20:100] = np.where(grey[110:, 20:100] == BRAIN, 200, grey[110:, 20:100])
    grey[20:90, 30:100] = np.where(grey[20:90, 30:100] == BRAIN, 20, grey[20:90, 30:100])
    changed = replace_region(Picture(grey), draw_region(grey))
    assert changed is not None
    assert cut_spot(changed.grey) == pytest.approx(np.float64(BRAIN), abs=5)


def test_a_region_on_the_midline_is_not_replaced_by_itself() -> None:
    grey = draw_head()
    region = np.zeros(grey.shape, np.uint8)
    cv2.circle(grey, (100, 130), 14, TUMOR, -1)
    cv2.circle(region, (100, 130), 15, 1, -1)
    changed = replace_region(Picture(grey), region)
    assert changed is not None
    assert changed.grey[120:140, 90:110].max() < (BRAIN + TUMOR) / 2


def test_nothing_that_could_be_replaced() -> None:
    grey = draw_head()
    nothing = np.zeros(grey.shape, np.uint8)
    beside = nothing.copy()
    beside[:10, :10] = 1
    assert replace_region(Picture(grey), nothing) is None
    assert replace_region(Picture(grey), beside) is None
    assert replace_region(Picture(nothing), draw_region(grey)) is None


def test_too_large_a_region() -> None:
    grey = draw_head()
    assert replace_region(Picture(grey), draw_region(grey, 0.15)) is not None
    assert replace_region(Picture(grey), draw_region(grey, 0.3)) is None
    column = np.zeros(grey.shape, np.uint8)
    column[:, 95:105] = 1  # through the head, which is nowhere else as high
    assert replace_region(Picture(grey), column) is None


class TestExaminingAgain:
    def test_the_lesion_is_gone(
        self, tmp_path: Path, publish_model: Callable[..., Path], scan: bytes
    ) -> None:
        model = open_model(publish_model(tmp_path, **LESION_NETWORK))
        found = model.examine_one(ImageFile("a.jpg", scan))
        assert found.lesion is not None
        again = examine_without_lesion(model, found)
        assert again is not None
        assert (again.name, again.lesion) == ("a.jpg", None)
        assert again.picture.size == found.picture.size
        assert again.probabilities != found.probabilities

    def test_without_a_lesion(
        self, tmp_path: Path, publish_model: Callable[..., Path], scan: bytes
    ) -> None:
        model = open_model(publish_model(tmp_path))
        found = model.examine_one(ImageFile("a.jpg", scan))
        assert examine_without_lesion(model, found) is None
