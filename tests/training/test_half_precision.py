from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from numpy.typing import NDArray

from training.half_precision import round_weights


def normalise(**settings: Any) -> layers.BatchNormalization:
    return layers.BatchNormalization(epsilon=1e-3, **settings)


def disturb(model: keras.Model) -> None:
    """Give every normalisation statistics of its own."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            width = layer.moving_mean.shape
            gamma = [random.uniform(0.5, 2, width)] * layer.scale
            beta = [random.normal(size=width)] * layer.center
            statistics = [random.normal(size=width), random.uniform(0.5, 2, width)]
            layer.set_weights([*gamma, *beta, *statistics])


def predict(model: keras.Model) -> NDArray[np.float32]:
    scans = np.random.default_rng(1).uniform(0, 1, (4, 12, 12, 3)).astype(np.float32)
    return np.asarray(model(scans))


BLOCKS = {
    "convolution": [layers.Conv2D(6, 3, use_bias=False), normalise()],
    "convolution with bias": [layers.Conv2D(6, 3, bias_initializer="normal"), normalise()],
    "depthwise": [layers.DepthwiseConv2D(3, depth_multiplier=2), normalise()],
    "rectified in between": [layers.Conv2D(6, 3, activation="relu"), normalise()],
    "nothing to fold into": [layers.MaxPooling2D(2), normalise()],
    "without gamma": [layers.Conv2D(6, 3, use_bias=False), normalise(scale=False)],
    "without gamma or convolution": [layers.MaxPooling2D(2), normalise(scale=False)],
    "without beta": [layers.Conv2D(6, 3), normalise(center=False)],
    "separable": [layers.SeparableConv2D(6, 3), normalise()],
    "normalised by layers": [layers.Conv2D(6, 3), layers.LayerNormalization()],
    "dense": [layers.Flatten(), layers.Dense(6), normalise()],
}


@pytest.mark.parametrize("block", BLOCKS)
def test_folding_changes_nothing_but_rounding(block: str) -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([layers.Input((12, 12, 3)), *map(copy, BLOCKS[block])])
    disturb(model)
    before = predict(model)
    round_weights(model)
    assert predict(model) == pytest.approx(before, abs=0.01)
    assert before.std() > 0.1


def copy(layer: keras.Layer) -> keras.Layer:
    return type(layer).from_config(layer.get_config())


def test_a_convolution_that_others_read_too_is_left_alone() -> None:
    keras.utils.set_random_seed(0)
    scans = layers.Input((12, 12, 3))
    shared = layers.Conv2D(6, 3)(scans)
    model = keras.Model(scans, layers.Add()([shared, normalise()(shared)]))
    disturb(model)
    before = predict(model)
    round_weights(model)
    assert predict(model) == pytest.approx(before, abs=0.01)


def test_the_scale_without_a_gamma_goes_into_the_convolution() -> None:
    model = keras.Sequential(
        [layers.Input((12, 12, 3)), layers.Conv2D(6, 3), normalise(scale=False)]
    )
    disturb(model)
    round_weights(model)
    _, mean, variance = model.layers[-1].get_weights()
    assert (mean == 0).all()
    assert variance == pytest.approx(np.full(6, 1 - 1e-3))


def test_the_statistics_of_pixels_are_left_alone() -> None:
    model = keras.Sequential([layers.Input((12, 12, 3)), layers.Normalization()])
    layer = model.layers[-1]
    layer.set_weights([np.array([0.485, 0.456, 0.406]), np.array([0.05] * 3), np.int32(0)])
    before = layer.get_weights()
    round_weights(model)
    for ours, theirs in zip(before, layer.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)


def test_twice_is_once() -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([layers.Input((12, 12, 3)), layers.Conv2D(6, 3), normalise()])
    disturb(model)
    round_weights(model)
    weights = model.get_weights()
    round_weights(model)
    for before, after in zip(weights, model.get_weights(), strict=True):
        assert after == pytest.approx(before, abs=1e-6)


@pytest.mark.parametrize("value", [70_000.0, np.inf, np.nan])
def test_a_diverged_model_is_refused(value: float) -> None:
    model = keras.Sequential([layers.Input((4,)), layers.Dense(2)])
    kernel, bias = model.get_weights()
    kernel[1, 1] = value
    model.set_weights([kernel, bias])
    with pytest.raises(ValueError, match="training has diverged"):
        round_weights(model)
