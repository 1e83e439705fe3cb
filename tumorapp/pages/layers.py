"""What the layers of a model see: the outputs of its convolutions, for the page that explains it.

The served graph gives probabilities and a heat map only. A copy of it that ends at the chosen
convolutions is compiled when somebody first asks, and at most two such copies are kept.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainscan.bundle import Card
from brainscan.bundle.store import GRAPH_FILE

MOST_READERS = 2

_CONVOLUTIONS = ("Convolution", "GroupConvolution")
_POOLINGS = ("MaxPool", "AvgPool")
# What may lie between a convolution and its activation: a bias, a normalisation, a shortcut.
_BETWEEN = ("Add", "BatchNormInference", "Multiply", "Subtract")
_ACTIVATIONS = (
    "Clamp",  # ReLU6
    "Elu",
    "Gelu",
    "HSwish",
    "Mish",
    "PRelu",
    "Relu",
    "Selu",
    "SoftPlus",
    "Swish",
    "Tanh",
)


class LayersError(Exception):
    """A model's layers cannot be shown; the message says why."""


@dataclass(frozen=True)
class Layer:
    """A convolution, and what comes out of it after its activation.

    Attributes:
        number: its place among the convolutions of the network, from 1.
        kernel: rows and columns of its kernels.
        channels: how many maps it gives.
        rows, columns: of each map.
    """

    number: int
    kernel: tuple[int, int]
    channels: int
    rows: int
    columns: int


@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """What a layer saw in one scan: float32, shape (channels, rows, columns), of any range."""

    layer: Layer
    maps: NDArray[np.float32]


class LayerReader:
    """A model's graph up to its last convolution, compiled.

    Args:
        graph: the bundle's graph.xml.
        threads: processor threads for one inference; 0 for one for each core.

    Attributes:
        convolutions: how many the network has.
        poolings: how many poolings of neighbouring cells it has.
        layers: an early, a middle and the last convolution, or fewer where there are fewer.

    Raises:
        LayersError: the graph cannot be read, or has no convolutions.
    """

    def __init__(self, graph: Path, threads: int = 0) -> None:
        import openvino

        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        core = openvino.Core()
        try:
            model = core.read_model(graph)
            operations = model.get_ordered_ops()
            found = _find_layers(operations)
            chosen = _choose(found)
            # Only what leads to these outputs is compiled: the rest of the network costs nothing.
            part = openvino.Model([output for _, output in chosen], model.get_parameters())
            self._request = core.compile_model(part, "CPU", settings).create_infer_request()
        except RuntimeError as error:
            raise LayersError(f"OpenVINO cannot run a part of {GRAPH_FILE}: {error}") from error
        self._running = Lock()
        self.convolutions = sum(_has_maps(one) for one in _select(operations, _CONVOLUTIONS))
        self.poolings = sum(1 for _ in _select(operations, _POOLINGS))
        self.layers = tuple(layer for layer, _ in chosen)

    def read(self, pixels: NDArray[np.uint8]) -> list[FeatureMaps]:
        """Run a prepared scan, uint8, shape (size, size, 1), through the layers.

        Raises:
            LayersError: the graph cannot be run.
        """
        with self._running:
            try:
                self._request.infer(pixels[np.newaxis])
            except RuntimeError as error:
                raise LayersError(f"OpenVINO cannot run {GRAPH_FILE}: {error}") from error
            # Copied: they are in the request's own memory, which its next inference overwrites.
            return [
                FeatureMaps(layer, self._request.get_output_tensor(place).data[0].copy())
                for place, layer in enumerate(self.layers)
            ]


