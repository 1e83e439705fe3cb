"""What runs a bundle's graph: prepared scans in, probabilities and heat maps out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class EngineError(RuntimeError):
    """A bundle's files cannot be run; the message says why."""


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a model says of a batch of scans.

    Attributes:
        probabilities: float32, shape (scans, classes), each row from 0 to 1 and summing to 1.
        heatmaps: float32, shape (scans, rows, columns), 0 to 1: what spoke for the most probable
            class, coarse and of the model's own size; None for a model without convolutions.
    """

    probabilities: NDArray[np.float32]
    heatmaps: NDArray[np.float32] | None


class Engine(Protocol):
    """A loaded model. Several threads may call it at once.

    Attributes:
        precision: what it computes with: "fp16" for the graph as it was published, "int8" for the
            quantized one beside it, "keras" for `model.keras`.
    """

    precision: str

    def predict(self, pixels: NDArray[np.uint8]) -> Outputs:
        """Run the model on prepared scans: uint8, shape (scans, size, size, 1), 0 to 255."""
        ...


def predict_in_steps(
    run: Callable[[NDArray[np.uint8]], Outputs], pixels: NDArray[np.uint8], largest: int
) -> Outputs:
    """Run a model on any number of scans, at most `largest` at once, so that memory is bounded."""
    if len(pixels) <= largest:
        return run(pixels)
    parts = [run(pixels[start : start + largest]) for start in range(0, len(pixels), largest)]
    heatmaps = [part.heatmaps for part in parts if part.heatmaps is not None]
    return Outputs(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate(heatmaps) if heatmaps else None,
    )
