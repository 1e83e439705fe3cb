"""What a lesion map is trained by."""

from typing import Any

import keras
from keras import ops

_SMALLEST = 1e-6


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
        found = ops.clip(y_pred, _SMALLEST, 1 - _SMALLEST)
        entropy = self.positives * mask * ops.log(found) + (1 - mask) * ops.log(1 - found)
        shared = 2 * ops.sum(mask * found, axis=places) + 1
        dice = shared / (ops.sum(mask, axis=places) + ops.sum(found, axis=places) + 1)
        tumor = ops.cast(ops.max(mask, axis=places) > 0.5, y_pred.dtype)
        return known * (-self.weight * ops.mean(entropy, axis=places) + tumor * (1 - dice))

    def get_config(self) -> dict[str, Any]:
        """Give what rebuilds the loss."""
        own = {"positives": self.positives, "weight": self.weight}
        return {**super().get_config(), **own}
