import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, softmax

from training.calibrate import apply_temperature, find_temperature
from training.evaluate import calibration_error


def draw_outcomes(
    temperature: float, classes: int, scans: int = 20_000
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Give probabilities that are that much too sure, and what really came out."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (scans, classes))
    truth = softmax(logits, axis=1).cumsum(axis=1)
    labels = (random.uniform(size=(scans, 1)) > truth).sum(axis=1)
    return softmax(logits * temperature, axis=1).astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_is_found(temperature: float, classes: int) -> None:
    found = find_temperature(*draw_outcomes(temperature, classes))
    assert found == pytest.approx(temperature, rel=0.05)


def test_calibration_takes_the_error_away_and_keeps_the_guesses() -> None:
    probabilities, labels = draw_outcomes(3.0, 4)
    logits = np.log(np.clip(probabilities, 1e-7, 1))
    calibrated = softmax(logits / find_temperature(probabilities, labels), axis=1)
    assert calibration_error(probabilities, labels) > 0.1
    assert calibration_error(calibrated, labels) < 0.02
    assert np.array_equal(calibrated.argmax(axis=1), probabilities.argmax(axis=1))


def test_a_part_without_mistakes_does_not_end_in_certainty() -> None:
    labels = np.arange(40) % 2
    probabilities = np.where(np.eye(2)[labels], 0.9, 0.1).astype(np.float32)
    assert find_temperature(probabilities, labels) == 1


def build(outputs: int) -> keras.Model:
    keras.utils.set_random_seed(1)
    activation = "sigmoid" if outputs == 1 else "softmax"
    scans = keras.layers.Input((8, 8, 1))
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(scans))
    hidden = keras.layers.Dense(16, "relu")(flat)
    last = keras.layers.Dense(outputs, activation, bias_initializer="normal")(hidden)
    return keras.Model(scans, last)


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1), np.uint8)


def test_one_neuron_is_divided_within_its_logit(pixels: NDArray[np.uint8]) -> None:
    model = build(1)
    before = np.asarray(model(pixels), np.float64)
    apply_temperature(model, 2.0)
    logit = np.log(before / (1 - before))
    assert np.asarray(model(pixels)) == pytest.approx(expit(logit / 2), abs=1e-5)


def test_several_classes_are_divided_within_their_logits(pixels: NDArray[np.uint8]) -> None:
    model = build(4)
    before = np.asarray(model(pixels), np.float64)
    apply_temperature(model, 0.5)
    assert np.asarray(model(pixels)) == pytest.approx(softmax(np.log(before) / 0.5, 1), abs=1e-5)