class LayerReaders:
    """The readers of the models that were asked for last, at most two: each is a few megabytes.

    Args:
        models_dir: folder of `<name>/<version>/`.
        threads: processor threads for one inference; 0 for one for each core.
    """

    def __init__(self, models_dir: Path, threads: int = 0) -> None:
        self._models_dir = models_dir
        self._threads = threads
        self._readers: OrderedDict[tuple[str, int], LayerReader] = OrderedDict()
        self._opening = Lock()

    def get(self, card: Card) -> LayerReader:
        """Give the reader of a model; opens it on first use.

        Raises:
            LayersError: its graph cannot be read, or has no convolutions.
        """
        key = card.name, card.version
        with self._opening:
            reader = self._readers.pop(key, None)
            if reader is None:
                folder = self._models_dir / card.name / str(card.version)
                reader = LayerReader(folder / GRAPH_FILE, self._threads)
            self._readers[key] = reader
            if len(self._readers) > MOST_READERS:
                self._readers.popitem(last=False)
        return reader


def choose_channels(maps: NDArray[np.float32], most: int) -> list[int]:
    """Choose the channels that vary most over the scan, those first: (channels, rows, columns)."""
    order = np.argsort(-maps.var(axis=(1, 2)), kind="stable")
    return [int(channel) for channel in order[:most]]


def _find_layers(operations: Sequence[Any]) -> list[tuple[Layer, Any]]:
    """Find the convolutions with an activation behind them, and that activation's output.

    Where none has one, the convolutions themselves. Those on a single cell (the channel attention
    of EfficientNet) give no picture and are left out.
    """
    every, active = [], []
    convolutions = (one for one in _select(operations, _CONVOLUTIONS) if _has_maps(one))
    for number, convolution in enumerate(convolutions, start=1):
        shape = convolution.output(0).get_partial_shape()
        kernel = convolution.input_value(1).get_partial_shape().to_shape()[-2:]
        sizes = [shape[axis].get_length() for axis in (1, 2, 3)]
        layer = Layer(number, (int(kernel[0]), int(kernel[1])), *sizes)
        every.append((layer, convolution.output(0)))
        activation = _find_activation(convolution)
        if activation is not None:
            active.append((layer, activation))
    return active or every


def _select(operations: Iterable[Any], kinds: Sequence[str]) -> Iterable[Any]:
    return (one for one in operations if one.get_type_name() in kinds)


def _has_maps(convolution: Any) -> bool:
    """Tell whether a convolution gives maps of a known size and of more than one cell."""
    shape = convolution.output(0).get_partial_shape()
    if shape.rank.is_dynamic or len(shape) != 4 or any(shape[i].is_dynamic for i in (1, 2, 3)):
        return False
    return bool(shape[2].get_length() > 1 and shape[3].get_length() > 1)


def _find_activation(convolution: Any) -> Any | None:
    """Follow a convolution to its activation; None where it has none of its own."""
    output = convolution.output(0)
    shape = output.get_partial_shape()
    while True:
        consumers = [one.get_node() for one in output.get_target_inputs()]
        kinds = sorted(one.get_type_name() for one in consumers)
        if kinds == ["Multiply", "Sigmoid"]:  # Swish, written out
            product = next(one for one in consumers if one.get_type_name() == "Multiply")
            return product.output(0)
        if len(consumers) != 1:
            return None
        following = consumers[0]
        if following.output(0).get_partial_shape() != shape:
            return None
        if kinds[0] in _ACTIVATIONS:
            return following.output(0)
        if kinds[0] not in _BETWEEN:
            return None
        output = following.output(0)


def _choose(found: Sequence[tuple[Layer, Any]]) -> Sequence[tuple[Layer, Any]]:
    """Choose the first layer, the last, and the one whose maps are between theirs in size.

    Raises:
        LayersError: there is none.
    """
    if not found:
        raise LayersError("This model has no convolutions, so there are no maps to show.")
    if len(found) < 3:
        return found
    first, *inner, last = found
    between = math.sqrt(first[0].rows * last[0].rows)
    middle = min(inner, key=lambda one: abs(math.log(one[0].rows / between)))
    return [first, middle, last]
