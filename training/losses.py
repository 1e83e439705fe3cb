"""What networks are trained by, where Keras has nothing of the kind.

Where tumours whose kind is not named teach next to scans whose class is known, targets have one
column for each class and a last one for "a tumour, of whichever kind": what such a scan is to raise
is the sum of the probabilities of all kinds, and which of them stays the network's own choice
(learning from partial labels; Cour et al., 2011).
"""

from typing import Any

import keras
from keras import ops

_SMALLEST = 1e-7
_LEAST_SHARE = 1e-6


@keras.saving.register_keras_serializable("tumorapp")
class UnnamedTumorCrossentropy(keras.losses.Loss):
    """Cross-entropy of targets (batch, classes + 1) and probabilities (batch, classes).

    Where the last column is 0 it is `keras.losses.CategoricalCrossentropy`.

    Args:
        healthy: the class that a tumour is not.
        label_smoothing: how much of the target's certainty is spread over all classes.
        **options: as `keras.losses.Loss` takes them.
    """

    def __init__(self, healthy: int, label_smoothing: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.healthy, self.label_smoothing = healthy, label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Give the loss of each scan."""
        probabilities = ops.clip(y_pred, _SMALLEST, 1.0)
        targets = ops.cast(y_true, probabilities.dtype) * (1 - self.label_smoothing)
        named = targets[:, :-1] + self.label_smoothing / probabilities.shape[-1]
        any_kind = ops.clip(1 - probabilities[:, self.healthy], _SMALLEST, 1.0)
        known = ops.sum(named * ops.log(probabilities), axis=-1)
        return -known - targets[:, -1] * ops.log(any_kind)

    def get_config(self) -> dict[str, Any]:
        """Give what rebuilds the loss."""
        own = {"healthy": self.healthy, "label_smoothing": self.label_smoothing}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("tumorapp")
class UnnamedTumorAccuracy(keras.metrics.Mean):
    """The share of right answers; of a tumour without a name, any kind of tumour is right.

    Args:
        healthy: the class that a tumour is not.
        name: of its column in the history.
        **options: as `keras.metrics.Mean` takes them.
    """

    def __init__(self, healthy: int, name: str = "accuracy", **options: Any) -> None:
        super().__init__(name=name, **options)
        self.healthy = healthy

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Count the answers to a batch."""
        answers = ops.argmax(y_pred, axis=-1)
        named = ops.equal(answers, ops.argmax(y_true[:, :-1], axis=-1))
        right = ops.where(y_true[:, -1] > 0.5, ops.not_equal(answers, self.healthy), named)
        return super().update_state(ops.cast(right, "float32"), sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Give what rebuilds the metric."""
        return {**super().get_config(), "healthy": self.healthy}


@keras.saving.register_keras_serializable("tumorapp")
class LesionLoss(keras.losses.Loss):
    """Cross-entropy of lesion maps, tumours counted three times, and one minus Dice.

    Masks and maps are (batch, rows, columns), 0 to 1. A mask below zero says that nobody knows
    where the tumour is: the scan then teaches its map nothing. Dice counts only where there is one.

    Args:
        positives: how often a pixel of a tumour counts.
        weight: of the cross-entropy.
        **options: as `keras.losses.Loss` takes them.
    """

    def __init__(self, positives: float = 3.0, weight: float = 2.0, **options: Any) -> None:
        super().__init__(**options)
        self.positives, self.weight = positives, weight

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Give the loss of each scan."""
        places = (1, 2)
        known = ops.cast(ops.min(y_true, axis=places) >= 0, y_pred.dtype)
        mask = ops.maximum(y_true, 0.0)
        found = ops.clip(y_pred, _LEAST_SHARE, 1 - _LEAST_SHARE)
        entropy = self.positives * mask * ops.log(found) + (1 - mask) * ops.log(1 - found)
        shared = 2 * ops.sum(mask * found, axis=places) + 1
        dice = shared / (ops.sum(mask, axis=places) + ops.sum(found, axis=places) + 1)
        tumor = ops.cast(ops.max(mask, axis=places) > 0.5, y_pred.dtype)
        return known * (-self.weight * ops.mean(entropy, axis=places) + tumor * (1 - dice))

    def get_config(self) -> dict[str, Any]:
        """Give what rebuilds the loss."""
        own = {"positives": self.positives, "weight": self.weight}
        return {**super().get_config(), **own}
