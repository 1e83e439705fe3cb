"""What runs a bundle's graph: prepared scans in, probabilities and heat maps out."""

import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from brainscan.bundle import Card

# Each function takes the processor threads of one inference (0: one for each core) and a graph
# ("auto", "fp16" or "int8"), and gives the function that opens a bundle. Its module imports the
# runtime, so it is loaded only where that engine is chosen.
_ENGINES = {
    "openvino": "brainscan.engine.openvino:use_openvino",
    "tensorflow": "brainscan.engine.tensorflow:use_tensorflow",
}


class EngineError(RuntimeError):
    """A bundle's files cannot be run; the message says why."""


class EngineUnavailableError(RuntimeError):
    """The packages of an engine are not installed; the message names the missing one."""


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a model says of a batch of scans.

    Attributes:
        probabilities: float32, shape (scans, classes), each row from 0 to 1 and summing to 1.
        heatmaps: float32, shape (scans, rows, columns), 0 to 1: what spoke for the most probable
            class, coarse and of the model's own size; None for a model without convolutions, and
            for one with lesion maps.
        lesions: float32, shape (scans, rows, columns), 0 to 1: where a tumour is, of the prepared
            scan; None for a model that was not taught that.
        features: float32, shape (scans, width): the means of feature maps of middle depths, for
            `brainscan.familiarity`; None where the graph does not give them.
    """

    probabilities: NDArray[np.float32]
    heatmaps: NDArray[np.float32] | None
    lesions: NDArray[np.float32] | None = None
    features: NDArray[np.float32] | None = None


class Engine(Protocol):
    """A loaded model. Several threads may call it at once.

    Attributes:
        precision: what it computes with: "fp16" for the graph as it was published, "int8" for the
            quantized one next to it, "keras" for `model.keras`.
    """

    precision: str

    def predict(self, pixels: NDArray[np.uint8]) -> Outputs:
        """Run the model on prepared scans: uint8, shape (scans, size, size, 1), 0 to 255."""
        ...


def predict_in_steps(
    run: Callable[[NDArray[np.uint8]], Outputs], pixels: NDArray[np.uint8], largest: int
) -> Outputs:
    """Run a model on any number of scans, at most `largest` at once, so that memory is bounded."""
    return join([run(pixels[start : start + largest]) for start in range(0, len(pixels), largest)])


def join(parts: Sequence[Outputs]) -> Outputs:
    """Put together what one model says of several batches, at least one."""
    if len(parts) == 1:
        return parts[0]

    def concatenate(arrays: list[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
        found = [array for array in arrays if array is not None]
        return np.concatenate(found) if found else None

    return Outputs(
        np.concatenate([part.probabilities for part in parts]),
        concatenate([part.heatmaps for part in parts]),
        concatenate([part.lesions for part in parts]),
        concatenate([part.features for part in parts]),
    )


# A bundle's folder and its card, verified → the engine that runs it.
OpenBundle = Callable[[Path, Card], Engine]


def choose_engine(name: str, threads: int = 0, graph: str = "auto") -> OpenBundle:
    """Give the function that opens a bundle on the engine of that name.

    Args:
        name: "openvino" or "tensorflow".
        threads: processor threads for one inference; 0 for one for each core.
        graph: "auto", "fp16" or "int8"; see `brainscan.engine.openvino.choose_precision`.

    Raises:
        EngineUnavailableError: the engine's packages are not installed.
    """
    try:
        use: Callable[[int, str], OpenBundle] = pkgutil.resolve_name(_ENGINES[name])
    except ImportError as error:
        raise EngineUnavailableError(f"The engine {name} cannot be used: {error}.") from error
    return use(threads, graph)
