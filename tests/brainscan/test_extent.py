import pytest

from brainscan.extent import find_extent, measure
from brainscan.lesion import Polygon


def draw_square(left: float, top: float, side: float = 0.2) -> Polygon:
    right, bottom = left + side, top + side
    return (left, top), (right, top), (right, bottom), (left, bottom)


FIRST, OTHER, SPECK = draw_square(0.1, 0.1), draw_square(0.6, 0.6), draw_square(0.6, 0.2, 0.03)


def test_what_continues_a_strong_slice() -> None:
    moved = draw_square(0.2, 0.2)
    extent = find_extent([[FIRST, OTHER], [moved], [], [FIRST]], [False, True, False, False])
    assert extent == [[FIRST], [moved], [], []]


def test_two_tumours_and_a_mistake() -> None:
    extent = find_extent([[FIRST, OTHER, SPECK], [FIRST]], [True, True])
    assert [sorted(outlines) for outlines in extent] == [[FIRST, OTHER], [FIRST]]


def test_nothing_strong() -> None:
    assert find_extent([[FIRST], [FIRST]], [False, False]) == [[], []]


def test_the_area_of_outlines() -> None:
    assert measure([FIRST, OTHER]) == pytest.approx(0.08)
    assert measure([]) == 0
