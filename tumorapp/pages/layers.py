"""What the layers of a model see: the outputs of an early, a middle and a late one.

Of a network with a lesion map there is also each step of its decoder, which enlarges the maps
again. The served graph gives none of these. A copy of it that ends at these layers is compiled when
somebody first asks, and at most two such copies are kept.
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
        number: its place among the layers that give maps, or among the steps of the decoder, from
            1.
        count: how many of them the network has.
        maps: float32, shape (channels, rows, columns), of any range.
        decoder: whether it is a step of the decoder.
    """

    number: int
    count: int
    maps: NDArray[np.float32]
    decoder: bool = False


def read_layers(folder: Path, threads: int, pixels: NDArray[np.uint8]) -> list[Layer]:
    """Run a prepared scan through the first, the middle and the last layer that gives maps.

    Those of a decoder follow, one for each size that its maps have.

    Args:
        folder: the bundle's.
        threads: processor threads for one inference; 0 for one for each core.
        pixels: uint8, shape (size, size, 1).

    Raises:
        EngineError: the graph cannot be run, or has no convolutions.
    """
    with _running:
        try:
            places, request = _open_layers(folder / GRAPH_FILE, threads)
            request.infer(pixels[np.newaxis])
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot run a part of {GRAPH_FILE}: {error}") from error
        # Copied: they are in the request's own memory, which its next inference overwrites.
        found = [request.get_output_tensor(place).data[0].copy() for place in range(len(places))]
    return [
        Layer(number, count, maps, decoder)
        for (number, count, decoder), maps in zip(places, found, strict=True)
    ]


def choose_channels(maps: NDArray[np.float32], most: int) -> list[int]:
    """Choose the channels that vary most over the scan, those first: (channels, rows, columns)."""
    order = np.argsort(-maps.var(axis=(1, 2)), kind="stable")
    return [int(channel) for channel in order[:most]]


@lru_cache(maxsize=2)  # each is a few megabytes
def _open_layers(graph: Path, threads: int) -> tuple[list[tuple[int, int, bool]], Any]:
    """Compile a graph up to its last layers; gives number, count and decoder of each; a request."""
    import openvino

    core = openvino.Core()
    model = core.read_model(graph)
    operations = model.get_ordered_ops()
    refined = _find_refined(operations)
    encoder = _find_layers([one for one in operations if one.get_friendly_name() not in refined])
    if not encoder:
        raise EngineError("This model has no convolutions, so there are no maps to show.")
    chosen = _choose_spread(encoder)
    decoder = _find_layers([one for one in operations if one.get_friendly_name() in refined])
    steps = list({shape[1]: output for output, shape in decoder}.values())  # the last of each size
    # Only what leads to these outputs is compiled: the rest of the network costs nothing.
    outputs = [*(encoder[place][0] for place in chosen), *steps]
    part = openvino.Model(outputs, model.get_parameters())
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    request = core.compile_model(part, "CPU", settings).create_infer_request()
    places = [
        *((place + 1, len(encoder), False) for place in chosen),
        *((number, len(steps), True) for number in range(1, len(steps) + 1)),
    ]
    return places, request


def _find_refined(operations: list[Any]) -> set[str]:
    """Name the operations of a decoder: what follows where maps are enlarged."""
    refined: set[str] = set()
    for one in operations:  # each after those that it takes
        sources = [value.get_source_output().get_node() for value in one.inputs()]
        if one.get_type_name() == "Interpolate" or any(
            source.get_friendly_name() in refined for source in sources
        ):
            refined.add(one.get_friendly_name())
    return refined


def _find_layers(operations: list[Any]) -> list[tuple[Any, Any]]:
    """List the layers that give maps, each with their shape: after the activation if there is."""
    convolutions = list(_list_maps(operations, _CONVOLUTIONS))
    shapes = [shape for _, shape in convolutions]
    active = [one for one in _list_maps(operations, _ACTIVATIONS) if one[1] in shapes]
    return active or convolutions


def _choose_spread(found: list[tuple[Any, Any]]) -> list[int]:
    """Choose the places of the first layer, the middle one and the last."""
    rows = [shape[1] for _, shape in found]
    # In the middle by the size of its maps: a deep network soon makes them small.
    middle = min(range(len(rows)), key=lambda place: abs(rows[place] ** 2 - rows[0] * rows[-1]))
    return sorted({0, middle, len(rows) - 1})


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
