"""An int8 graph beside a bundle's own: NNCF itself, on a network that gains by it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from brainscan.bundle import Card, GraphFigures, Graphs, Parts, publish_bundle, read_bundle
from brainscan.bundle.manifest import read_manifest
from brainscan.engine.openvino import OpenVINOEngine
from brainscan.scan import ScanSpecification
from tests.cards import GRAPHS, draw_measurement, draw_training, draw_up_card
from training.data.dataset import load_dataset
from training.data.split import split_scans
from training.quantize import QuantizationError, check_gain, quantize_bundle

SIZE = 48
MakeCard = Callable[..., Card]


def write_graph(folder: Path, _card: Card) -> None:
    """Write a network whose second convolution takes nearly all of its time."""
    random = np.random.default_rng(7)
    scans = ops.parameter([-1, SIZE, SIZE, 1], np.uint8, name="scans")
    maps = ops.divide(ops.convert(ops.transpose(scans, [0, 3, 1, 2]), "f32"), np.float32(255))
    for inputs, outputs in ((1, 64), (64, 128)):
        kernel = random.normal(size=(outputs, inputs, 3, 3)).astype(np.float32) / 8
        ends, step = [1, 1], [1, 1]
        maps = ops.relu(ops.convolution(maps, kernel, step, ends, ends, step))
    kernel = random.normal(size=(128, 2)).astype(np.float32)
    probabilities = ops.softmax(ops.matmul(ops.reduce_mean(maps, [2, 3]), kernel, False, False), 1)
    probabilities.output(0).set_names({"probabilities"})
    heat = ops.reduce_mean(maps, [1])
    heat = ops.divide(heat, ops.add(ops.reduce_max(heat, [1, 2], True), np.float32(1e-6)))
    heat.output(0).set_names({"heatmap"})
    openvino.save_model(openvino.Model([probabilities, heat], [scans]), folder / "graph.xml")
    (folder / "report").mkdir()
    (folder / "report/README.md").write_text("# binary-cnn, version 1\n\nMeasured once.\n")


def publish_trained(root: Path, tree: Path, cache: Path) -> Path:
    """Publish the network as if it had been trained on a tree of phantoms."""
    found = load_dataset([tree], ScanSpecification(SIZE), cache, binary=True)
    split = split_scans(found, "grouped", 0)
    training = draw_training(seed=0, manifest=found.manifest, command="flask train --data phantoms")
    measured = draw_measurement(("healthy", "tumor"), parts=Parts(**split.sizes))
    card = draw_up_card("binary-cnn", training=training, measurement=measured)
    return publish_bundle(root, card, write_graph)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, phantom_tree: Path, cache: Path) -> Path:
    return publish_trained(tmp_path_factory.mktemp("models"), phantom_tree, cache)


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """What quantizing says as it goes."""
    return []


@pytest.fixture(scope="module")
def quantized(bundle: Path, phantom_tree: Path, cache: Path, lines: list[str]) -> Path:
    return quantize_bundle(bundle, (phantom_tree,), cache, tell=lines.append)


def test_both_graphs_are_published_as_a_new_version(
    bundle: Path, quantized: Path, lines: list[str]
) -> None:
    folder = quantized
    assert folder == bundle.parent / "2"
    before, card = read_bundle(bundle), read_bundle(folder)
    added = {"graph-int8.xml", "graph-int8.bin"}
    assert read_manifest(folder).keys() == read_manifest(bundle).keys() | added
    assert replace(card, version=1, graphs=None) == before
    report = (folder / "report/README.md").read_text()
    assert report.startswith("# binary-cnn, version 2\n\nMeasured once.\n\n## The int8 graph\n")
    fp16, int8 = card.graphs.fp16, card.graphs.int8
    assert 0 < int8.milliseconds < fp16.milliseconds
    assert int8.accuracy >= fp16.accuracy - 0.002
    assert 0 < int8.largest_difference < 0.05
    assert lines[0].startswith("2 of 2 convolutions in int8")
    text = (folder / "graph-int8.xml").read_text()
    assert 'element_type="i8"' in text
    again = openvino.Core().read_model(folder / "graph-int8.xml")
    assert {name for output in again.outputs for name in output.names} == {
        "probabilities",
        "heatmap",
    }
    assert again.input(0).get_element_type() == openvino.Type.u8


def test_the_int8_graph_answers_nearly_as_the_other(quantized: Path) -> None:
    scans = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 1), np.uint8)
    first, second = (
        OpenVINOEngine(quantized, 1, precision).predict(scans) for precision in ("fp16", "int8")
    )
    np.testing.assert_allclose(first.probabilities, second.probabilities, atol=0.1)
    assert first.heatmaps is not None
    correlation = np.corrcoef(first.heatmaps.ravel(), second.heatmaps.ravel())[0, 1]
    assert correlation > 0.98


def test_a_version_that_has_an_int8_graph_is_given_a_new_one(
    quantized: Path, phantom_tree: Path, cache: Path
) -> None:
    folder = quantize_bundle(quantized, (phantom_tree,), cache)
    assert read_manifest(folder).keys() == read_manifest(quantized).keys()
    assert (folder / "report/README.md").read_text().count("## The int8 graph") == 1


def test_other_scans_than_those_of_the_training(
    bundle: Path, tmp_path: Path, cache: Path, grow_tree: Callable[..., Path]
) -> None:
    tree = grow_tree(tmp_path / "others", {"Healthy": 20, "Brain Tumor": 20}, seed=1)
    with pytest.raises(QuantizationError, match=r"not the scans(.|\n)*flask train --data phantoms"):
        quantize_bundle(bundle, (tree,), cache)


def test_an_imported_model(tmp_path: Path, make_card: MakeCard) -> None:
    imported = publish_bundle(
        tmp_path, make_card("binary-cnn", training=None, measurement=None), write_graph
    )
    with pytest.raises(QuantizationError, match="it was imported"):
        quantize_bundle(imported, (tmp_path,), tmp_path)


@pytest.mark.parametrize(
    ("accuracy", "milliseconds"), [(0.9479, 0.5), (0.95, 1.0), (0.95, 1.2), (float("nan"), 0.5)]
)
def test_a_graph_that_is_not_good_enough(
    accuracy: float, milliseconds: float, make_card: MakeCard
) -> None:
    int8 = replace(GRAPHS.int8, accuracy=accuracy, milliseconds=milliseconds)
    graphs = Graphs(GraphFigures(0.95, 1.0), int8)
    with pytest.raises(QuantizationError, match=r"binary-cnn/1 is not good enough.*0\.9500 and 1"):
        check_gain(make_card("binary-cnn"), graphs)


def test_a_graph_that_is(make_card: MakeCard) -> None:
    good = replace(GRAPHS.int8, accuracy=0.9485, milliseconds=0.5)
    check_gain(make_card(), Graphs(GraphFigures(0.95, 1.0), good))


@pytest.mark.parametrize(("bound", "value"), [("DIFFERENCE", 0), ("LOSS", -1)])
def test_the_reason_why_no_graph_will_do(
    bound: str,
    value: float,
    bundle: Path,
    phantom_tree: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(f"training.quantize.ACCEPTED_{bound}", value)
    message = r"The nearest loses -?0\.\d{4} of accuracy.* differ by 0\.\d{4} on average"
    with pytest.raises(QuantizationError, match=message):
        quantize_bundle(bundle, (phantom_tree,), cache)
