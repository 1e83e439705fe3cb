"""Makes a model's probabilities mean what they say: temperature scaling (Guo et al., 2017)."""

from collections.abc import Callable
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from training.half_precision import round_weights

_SMALLEST = 1e-7
_BOUNDS = (0.2, 5.0)  # smoothed labels want sharper answers


class Model(Protocol):
    """What answers for scans: a `keras.Model`, or what is called like one."""

    def predict(self, pixels: NDArray[np.uint8], *, batch_size: int, verbose: int) -> Any:
        """Give outputs of scans (scans, size, size, 1), 0 to 255: (scans, width)."""
        ...

    def count_params(self) -> int:
        """Count its weights."""
        ...


# Changes a model in place, so that its probabilities mean what they say, and gives the temperature
# that its logits are divided by. It takes the model, its answers to the validation part (float32,
# shape (scans, classes)) and the labels of that part (int64, shape (scans,)).
Calibrator = Callable[[Any, NDArray[np.float32], NDArray[np.int64]], float]


def scale_temperature(
    model: keras.Model, probabilities: NDArray[np.float32], labels: NDArray[np.int64]
) -> float:
    """Divide the logits of a network, within its last dense layer, and round its weights."""
    temperature = find_temperature(probabilities, labels)
    apply_temperature(model, temperature)
    round_weights(model)  # the last change: what is measured next is what will be served
    return temperature


def keep_probabilities(*_: object) -> float:
    """Leave a model as it is: its probabilities were fitted on the validation part already."""
    return 1.0


def find_temperature(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Find the temperature that makes held-out labels most likely.

    Args:
        probabilities: float32, shape (scans, classes), of the validation part.
        labels: int64, shape (scans,).

    Returns:
        The number that the logits are divided by, 0.2 to 5: above 1 the model was too sure of
        itself. It is 1 where no scan is wrong: then nothing speaks against any confidence.
    """
    if (probabilities.argmax(axis=1) == labels).all():
        return 1.0
    logits = np.log(np.clip(probabilities, _SMALLEST, 1.0))
    low, high = _BOUNDS
    return 1 / find_factor(logits, np.eye(logits.shape[1])[labels], (1 / high, 1 / low))


def find_factor(
    logits: NDArray[np.floating], targets: NDArray[np.float64], bounds: tuple[float, float]
) -> float:
    """Find the factor of logits, within bounds, that makes targets (scans, classes) most likely."""

    def mean_loss(logarithm: float) -> float:
        scaled = log_softmax(np.exp(logarithm) * logits, axis=1)
        return float(-(targets * scaled).sum(axis=1).mean())

    found = minimize_scalar(mean_loss, bounds=tuple(np.log(bounds)), method="bounded")
    return float(np.exp(found.x))


def apply_temperature(model: keras.Model, temperature: float) -> None:
    """Divide the logits of a model by the temperature, within its last dense layer."""
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel / temperature, bias / temperature])
