"""What a lesion network learns from: batches, variations, the loss, and how maps are measured."""

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from brainscan.bundle import LesionMap
from training.data.outlines import Outline
from training.data.split import Part
from training.data.task import Task
from training.lesion.augment import Augmentation, Sample, crop_tumor
from training.lesion.batches import UNKNOWN, LesionBatches
from training.lesion.measure import measure_pointing
from training.losses import LesionLoss
from training.models import Recipe

SIZE = 64
TASK = Task(("glioma", "notumor"))
CORNERS = np.array([[0.5, 0.25], [0.75, 0.25], [0.75, 0.5], [0.5, 0.5]])
SQUARE: Outline = (CORNERS,)


def draw_scan() -> NDArray[np.uint8]:
    scan = np.full((SIZE, SIZE), 90, np.uint8)
    scan[16:32, 32:48] = 240
    return scan


def make_part(outlines: list[Outline | None], labels: list[int]) -> Part:
    pixels = np.stack([draw_scan()] * len(labels))[..., np.newaxis]
    numbers = np.array(labels, np.int64)
    return Part(pixels, numbers, np.arange(len(labels)), tuple(outlines))


def test_what_is_known_of_each_scan() -> None:
    part = make_part([SQUARE, None, ()], [0, 0, 1])
    pixels, targets = LesionBatches(part, TASK, Recipe(), 3)[0]
    assert (pixels == part.inputs).all()
    outlined, unknown, blank = targets["lesion"]
    assert outlined.shape == (SIZE // 4, SIZE // 4)
    assert outlined[6, 10] == 1
    assert outlined[0, 0] == 0
    assert (unknown == UNKNOWN).all()
    assert (blank == 0).all()
    assert targets["probabilities"].tolist() == [[1, 0], [1, 0], [0, 1]]


def test_an_epoch_is_the_same_for_the_same_seed() -> None:
    part = make_part([SQUARE, None, ()] * 4, [0, 0, 1] * 4)
    recipe = Recipe(drawn=16)
    one, other = (LesionBatches(part, TASK, recipe, 16, seed=3, epoch=2) for _ in range(2))
    assert (one[0][0] == other[0][0]).all()
    assert (one[0][0] != LesionBatches(part, TASK, recipe, 16, seed=3)[0][0]).any()
    assert LesionBatches(part, TASK, Recipe(drawn=16, augmentation=0), 16, seed=3)[0][1][
        "probabilities"
    ].sum(axis=0).tolist() == [8, 8]  # as many of each class


def test_scan_and_mask_move_together() -> None:
    mask = np.where(draw_scan() > 200, 255, 0).astype(np.uint8)
    random = np.random.default_rng(0)
    plain = Augmentation(crops=0, drawn=0, turns=0.5)
    for _ in range(20):
        found = plain.vary(Sample(draw_scan(), mask), random, outlined=True, healthy=False)
        bright = found.pixels[found.mask > 250].mean()
        assert bright > found.pixels[found.mask == 0].mean() + 20


def test_a_crop_without_the_tumor_shows_none_of_it() -> None:
    mask = np.where(draw_scan() > 200, 255, 0).astype(np.uint8)
    random = np.random.default_rng(1)
    found = [crop_tumor(Sample(draw_scan(), mask), random, lesion_free=True) for _ in range(30)]
    free = [one for one in found if one.lesion_free]
    assert free
    assert max(one.pixels.max() for one in free) < 200
    kept = [crop_tumor(Sample(draw_scan(), mask), random, lesion_free=False) for _ in range(30)]
    assert all(one.mask.any() and not one.lesion_free for one in kept)


def test_the_loss_of_a_map() -> None:
    mask = np.zeros((1, 4, 4), np.float32)
    mask[0, :2, :2] = 1
    loss = LesionLoss()
    right, blank = float(loss(mask, mask)), float(loss(mask, 0 * mask))
    assert right == pytest.approx(0, abs=1e-4)
    assert blank > 1
    assert float(loss(np.full_like(mask, UNKNOWN), mask)) == 0
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert float(again(mask, 0 * mask)) == pytest.approx(blank)


def test_a_map_that_points_at_the_tumor() -> None:
    part = make_part([SQUARE, None, (), ()], [0, 0, 1, 1])
    maps = np.zeros((4, 16, 16), np.float32)
    maps[0, 4:8, 8:12] = 0.9
    maps[2, 3, 3] = 0.7
    found = measure_pointing(maps, part.inputs, part.outlines, LesionMap(0.5, 0.6))
    assert found is not None
    assert (found.peak, found.scans, found.marked_healthy) == (1, 1, 0.5)
    assert found.energy > 0.8
    assert found.dice is not None
    assert found.dice > 0.8
    assert found.centre == 0  # the square lies next to it
    assert found.random == pytest.approx(1 / 16, rel=0.2)


def test_nothing_is_marked_where_the_answer_is_no_tumor() -> None:
    part = make_part([SQUARE, SQUARE, ()], [0, 0, 1])
    maps = np.zeros((3, 16, 16), np.float32)
    maps[:, 4:8, 8:12] = 0.9
    seen = np.array([True, False, False])
    found = measure_pointing(maps, part.inputs, part.outlines, LesionMap(0.5, 0.6), seen)
    assert found is not None
    assert (found.peak, found.marked_healthy) == (1, 0)
    assert 0.4 < found.dice < 0.5


def test_a_coarse_map_that_marks_nothing() -> None:
    part = make_part([SQUARE], [0])
    found = measure_pointing(np.ones((1, 2, 2), np.float32), part.inputs, part.outlines)
    assert found is not None
    assert (found.dice, found.marked_healthy) == (None, None)
    assert measure_pointing(np.ones((1, 2, 2), np.float32), part.inputs, [None]) is None
