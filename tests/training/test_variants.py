import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from training.data import variants
from training.data.variants import VARIANTS, draw_sheet, draw_variant, keep_variants

Scans = tuple[NDArray[np.uint8], NDArray[np.int64]]
MIRRORED, DARKER, BRIGHTER, SMALLER, LARGER, TURNED_LEFT, TURNED_RIGHT = 7, 16, 17, 14, 15, 5, 6


@pytest.fixture(scope="module")
def head(draw_phantoms: Callable[..., Scans]) -> NDArray[np.uint8]:
    """A head with a tumour: uint8, (96, 96, 1)."""
    return draw_phantoms(2, size=96)[0][1]


def middle_of_blob(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Row and column of the middle of what is bright."""
    return np.argwhere(pixels[..., 0] > 200).mean(axis=0)


def test_document_000_makes_21_of_each_scan(head: NDArray[np.uint8]) -> None:
    drawn = [draw_variant(head, number) for number in range(VARIANTS)]
    assert VARIANTS == 21
    assert len({variant.tobytes() for variant in drawn}) == 21
    assert all(variant.dtype == np.uint8 and variant.shape == head.shape for variant in drawn)


def test_all_are_drawn_once(
    head: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = np.stack([head, head[::-1]])
    kept = keep_variants(scans, tmp_path / "cache")
    assert np.array_equal(kept[1], [draw_variant(scans[1], number) for number in range(VARIANTS)])
    monkeypatch.setattr(variants, "draw_variant", None)
    assert np.array_equal(keep_variants(scans, tmp_path / "cache"), kept)


def test_the_first_is_the_scan_itself(head: NDArray[np.uint8]) -> None:
    drawn = draw_variant(head, 0)
    assert np.array_equal(drawn, head)
    assert not np.shares_memory(drawn, head)


@pytest.mark.parametrize("number", range(21))
def test_a_number_always_does_the_same_and_leaves_the_scan(
    head: NDArray[np.uint8], number: int
) -> None:
    before = head.copy()
    first = draw_variant(head, number)
    draw_variant(head[:50, :70], number)  # another size does not disturb it
    assert np.array_equal(draw_variant(head, number), first)
    assert np.array_equal(head, before)


@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 1), (33, 33, 1)])
def test_any_shape_is_kept(shape: tuple[int, ...]) -> None:
    scan = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert {draw_variant(scan, number).shape for number in range(VARIANTS)} == {shape}


def test_mirrored_is_mirrored_to_the_pixel(head: NDArray[np.uint8]) -> None:
    assert np.array_equal(draw_variant(head, MIRRORED), head[:, ::-1])


def test_exposure_scales_every_pixel_and_stops_at_white() -> None:
    scan = np.arange(256, dtype=np.uint8).reshape(16, 16)
    values = np.arange(256).reshape(16, 16)
    assert np.array_equal(draw_variant(scan, DARKER), np.rint(values * 0.7))
    assert np.array_equal(draw_variant(scan, BRIGHTER), np.minimum(np.rint(values * 1.3), 255))


def test_zoom_keeps_the_middle(head: NDArray[np.uint8]) -> None:
    smaller, larger = draw_variant(head, SMALLER), draw_variant(head, LARGER)
    assert not smaller[:5].any()
    assert not smaller[:, -5:].any()
    middle = middle_of_blob(head) - 47.5
    assert middle_of_blob(smaller) - 47.5 == pytest.approx(0.88 * middle, abs=0.6)
    assert middle_of_blob(larger) - 47.5 == pytest.approx(1.12 * middle, abs=0.6)


@pytest.mark.parametrize(("number", "degrees"), [(TURNED_LEFT, 18), (TURNED_RIGHT, -18)])
def test_turning_is_about_the_middle(head: NDArray[np.uint8], number: int, degrees: float) -> None:
    down, across = middle_of_blob(head) - 47.5
    turned = middle_of_blob(draw_variant(head, number)) - 47.5
    angle = np.radians(degrees)
    expected = (
        down * np.cos(angle) - across * np.sin(angle),
        across * np.cos(angle) + down * np.sin(angle),
    )
    assert turned == pytest.approx(expected, abs=0.6)


def test_what_enters_the_picture_is_black() -> None:
    white = np.full((64, 64, 1), 255, np.uint8)
    assert draw_variant(white, TURNED_LEFT)[0, 0, 0] == 0
    assert draw_variant(white, SMALLER)[0, 32, 0] == 0


def test_the_sheet_shows_every_variant_with_its_label(head: NDArray[np.uint8]) -> None:
    large = np.kron(head, np.ones((3, 3, 1), np.uint8))
    sheet = draw_sheet(large)
    side, gap, label = 288, 12, 32
    assert sheet.shape == (3 * (side + label + gap) + gap, 7 * (side + gap) + gap)
    labels = set()
    for number in range(VARIANTS):
        row, column = divmod(number, 7)
        top, left = gap + row * (side + label + gap), gap + column * (side + gap)
        tile = sheet[top : top + side, left : left + side]
        assert np.array_equal(tile, draw_variant(large, number)[..., 0])
        written = sheet[top + side : top + side + label, left : left + side]
        assert written.min() < 50
        labels.add(hashlib.sha256(written.tobytes()).digest())
    assert len(labels) == VARIANTS
    assert (sheet[:, -gap:] == 255).all()  # no label runs over the edge
