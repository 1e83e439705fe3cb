from pathlib import Path

import keras
import numpy as np
import pytest

from training.losses import UnnamedTumorAccuracy, UnnamedTumorCrossentropy

HEALTHY = 2
PROBABILITIES = np.array(
    [[0.7, 0.1, 0.1, 0.1], [0.2, 0.2, 0.5, 0.1], [0.3, 0.3, 0.1, 0.3]], np.float32
)
ANY = 4  # the column of a tumour without a name


def one_hot(*columns: int) -> np.ndarray:
    return np.eye(5, dtype=np.float32)[list(columns)]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_of_named_scans_it_is_cross_entropy(smoothing: float) -> None:
    targets = one_hot(0, 2, 3)
    usual = keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)
    ours = UnnamedTumorCrossentropy(HEALTHY, smoothing)
    expected = float(usual(targets[:, :4], PROBABILITIES))
    assert float(ours(targets, PROBABILITIES)) == pytest.approx(expected, abs=1e-6)


def test_of_a_tumour_without_a_name_the_kinds_are_one() -> None:
    loss = UnnamedTumorCrossentropy(HEALTHY, reduction="none")
    found = np.asarray(loss(one_hot(ANY, ANY, ANY), PROBABILITIES))
    assert found == pytest.approx(-np.log([0.9, 0.5, 0.9]), abs=1e-6)


def test_a_blend_is_the_blend_of_both_losses() -> None:
    loss = UnnamedTumorCrossentropy(HEALTHY, reduction="none")
    named, unnamed = one_hot(0, 1, 3), one_hot(ANY, ANY, ANY)
    blended = loss(0.25 * named + 0.75 * unnamed, PROBABILITIES)
    apart = 0.25 * loss(named, PROBABILITIES) + 0.75 * loss(unnamed, PROBABILITIES)
    assert np.asarray(blended) == pytest.approx(np.asarray(apart), abs=1e-6)


def test_certainty_is_finite() -> None:
    certain = np.eye(4, dtype=np.float32)[[HEALTHY, 0]]
    assert np.isfinite(float(UnnamedTumorCrossentropy(HEALTHY)(one_hot(ANY, HEALTHY), certain)))


def test_any_kind_is_right_for_a_tumour_without_a_name() -> None:
    accuracy = UnnamedTumorAccuracy(HEALTHY)
    accuracy.update_state(one_hot(0, ANY, ANY), PROBABILITIES)  # right, called healthy, right
    assert float(accuracy.result()) == pytest.approx(2 / 3)
    accuracy.update_state(one_hot(1), PROBABILITIES[:1])
    assert float(accuracy.result()) == pytest.approx(2 / 4)


def test_both_are_kept_with_a_model(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "softmax")])
    model.compile(
        "sgd", UnnamedTumorCrossentropy(HEALTHY, 0.1), metrics=[UnnamedTumorAccuracy(HEALTHY)]
    )
    model.save(tmp_path / "model.keras")
    inputs = np.ones((3, 3), np.float32)
    expected = model.evaluate(inputs, one_hot(0, 2, ANY), verbose=0)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(inputs, one_hot(0, 2, ANY), verbose=0) == pytest.approx(expected)
