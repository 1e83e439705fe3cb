"""What is refused and what passes, on features and on phantoms."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from brainscan.engine.gradcam import ServedModel
from brainscan.familiarity import Familiarity
from brainscan.scan import ScanSpecification
from training.data.sources import DataError
from training.data.split import Part
from training.pictures import draw_pictures
from training.refuse import (
    compute_features,
    fit_familiarity,
    fit_refusal,
    gather_pictures,
    measure_refusal,
    weigh_pictures,
)
from training.strangers import vary_scan

pytestmark = pytest.mark.usefixtures("few_pictures")

WIDTH = 6


def draw_features(seed: int, scans: int = 400, shift: float = 0.0) -> NDArray[np.float32]:
    """Give features of two groups of scans; shifted ones are along a direction of their own."""
    random = np.random.default_rng(seed)
    found = random.normal(size=(scans, WIDTH)) * [3, 1, 1, 1, 1, 0.1]
    found[::2, 0] += 10
    return (found + shift * np.eye(WIDTH)[1]).astype(np.float32)


def test_strangers_pass_and_pictures_do_not() -> None:
    """CT lies as near as strange scans do, in a direction of its own, which examples show."""
    labels = np.arange(400) % 2
    ct, far = draw_features(2, 80, -5.0), draw_features(3, 80) * np.float32(8)
    pictures = np.concatenate([ct, far])
    weights = np.full(len(pictures), 1 / len(pictures))
    strange = draw_features(4, shift=4.0)
    found = fit_familiarity(
        draw_features(0), labels, pictures, weights, [draw_features(1), strange]
    )
    assert (found.measure(draw_features(5)) > 1).mean() <= 0.04
    assert (found.measure(draw_features(6, shift=4.0)) > 1).mean() <= 0.04
    assert (found.measure(draw_features(7, shift=-5.0)) > 1).mean() > 0.6
    alone = Familiarity(found.centres, found.whitening)
    assert (alone.measure(draw_features(7, shift=-5.0)) > 1).mean() < 0.2
    unseen = draw_features(8)
    unseen[:, 5] += 5  # a direction in which neither scans nor pictures differ
    assert (found.measure(unseen) > 1).all()


def test_familiarity_is_read_as_it_was_written(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = (random.normal(size=shape).astype(np.float32) for shape in ((2, 4), (4, 3), 4))
    for one in (Familiarity(*arrays, bias=0.25), Familiarity(np.zeros((1, 4)), np.eye(4))):
        one.write(tmp_path)
        features = random.normal(size=(5, 4)).astype(np.float32)
        assert Familiarity.read(tmp_path).measure(features) == pytest.approx(one.measure(features))


def test_real_pictures_weigh_as_much_as_those_that_are_drawn(tmp_path: Path) -> None:
    for number, (_, picture) in enumerate(draw_pictures(8, 0)):
        (tmp_path / "ct").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / f"ct/{number}.png"), picture)
    (tmp_path / "ct/notes.txt").write_text("no picture")
    scans = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), np.uint8)
    found = gather_pictures([tmp_path / "ct"], scans, ScanSpecification(32), 0)
    assert found.kinds[:8] == ("ct",) * 8
    assert {"photograph", "text", "noise", "montage"} <= set(found.kinds[8:])
    assert found.pixels.shape[1:] == (32, 32, 1)
    weights = weigh_pictures(found)
    assert weights[:8] == pytest.approx(np.full(8, 1 / 16))
    assert weights.sum() == pytest.approx(1)


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no picture that can be read\. --refuse takes"):
        gather_pictures([tmp_path], np.zeros((1, 32, 32, 1), np.uint8), ScanSpecification(32), 0)


def test_features_are_those_of_the_served_graph(
    build_lesion_network: Callable[[], keras.Model],
) -> None:
    model = build_lesion_network()
    scans = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 1), np.uint8)
    features = compute_features(model, scans)
    served = ServedModel(model)(tf.constant(scans, tf.float32))["features"].numpy()
    assert features == pytest.approx(served, abs=1e-4)


def test_heads_are_recognised_and_pictures_refused(
    build_lesion_network: Callable[[], keras.Model], draw_phantoms: Callable[..., Any]
) -> None:
    model = build_lesion_network()
    parts = []
    for seed, count in enumerate((300, 100, 100)):
        scans, labels = draw_phantoms(count, seed=seed)
        parts.append(Part(scans, labels, np.arange(count)))
    training, validation, test = parts
    pictures = gather_pictures([], training.inputs, ScanSpecification(32), 0)
    found = measure_refusal(
        model, fit_refusal(model, training, validation, pictures, 0), test.inputs
    )
    assert found.scans <= 0.05
    assert found.pictures["text"].refused > 0.8
    assert sum(one.pictures for one in found.pictures.values()) == len(pictures[1::2].kinds)


def test_a_varied_scan_is_a_scan(draw_phantoms: Callable[..., Any]) -> None:
    random = np.random.default_rng(0)
    scans, _ = draw_phantoms(60, size=48)
    varied = np.stack([vary_scan(random, scan) for scan in scans])
    assert (varied.shape, varied.dtype) == (scans.shape, np.uint8)
    assert (varied != scans).any(axis=(1, 2, 3)).all()
    assert (varied.std(axis=(1, 2, 3)) > 5).all()
