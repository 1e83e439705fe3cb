"""What is measured of maps, on models that look at one place only."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from brainscan.bundle import CurveAreas
from brainscan.bundle.plain import read_json, write_json
from tests.cards import draw_measurement, draw_up_card
from training.explain import (
    compare_maps,
    draw_centre_maps,
    measure_areas,
    measure_faithfulness,
    measure_flips,
    shuffle_maps,
    shuffle_weights,
)

SIZE = 64
CORNER = np.s_[:, 8:16, 40:48]  # where the tumour is, as (scans, rows, columns)


def draw_scans(scans: int = 3) -> NDArray[np.uint8]:
    """Draw heads of one grey with a bright tumour away from the middle."""
    pixels = np.full((scans, SIZE, SIZE, 1), 90, np.uint8)
    pixels[CORNER] = 250
    return pixels


def draw_maps(scans: int = 3) -> NDArray[np.float32]:
    """Draw the map of a model that marks the tumour: 8 × 8 cells."""
    maps = np.zeros((scans, 8, 8), np.float32)
    maps[:, 1, 5] = 1
    return maps


def predict(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Answer as a model does that looks at the tumour and at nothing else."""
    tumor = pixels[CORNER].mean(axis=(1, 2, 3), dtype=np.float32) / 250
    return np.stack([1 - tumor, tumor], axis=1)


def test_a_map_of_what_the_model_looks_at() -> None:
    pixels, maps = draw_scans(), draw_maps()
    right = measure_areas(predict, pixels, maps)
    wrong = measure_areas(predict, pixels, -maps)
    assert right.deletion < 0.6  # blurred, half of it is left
    assert right.insertion > 0.95
    assert wrong.deletion == pytest.approx(right.insertion, abs=0.05)
    assert wrong.insertion == pytest.approx(right.deletion, abs=0.05)


def test_a_model_that_does_not_care() -> None:
    def say_the_same(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.tile(np.array([0.2, 0.8], np.float32), (len(pixels), 1))

    found = measure_areas(say_the_same, draw_scans(), draw_maps())
    assert (found.deletion, found.insertion) == pytest.approx((0.8, 0.8))


def test_next_to_what_knows_nothing() -> None:
    pixels, maps = draw_scans(), draw_maps()
    found = measure_faithfulness(predict, pixels, maps, maps)
    assert found.map.insertion > max(found.centre.insertion, found.random.insertion)
    assert found.map.deletion < min(found.centre.deletion, found.random.deletion)
    assert found.unlearned == pytest.approx(1)
    assert found.scans == 3


def test_a_card_holds_what_was_measured() -> None:
    found = measure_faithfulness(predict, draw_scans(), draw_maps(), -draw_maps())
    measured = draw_measurement(faithfulness=found, flips=0.75)
    again: Any = read_json(type(measured), write_json(measured))
    assert again == measured
    assert isinstance(again.faithfulness.centre, CurveAreas)


def test_maps_that_know_nothing() -> None:
    maps = np.random.default_rng(1).random((4, 7, 7), np.float32)
    centre, shuffled = draw_centre_maps(maps.shape), shuffle_maps(maps)
    assert [np.unravel_index(one.argmax(), one.shape) for one in centre] == [(3, 3)] * 4
    assert (np.sort(shuffled.reshape(4, -1)) == np.sort(maps.reshape(4, -1))).all()
    assert abs(compare_maps(maps, shuffled)) < 0.3
    assert (shuffled == shuffle_maps(maps)).all()


def test_how_alike_maps_are() -> None:
    maps = np.random.default_rng(1).random((4, 7, 7), np.float32)
    assert compare_maps(maps, maps**3) == pytest.approx(1)  # the order counts
    assert compare_maps(maps, -maps) == pytest.approx(-1)
    assert compare_maps(maps, np.zeros_like(maps)) == 0


def test_shuffled_weights_have_the_same_values() -> None:
    weights = [np.arange(12.0).reshape(3, 4), np.array([1.0, 2.0])]
    shuffled = shuffle_weights(weights)
    assert [one.shape for one in shuffled] == [(3, 4), (2,)]
    assert sorted(shuffled[0].ravel()) == sorted(weights[0].ravel())
    assert (shuffled[0] != weights[0]).any()


class TestFlips:
    CARD = draw_up_card(classes=("healthy", "tumor"), measurement=None)

    @pytest.fixture
    def regions(self) -> NDArray[np.uint8]:
        regions = np.zeros((3, SIZE, SIZE), np.uint8)
        regions[CORNER] = 1
        return regions

    def test_of_a_model_that_looks_at_the_region(self, regions: NDArray[np.uint8]) -> None:
        assert measure_flips(predict, self.CARD, draw_scans(), regions) == 1

    def test_of_one_that_does_not(self, regions: NDArray[np.uint8]) -> None:
        def look_elsewhere(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            return predict(np.roll(np.full_like(pixels, 250), 1))

        assert measure_flips(look_elsewhere, self.CARD, draw_scans(), regions) == 0

    def test_only_of_scans_with_a_mark_and_a_tumour(self, regions: NDArray[np.uint8]) -> None:
        pixels = draw_scans()
        pixels[0] = 90
        regions[1] = 0
        assert measure_flips(predict, self.CARD, pixels, regions) == 1
        assert measure_flips(predict, self.CARD, pixels[:2], regions[:2]) is None
