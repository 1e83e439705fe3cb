"""What the layers of a model see: the outputs of an early, a middle and a late one.

The served graph gives probabilities and a heat map only. A copy of it that ends at these layers is
compiled when somebody first asks, and at most two such copies are kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainscan.bundle.store import GRAPH_FILE
from brainscan.engine import EngineError

_CONVOLUTIONS = ("Convolution", "GroupConvolution")
# Clamp is ReLU6.
_ACTIVATIONS = ("Clamp", "Elu", "Gelu", "HSwish", "Mish", "PRelu", "Relu", "Selu", "Swish", "Tanh")
_running = Lock()


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer, and what it saw in one scan.

    Attributes:
        number: its place among the layers that give maps, from 1.
        count: how many of them the network has.
        maps: float32, shape (channels, rows, columns), of any range.
    """

    number: int
    count: int
    maps: NDArray[np.float32]


def read_layers(folder: Path, threads: int, pixels: NDArray[np.uint8]) -> list[Layer]:
    """Run a prepared scan through the first, the middle and the last layer that gives maps.

    Args:
        folder: the bundle's.
        threads: processor threads for one inference; 0 for one for each core.
        pixels: uint8, shape (size, size, 1).

    Raises:
        EngineError: the graph cannot be run, or has no convolutions.
    """
    with _running:
        try:
            numbers, count, request = _open_layers(folder / GRAPH_FILE, threads)
            request.infer(pixels[np.newaxis])
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot run a part of {GRAPH_FILE}: {error}") from error
        # Copied: they are in the request's own memory, which its next inference overwrites.
        found = [request.get_output_tensor(place).data[0].copy() for place in range(len(numbers))]
    return [Layer(number, count, maps) for number, maps in zip(numbers, found, strict=True)]


def choose_channels(maps: NDArray[np.float32], most: int) -> list[int]:
    """Choose the channels that vary most over the scan, those first: (channels, rows, columns)."""
    order = np.argsort(-maps.var(axis=(1, 2)), kind="stable")
    return [int(channel) for channel in order[:most]]


@lru_cache(maxsize=2)  # each is a few megabytes
def _open_layers(graph: Path, threads: int) -> tuple[list[int], int, Any]:
    """Compile a graph up to its last layer; gives the chosen layers, their count, and a request."""
    import openvino

    core = openvino.Core()
    model = core.read_model(graph)
    operations = model.get_ordered_ops()
    convolutions = list(_list_maps(operations, _CONVOLUTIONS))
    shapes = [shape for _, shape in convolutions]
    active = [one for one in _list_maps(operations, _ACTIVATIONS) if one[1] in shapes]
    found = active or convolutions
    if not found:
        raise EngineError("This model has no convolutions, so there are no maps to show.")
    rows = [shape[1] for _, shape in found]
    # In the middle by the size of its maps: a deep network soon makes them small.
    middle = min(range(len(rows)), key=lambda place: abs(rows[place] ** 2 - rows[0] * rows[-1]))
    chosen = sorted({0, middle, len(rows) - 1})
    # Only what leads to these outputs is compiled: the rest of the network costs nothing.
    part = openvino.Model([found[place][0] for place in chosen], model.get_parameters())
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    request = core.compile_model(part, "CPU", settings).create_infer_request()
    return [place + 1 for place in chosen], len(found), request


def _list_maps(operations: list[Any], kinds: tuple[str, ...]) -> Iterator[tuple[Any, Any]]:
    """List the outputs of operations of some kinds, each with the shape of its maps.

    Those of a single cell (the channel attention of EfficientNet) give no picture and are left out.
    """
    for one in operations:
        output = one.output(0)
        shape = output.get_partial_shape()
        if one.get_type_name() in kinds and len(shape) == 4:
            channels, rows, columns = (shape[axis].get_length() for axis in (1, 2, 3))
            if rows > 1 and columns > 1:
                yield output, (channels, rows, columns)
