"""A published model in the formats of other programs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainscan.bundle import installed_versions, read_bundle
from training import interchange
from training.export import ExportError
from training.interchange import FORMATS, convert, export_model
from tumorapp.cli.models import export_command

MODELS = Path(__file__).parents[2] / "instance/models"


def find(name: str) -> Path:
    return MODELS / name / str(installed_versions(MODELS)[name][-1])


@pytest.fixture
def convert_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare each export a process that loads TensorFlow."""
    monkeypatch.setattr(interchange, "run_apart", lambda _module, *arguments: convert(*arguments))


def test_the_choices_on_offer_are_those_there_are() -> None:
    [option] = [one for one in export_command.params if one.name == "kind"]
    assert list(option.type.choices) == list(FORMATS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("lesion-lite0", "onnx"),
        ("binary-cnn", "savedmodel"),
        ("binary-cnn", "tflite"),
        ("lesion-lite0", "openvino"),
    ],
)
def test_it_answers_as_the_served_graph_does(
    name: str, kind: str, tmp_path: Path, convert_here: None
) -> None:
    bundle = find(name)
    card = read_bundle(bundle)
    target, difference = export_model(bundle, card, kind, tmp_path / "out")
    assert target == tmp_path / "out" / f"{name}-{card.version}{FORMATS[kind].ending}"
    assert target.exists()
    assert difference < 1e-3
    with pytest.raises(ExportError, match=r"is there already. Remove it"):
        export_model(bundle, card, kind, tmp_path / "out")


def test_other_answers_are_refused_and_nothing_is_left(
    tmp_path: Path, convert_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def predict(*_: Any) -> Any:
        return type("Outputs", (), {"probabilities": np.full((8, 2), 2.0), "lesions": None})

    monkeypatch.setattr("training.interchange.OpenVINOEngine.predict", predict)
    bundle = find("binary-cnn")
    with pytest.raises(ExportError, match=r"answers otherwise by .* Nothing was written"):
        export_model(bundle, read_bundle(bundle), "savedmodel", tmp_path)
    assert list(tmp_path.iterdir()) == []
