import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from brainscan.bundle import BundleError, Card, publish_bundle, read_bundle
from brainscan.engine import EngineError, EngineUnavailableError, choose_engine
from brainscan.engine.openvino import BATCH, OpenVINOEngine, choose_precision
from tests.cards import GRAPHS, draw_up_card
from tests.conftest import write_graph
from tumorapp import create_app

PROJECT = Path(__file__).parents[2]
Publish = Callable[..., Path]
PAIR = ("fp16", "int8")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, publish_model: Publish) -> Path:
    return publish_model(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def engine(bundle: Path) -> OpenVINOEngine:
    return OpenVINOEngine(bundle)


def scans(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 64, 64, 1), np.uint8)


@pytest.mark.parametrize("count", [1, BATCH, BATCH + 1, 3 * BATCH - 1])
def test_a_batch_of_any_size(engine: OpenVINOEngine, count: int) -> None:
    pixels = scans(count)
    outputs = engine.predict(pixels)
    assert outputs.probabilities.shape == (count, 4)
    assert outputs.probabilities.dtype == np.float32
    np.testing.assert_allclose(outputs.probabilities.sum(axis=1), 1, atol=1e-5)
    assert outputs.heatmaps is not None
    assert outputs.heatmaps.shape[0] == count
    assert outputs.heatmaps.ndim == 3
    assert 0 <= outputs.heatmaps.min() <= outputs.heatmaps.max() <= 1
    for index in range(count):
        alone = engine.predict(pixels[index : index + 1])
        np.testing.assert_allclose(alone.probabilities[0], outputs.probabilities[index], atol=1e-5)
        np.testing.assert_allclose(alone.heatmaps[0], outputs.heatmaps[index], atol=1e-4)


def test_an_answer_is_not_overwritten_by_the_next(engine: OpenVINOEngine) -> None:
    first = engine.predict(scans(1, seed=1))
    kept = first.probabilities.copy()
    engine.predict(scans(1, seed=2))
    np.testing.assert_array_equal(first.probabilities, kept)


def test_several_threads_at_once(engine: OpenVINOEngine) -> None:
    batches = [scans(1 + seed % 5, seed) for seed in range(40)]
    expected = [engine.predict(batch).probabilities for batch in batches]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(engine.predict, batches))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.probabilities, other, atol=1e-5)


def test_a_bundle_that_is_removed_goes_on_until_it_is_no_longer_served(
    bundle: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(bundle, tmp_path / "copy")
    engine = OpenVINOEngine(folder)
    shutil.rmtree(folder)
    for count in (1, BATCH):
        assert len(engine.predict(scans(count)).probabilities) == count


def test_its_settings_are_applied(bundle: Path) -> None:
    engine = OpenVINOEngine(bundle, 1)
    compiled = engine._alone.compiled
    assert engine.threads == compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert str(compiled.get_property("INFERENCE_PRECISION_HINT")) == "<Type: 'float32'>"


def test_without_convolutions(tmp_path: Path, publish_model: Publish) -> None:
    engine = OpenVINOEngine(publish_model(tmp_path, feature_layer=None))
    assert engine.predict(scans(2)).heatmaps is None


def test_a_graph_without_probabilities(tmp_path: Path) -> None:
    import openvino
    from openvino import opset13 as ops

    scan = ops.parameter([-1, 64, 64, 1], np.uint8)
    openvino.save_model(openvino.Model([ops.relu(scan)], [scan]), tmp_path / "graph.xml")
    with pytest.raises(EngineError, match="no output named probabilities"):
        OpenVINOEngine(tmp_path)


@pytest.mark.parametrize("text", [None, "<net/>"])
def test_no_graph(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "graph.xml").write_text(text)
    with pytest.raises(EngineError, match=r"cannot run graph\.xml"):
        OpenVINOEngine(tmp_path)


def test_tensorflow_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "brainscan.engine.tensorflow", raising=False)
    monkeypatch.setitem(sys.modules, "keras", None)  # as if it were not installed
    with pytest.raises(EngineUnavailableError, match="engine tensorflow"):
        choose_engine("tensorflow", 0)


class TestPrecision:
    """Which graph of a bundle is run."""

    @pytest.mark.parametrize(
        ("wanted", "flags", "expected"),
        [
            ("auto", "avx2 avx512_vnni fma", "int8"),
            ("auto", "avx_vnni", "int8"),
            ("auto", "avx2 fma", "fp16"),
            ("auto", None, "fp16"),
            ("int8", "avx2", "int8"),
            ("fp16", "avx512_vnni", "fp16"),
        ],
    )
    def test_of_a_bundle_with_both(
        self,
        wanted: str,
        flags: str | None,
        expected: str,
        make_card: Callable[..., Card],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        if flags is not None:
            (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : fpu {flags} sse\n")
        monkeypatch.setattr("brainscan.engine.openvino._PROCESSOR", tmp_path / "cpuinfo")
        assert choose_precision(make_card(graphs=GRAPHS), wanted) == expected

    def test_int8_is_no_default_where_many_answers_change(
        self, make_card: Callable[..., Card]
    ) -> None:
        graphs = replace(GRAPHS, int8=replace(GRAPHS.int8, other_answers=0.02))
        card = make_card(graphs=graphs)
        assert choose_precision(card, "auto") == "fp16"
        assert choose_precision(card, "int8") == "int8"

    @pytest.fixture
    def both(self, tmp_path: Path) -> Path:
        """A bundle that has its graph under both names."""

        def write_both(folder: Path, card: Card) -> None:
            write_graph(folder, card)
            for kind in ("xml", "bin"):
                shutil.copy(folder / f"graph.{kind}", folder / f"graph-int8.{kind}")

        return publish_bundle(
            tmp_path, draw_up_card(graphs=GRAPHS, graph_difference=1e-4), write_both
        )

    def test_the_chosen_graph_answers(self, both: Path, tmp_path: Path) -> None:
        card = read_bundle(both)
        write_graph(tmp_path, draw_up_card(feature_layer=None))
        for kind in ("xml", "bin"):  # so that one can tell them apart
            shutil.copy(tmp_path / f"graph.{kind}", both / f"graph-int8.{kind}")
        for graph in PAIR:
            engine = choose_engine("openvino", 1, graph)(both, card)
            assert engine.precision == graph
            assert (engine.predict(scans(1)).heatmaps is None) == (graph == "int8")

    def test_the_models_say_what_answers(self, both: Path) -> None:
        for graph in PAIR:
            client = create_app({"MODELS_DIR": both.parents[1], "GRAPH": graph}).test_client()
            [listed] = client.get("/api/models").get_json()["models"]
            assert listed["precision"] == graph
            page = client.get("/models/mobilenet-v2/1").text
            *_, shown = page.split(f"<dt>{graph} graph</dt>")
            assert "This one is served." in shown.split("</dd>")[0]
            assert page.count("This one is served.") == 1

    def test_one_that_the_card_does_not_vouch_for(
        self, tmp_path: Path, publish_model: Publish
    ) -> None:
        with pytest.raises(BundleError, match=r"SHA256SUMS lists no graph-int8\.bin"):
            read_bundle(publish_model(tmp_path, graphs=GRAPHS))
