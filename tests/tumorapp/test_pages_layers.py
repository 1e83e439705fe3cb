"""Which layers of a graph are shown, and what they saw."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from openvino import opset1
from openvino import opset13 as ops

from brainscan.bundle import Card
from tumorapp.pages.layers import (
    MOST_READERS,
    LayerReader,
    LayerReaders,
    LayersError,
    choose_channels,
)

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


def with_swish(source: Any) -> Any:
    maps = bias(convolve(source, 4))
    return ops.multiply(maps, ops.sigmoid(maps))


def with_channel_attention(source: Any) -> Any:
    """Convolutions on a single cell weigh the channels; they give no picture."""
    maps = ops.relu(convolve(source, 4))
    weights = ops.sigmoid(convolve(ops.reduce_mean(maps, [2, 3], True), 4, kernel=1))
    return ops.multiply(maps, weights)


def without_activations(source: Any) -> Any:
    return convolve(convolve(source, 4), 6)


def shape_of(reader: LayerReader) -> list[tuple[int, int, int]]:
    return [(layer.number, layer.channels, layer.rows) for layer in reader.layers]


@pytest.mark.parametrize(
    ("make", "convolutions", "poolings", "shown"),
    [
        (two_convolutions, 2, 2, [(1, 4, 32), (2, 6, 16)]),
        (four_convolutions, 4, 0, [(1, 4, 16), (2, 5, 8), (4, 7, 4)]),
        (with_a_shortcut, 2, 0, [(1, 4, 32), (2, 4, 32)]),
        (with_swish, 1, 0, [(1, 4, 32)]),
        (with_channel_attention, 1, 0, [(1, 4, 32)]),
        (without_activations, 2, 0, [(1, 4, 32), (2, 6, 32)]),
    ],
)
def test_any_architecture(
    tmp_path: Path, make: Make, convolutions: int, poolings: int, shown: Any
) -> None:
    reader = LayerReader(save_graph(tmp_path, make))
    assert shape_of(reader) == shown
    assert (reader.poolings, reader.convolutions) == (poolings, convolutions)
    seen = reader.read(PIXELS)
    assert [one.layer for one in seen] == list(reader.layers)
    for one in seen:
        layer = one.layer
        assert one.maps.shape == (layer.channels, layer.rows, layer.columns)
        assert np.isfinite(one.maps).all()
        assert np.ptp(one.maps) > 0


def test_maps_are_those_after_the_activation(tmp_path: Path) -> None:
    first, second = LayerReader(save_graph(tmp_path, two_convolutions)).read(PIXELS)
    assert first.layer.kernel == (5, 5)
    assert first.maps.min() == second.maps.min() == 0
    [swish] = LayerReader(save_graph(tmp_path, with_swish)).read(PIXELS)
    assert -0.3 < swish.maps.min() < 0


def test_what_was_read_stays(tmp_path: Path) -> None:
    reader = LayerReader(save_graph(tmp_path, two_convolutions))
    before = reader.read(PIXELS)[0].maps
    kept = before.copy()
    reader.read(255 - PIXELS)
    np.testing.assert_array_equal(before, kept)


def test_a_network_without_convolutions(tmp_path: Path) -> None:
    graph = save_graph(tmp_path, lambda source: source)
    with pytest.raises(LayersError, match="no convolutions"):
        LayerReader(graph)


def test_a_damaged_graph(tmp_path: Path) -> None:
    (tmp_path / "graph.xml").write_text("<net/>")
    with pytest.raises(LayersError, match=r"graph\.xml"):
        LayerReader(tmp_path / "graph.xml")


def test_few_readers_are_kept(
    tmp_path: Path, publish_model: Callable[..., Path], make_card: Callable[..., Card]
) -> None:
    cards = [make_card("mobilenet-v2", version=version) for version in range(1, MOST_READERS + 2)]
    for _ in cards:
        publish_model(tmp_path, "mobilenet-v2")
    readers = LayerReaders(tmp_path)
    first = readers.get(cards[0])
    assert readers.get(cards[0]) is first
    for card in cards[1:]:
        readers.get(card)
    assert readers.get(cards[-1]) is readers.get(cards[-1])
    assert readers.get(cards[0]) is not first


def test_channels_that_vary_most() -> None:
    maps = np.zeros((4, 2, 2), np.float32)
    maps[1, 0, 0], maps[3, 0, 0], maps[2] = 5, 9, 100
    assert choose_channels(maps, 3) == [3, 1, 0]


@pytest.mark.parametrize(
    ("name", "shown"),
    [("binary-cnn", [(1, 32, 96), (2, 64, 24)]), ("mobilenet-v2", [(1, 32, 88), (52, 1280, 6)])],
)
def test_the_installed_models(name: str, shown: list[tuple[int, int, int]]) -> None:
    folders = sorted((INSTALLED / name).glob("[0-9]*"))
    if not folders:
        pytest.skip(f"{name} is not installed")
    found = shape_of(LayerReader(folders[-1] / "graph.xml"))
    assert [found[0], found[-1]] == shown
