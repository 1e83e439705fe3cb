from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from brainscan.scan import Box, read_picture
from brainscan.scan.crop import trace_head

SHARED = Path(__file__).parents[3] / "shared" / "data"
Draw = Callable[..., bytes]
Grey = NDArray[np.uint8]


def ellipse(width: int, height: int, box: Box, value: int = 150) -> Grey:
    """Draw a filled ellipse whose extreme points are those of a box, on black."""
    grey = np.zeros((height, width), np.uint8)
    centre = ((box.left + box.right - 1) / 2, (box.top + box.bottom - 1) / 2)
    axes = ((box.right - box.left) / 2, (box.bottom - box.top) / 2)
    down, across = np.mgrid[:height, :width]
    inside = ((across - centre[0]) / axes[0]) ** 2 + ((down - centre[1]) / axes[1]) ** 2 <= 1
    grey[inside] = value
    return grey


def find_head(grey: Grey) -> Box:
    """Give the box of a head that there is."""
    found = trace_head(grey).box
    assert found is not None
    return found


def overlap(one: Box, other: Box) -> float:
    """Give the shared area of two boxes divided by the area of both."""
    across = min(one.right, other.right) - max(one.left, other.left)
    down = min(one.bottom, other.bottom) - max(one.top, other.top)
    shared = max(0, across) * max(0, down)
    areas = [(box.right - box.left) * (box.bottom - box.top) for box in (one, other)]
    return shared / (sum(areas) - shared)


class TestHead:
    @pytest.mark.parametrize(
        ("width", "height", "box"),
        [
            (200, 200, Box(40, 30, 160, 180)),
            (256, 256, Box(0, 0, 256, 256)),
            (300, 120, Box(60, 5, 200, 115)),
            (120, 300, Box(10, 100, 110, 290)),
            (64, 64, Box(12, 8, 56, 60)),
            (1024, 768, Box(200, 100, 800, 700)),
            (2000, 2500, Box(300, 200, 1700, 2300)),
        ],
    )
    def test_the_box_spans_the_extreme_points(self, width: int, height: int, box: Box) -> None:
        found = find_head(ellipse(width, height, box))
        # The search happens on a copy of at most 256 pixels, after a blur of five.
        off = 3 * max(1.0, max(width, height) / 256)
        assert np.abs(np.subtract(found, box)).max() <= off
        assert overlap(found, box) > 0.9

    @pytest.mark.parametrize("brightness", [0.15, 0.3, 0.6, 1.0])
    def test_a_dim_scan_is_cropped_like_a_bright_one(
        self, draw_scan: Draw, brightness: float
    ) -> None:
        bright = read_picture(draw_scan("PNG")).grey
        dim = np.rint(bright * brightness).astype(np.uint8)
        one, other = find_head(bright), find_head(dim)
        assert overlap(one, other) > 0.97

    def test_small_print_beside_the_head_is_left_out(self) -> None:
        box = Box(60, 40, 240, 250)
        grey = ellipse(300, 300, box)
        cv2.putText(grey, "R 12:30", (2, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1)
        grey[280:295, 5:40] = 255
        found = find_head(grey)
        assert overlap(found, box) > 0.95


class TestScale:
    @pytest.mark.parametrize("scale", [0.5, 0.75, 2.0, 4.0])
    def test_a_scan_and_a_copy_of_another_size_are_cropped_alike(
        self, draw_scan: Draw, scale: float
    ) -> None:
        grey = read_picture(draw_scan("PNG", width=400, height=440)).grey
        copy = cv2.resize(
            grey,
            None,
            fx=scale,
            fy=scale,
            interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC,
        )
        one, other = find_head(grey), find_head(copy.astype(np.uint8))
        assert overlap(one, Box(*(round(side / scale) for side in other))) > 0.97

    @pytest.mark.skipif(not SHARED.is_dir(), reason="there are no real scans here")
    def test_real_scans_and_their_halves(self) -> None:
        overlaps = []
        for file in sorted(SHARED.rglob("*.jpg"))[::300]:
            grey = read_picture(file.read_bytes()).grey
            half = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            one, other = trace_head(grey).box, trace_head(half.astype(np.uint8)).box
            if one is not None and other is not None:
                overlaps.append(overlap(one, Box(*(side * 2 for side in other))))
        assert len(overlaps) > 30
        assert np.median(overlaps) > 0.95
        assert np.quantile(overlaps, 0.05) > 0.85


class TestDegenerate:
    @pytest.mark.parametrize(
        "box",
        [
            Box(90, 90, 120, 120),
            Box(0, 0, 40, 200),
            Box(20, 95, 180, 115),
            Box(95, 20, 105, 180),
            Box(0, 0, 199, 50),
        ],
        ids=["spot", "narrow", "flat", "line", "band"],
    )
    def test_a_shape_that_is_no_head(self, box: Box) -> None:
        grey = np.zeros((200, 200), np.uint8)
        grey[box.top : box.bottom, box.left : box.right] = 200
        assert trace_head(grey).box is None

    @pytest.mark.parametrize("shape", [(1, 1), (1, 500), (16, 16), (16, 5000), (5000, 16)])
    def test_any_shape_never_fails(self, shape: tuple[int, int]) -> None:
        noise = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
        found = trace_head(noise).box
        if found is not None:
            assert 0 <= found.left < found.right <= shape[1]
            assert 0 <= found.top < found.bottom <= shape[0]

    @pytest.mark.skipif(not SHARED.is_dir(), reason="there are no real scans here")
    def test_hardly_any_real_scan_is_degenerate(self) -> None:
        files = sorted(SHARED.rglob("*.jpg"))[::100]
        without = [
            file.name for file in files if read_picture(file.read_bytes()).outline.box is None
        ]
        assert len(without) <= 0.03 * len(files), without
