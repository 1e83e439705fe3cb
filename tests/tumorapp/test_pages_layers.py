"""Which layers of a graph are shown, and what they saw."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from openvino import opset1
from openvino import opset13 as ops

from brainscan.engine import EngineError
from tumorapp.pages.layers import choose_channels, read_layers

SIZE = 32
PIXELS = np.random.default_rng(3).integers(0, 256, (SIZE, SIZE, 1), np.uint8)
INSTALLED = Path(__file__).parents[2] / "instance" / "models"

Make = Callable[[Any], Any]


def convolve(source: Any, channels: int, kernel: int = 3, stride: int = 1) -> Any:
    inputs = source.output(0).get_partial_shape()[1].get_length()
    weights = np.random.default_rng(channels).normal(size=(channels, inputs, kernel, kernel))
    padding = [kernel // 2] * 2
    return ops.convolution(
        source, weights.astype(np.float32), [stride] * 2, padding, padding, [1, 1]
    )


def save_graph(folder: Path, make: Make) -> Path:
    """Save a network whose layers `make` adds to its input: (scans, 1, rows, columns)."""
    scans = ops.parameter([-1, SIZE, SIZE, 1], np.uint8, name="scans")
    last = make(ops.transpose(ops.convert(scans, "f32"), [0, 3, 1, 2]))
    probabilities = ops.softmax(ops.reduce_mean(last, [2, 3]), 1)
    openvino.save_model(openvino.Model([probabilities], [scans]), folder / "graph.xml")
    return folder / "graph.xml"


def bias(source: Any) -> Any:
    channels = source.output(0).get_partial_shape()[1].get_length()
    return ops.add(source, np.full((1, channels, 1, 1), 0.5, np.float32))


def two_convolutions(source: Any) -> Any:
    """The course's network: two convolutions, two max-pools."""
    for channels in (4, 6):
        source = ops.relu(bias(convolve(source, channels, kernel=5)))
        source = opset1.max_pool(source, [2, 2], [0, 0], [0, 0], [2, 2])
    return source


def four_convolutions(source: Any) -> Any:
    for channels, stride in ((4, 2), (5, 2), (6, 2), (7, 1)):
        source = ops.clamp(convolve(source, channels, stride=stride), -100, 100)
    return source


def with_a_shortcut(source: Any) -> Any:
    before = ops.relu(convolve(source, 4))
    return ops.relu(ops.add(bias(convolve(before, 4)), before))


def with_channel_attention(source: Any) -> Any:
    """Convolutions on a single cell weigh the channels; they give no picture."""
    maps = ops.relu(convolve(source, 4))
    weights = ops.sigmoid(convolve(ops.reduce_mean(maps, [2, 3], True), 4, kernel=1))
    return ops.multiply(maps, weights)


def without_activations(source: Any) -> Any:
    return convolve(convolve(source, 4), 6)


def shape_of(folder: Path, size: int = SIZE) -> list[tuple[int, ...]]:
    seen = read_layers(folder, 0, np.resize(PIXELS, (size, size, 1)))
    return [(layer.number, layer.count, *layer.maps.shape[:2]) for layer in seen]


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (two_convolutions, [(1, 2, 4, 32), (2, 2, 6, 16)]),
        (four_convolutions, [(1, 4, 4, 16), (2, 4, 5, 8), (4, 4, 7, 4)]),
        (with_a_shortcut, [(1, 2, 4, 32), (2, 2, 4, 32)]),
        (with_channel_attention, [(1, 1, 4, 32)]),
        (without_activations, [(1, 2, 4, 32), (2, 2, 6, 32)]),
    ],
)
def test_any_architecture(tmp_path: Path, make: Make, shown: Any) -> None:
    save_graph(tmp_path, make)
    assert shape_of(tmp_path) == shown


def with_a_decoder(source: Any) -> Any:
    """Halves the maps twice and enlarges them again, joined by those of the same size."""
    fine = ops.relu(convolve(source, 4, stride=2))
    coarse = ops.relu(convolve(fine, 6, stride=2))
    larger = ops.interpolate(
        coarse,
        [16, 16],
        "linear_onnx",
        "sizes",
        axes=[2, 3],
        coordinate_transformation_mode="half_pixel",
    )
    joined = ops.add(larger, convolve(fine, 6, kernel=1))
    return ops.relu(convolve(ops.relu(convolve(joined, 5)), 3, kernel=1))


def test_the_steps_of_a_decoder_follow(tmp_path: Path) -> None:
    save_graph(tmp_path, with_a_decoder)
    seen = read_layers(tmp_path, 0, PIXELS)
    found = [(one.decoder, one.number, one.count, one.maps.shape) for one in seen]
    assert found == [
        (False, 1, 2, (4, 16, 16)),
        (False, 2, 2, (6, 8, 8)),
        (True, 1, 1, (3, 16, 16)),
    ]


def test_maps_are_those_after_the_activation_and_stay(tmp_path: Path) -> None:
    save_graph(tmp_path, two_convolutions)
    first, second = read_layers(tmp_path, 1, PIXELS)
    assert first.maps.min() == second.maps.min() == 0
    kept = first.maps.copy()
    read_layers(tmp_path, 1, 255 - PIXELS)
    np.testing.assert_array_equal(first.maps, kept)


@pytest.mark.parametrize(("text", "reason"), [(None, "no convolutions"), ("<net/>", r"graph\.xml")])
def test_a_graph_without_layers(tmp_path: Path, text: str | None, reason: str) -> None:
    graph = save_graph(tmp_path, lambda source: source)
    if text:
        graph.write_text(text)
    with pytest.raises(EngineError, match=reason):
        read_layers(tmp_path, 0, PIXELS)


def test_channels_that_vary_most() -> None:
    maps = np.zeros((4, 2, 2), np.float32)
    maps[1, 0, 0], maps[3, 0, 0], maps[2] = 5, 9, 100
    assert choose_channels(maps, 3) == [3, 1, 0]


@pytest.mark.parametrize(
    ("name", "size", "shown"),
    [
        ("binary-cnn", 96, [(1, 2, 32, 96), (2, 2, 64, 24)]),
    ],
)
def test_the_installed_models(name: str, size: int, shown: list[tuple[int, ...]]) -> None:
    [*_, folder] = sorted((INSTALLED / name).glob("[0-9]*"))
    found = shape_of(folder, size)
    assert [found[0], found[-1]] == shown
