"""Makes a model's probabilities mean what they say: temperature scaling (Guo et al., 2017)."""

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

_SMALLEST = 1e-7
_BOUNDS = (0.5, 5.0)


def find_temperature(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Find the temperature that makes held-out labels most likely.

    Args:
        probabilities: float32, shape (scans, classes), of the validation part.
        labels: int64, shape (scans,).

    Returns:
        The number that the logits are divided by, 0.5 to 5: above 1 the model was too sure of
        itself. It is 1 where no scan is wrong: then nothing speaks against any confidence.
    """
    if (probabilities.argmax(axis=1) == labels).all():
        return 1.0
    logits = np.log(np.clip(probabilities, _SMALLEST, 1.0))
    rows = np.arange(len(labels))

    def mean_loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return float(-scaled[rows, labels].mean())

    found = minimize_scalar(mean_loss, bounds=tuple(np.log(_BOUNDS)), method="bounded")
    return float(np.exp(found.x))


def apply_temperature(model: keras.Model, temperature: float) -> None:
    """Divide the logits of a model by the temperature, within its last dense layer."""
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel / temperature, bias / temperature])


def predict_probabilities(
    model: keras.Model, pixels: NDArray[np.uint8], batch: int = 128
) -> NDArray[np.float32]:
    """Give the probabilities of all classes: float32, shape (scans, classes).

    A binary model's one sigmoid neuron becomes two columns, healthy and tumour.
    """
    outputs = np.asarray(model.predict(pixels, batch_size=batch, verbose=0), dtype=np.float32)
    return np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs
