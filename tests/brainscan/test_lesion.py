"""Where a lesion map's region lies on the picture that it belongs to."""

import numpy as np
import pytest

from brainscan.bundle import LesionMap
from brainscan.lesion import find_lesion, measure_head
from brainscan.scan import Box, PreparedScan
from brainscan.scan.crop import trace_head
from tests.conftest import draw_head

LIMITS = LesionMap(region_from=0.5, marked_from=0.7)
SIZE = 64
WHOLE = Box(0, 0, 100, 100)
HEAD = 0.7


def draw_scan(box: Box = WHOLE, whole: tuple[int, int] = (100, 100)) -> PreparedScan:
    return PreparedScan(np.zeros((SIZE, SIZE, 1), np.uint8), box, whole)


def draw_map(*places: tuple[int, int], value: float = 0.9) -> np.ndarray:
    """Draw a map of 16 × 16 with squares of 4 × 4 that begin at these columns and rows."""
    values = np.full((16, 16), 0.1, np.float32)
    for number, (column, row) in enumerate(places):
        values[row : row + 4, column : column + 4] = value - 0.05 * number
    return values


def test_where_it_is_and_how_large() -> None:
    values = draw_map((8, 4))
    values[5, 9] = 0.95
    found = find_lesion(values, LIMITS, draw_scan(), HEAD)
    assert found is not None
    assert found.peak == pytest.approx((9.5 / 16, 5.5 / 16), abs=1e-4)
    assert found.score == pytest.approx(0.95, abs=1e-4)
    [polygon] = found.outline
    (left, top), (right, bottom) = np.min(polygon, axis=0), np.max(polygon, axis=0)
    assert (left, top, right, bottom) == pytest.approx((0.5, 0.25, 0.75, 0.5), abs=0.02)
    assert found.area == pytest.approx(1 / 16 / HEAD, rel=0.1)


def test_in_a_picture_of_which_the_scan_is_a_part() -> None:
    scan = draw_scan(Box(100, 50, 300, 150), (400, 200))
    found = find_lesion(draw_map((8, 8)), LIMITS, scan, 1.0)
    assert found is not None
    middle = np.mean(found.outline[0], axis=0)
    assert found.area == pytest.approx(1 / 16 / 4, rel=0.1)
    assert middle == pytest.approx(((100 + 0.625 * 200) / 400, (50 + 0.625 * 100) / 200), abs=0.01)


def test_several_parts_the_largest_first() -> None:
    values = draw_map((2, 8), (10, 4))
    values[8:12, 2] = 0.1
    found = find_lesion(values, LIMITS, draw_scan(), HEAD)
    assert found is not None
    centres = [np.mean(polygon, axis=0)[0] for polygon in found.outline]
    assert centres == pytest.approx([0.75, 0.28], abs=0.02)


def test_the_share_of_the_head() -> None:
    found = trace_head(np.asarray(draw_head(200, 300)))
    assert measure_head(found) == pytest.approx(np.pi / 4 * 0.8 * 0.86, rel=0.03)
    assert measure_head(trace_head(np.zeros((100, 100), np.uint8))) == 1


@pytest.mark.parametrize("value", [0.69, float("nan")])
def test_nothing_where_there_is_nothing(value: float) -> None:
    assert find_lesion(draw_map((8, 8), value=value), LIMITS, draw_scan(), HEAD) is None
