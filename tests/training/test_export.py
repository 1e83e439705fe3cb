from collections.abc import Callable
from pathlib import Path
from typing import Any

import openvino
import pytest

from tests.training.conftest import full_disk, run_graph
from training.export import ExportError, export_graph
from training.models import architecture

Exported = Any
COMMITTED = ("binary-cnn", "mobilenet-v2")


@pytest.mark.parametrize("name", COMMITTED)
class TestCommittedModels:
    def test_the_graph_takes_scans_as_they_are_prepared(
        self, name: str, exported: Callable[[str], Exported]
    ) -> None:
        graph = openvino.Core().read_model(exported(name).folder / "graph.xml")
        size = architecture(name).size
        (scans,) = graph.inputs
        assert scans.element_type == openvino.Type.u8
        assert str(scans.partial_shape) == f"[?,{size},{size},1]"
        assert {output.any_name for output in graph.outputs} == {
            "probabilities",
            "heatmap",
            "features",
        }
        assert {output.element_type for output in graph.outputs} == {openvino.Type.f32}

    def test_its_weights_take_two_bytes(
        self, name: str, exported: Callable[[str], Exported]
    ) -> None:
        graph = openvino.Core().read_model(exported(name).folder / "graph.xml")
        constants = [one for one in graph.get_ops() if one.get_type_name() == "Constant"]
        large = [one for one in constants if one.get_byte_size() > 10_000]
        assert large
        assert {one.get_element_type() for one in large} == {openvino.Type.f16}

    def test_a_batch_is_its_scans_one_by_one(
        self, name: str, exported: Callable[[str], Exported]
    ) -> None:
        one = exported(name)
        for row in (0, len(one.scans) - 1):
            alone = run_graph(one.folder, one.scans[row : row + 1])
            for output, values in alone.items():
                assert values[0] == pytest.approx(one.outputs[output][row], abs=1e-4), output


def test_the_kernel_after_flattening_is_stored_once(exported: Callable[[str], Exported]) -> None:
    one = exported("binary-cnn")
    stored = (one.folder / "graph.bin").stat().st_size
    assert stored == pytest.approx(2 * one.model.count_params(), rel=0.02)


def test_a_full_disk_is_an_error(tmp_path: Path, exported: Callable[[str], Exported]) -> None:
    model = exported("binary-cnn").folder / "model.keras"
    with (
        full_disk(100_000),
        pytest.raises(ExportError, match=r"could not be converted: \S+") as caught,
    ):
        export_graph(model, tmp_path)
    assert "Traceback" not in str(caught.value)
    assert "Traceback" in caught.value.__notes__[0]
