"""`flask models quantize` as a person types it; `tests/training/test_quantize.py` has the rest."""

from collections.abc import Callable
from pathlib import Path

from click.testing import Result
from flask import Flask

from brainscan.bundle import Card, installed_versions, publish_bundle
from tests.training.test_quantize import publish_trained, write_graph
from training.quantize import ACCEPTED_DIFFERENCE
from tumorapp import create_app


def run(app: Flask, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(args=["models", "quantize", *arguments])


def test_help(app: Flask) -> None:
    result = run(app, "--help")
    assert result.exit_code == 0
    assert "within 0.2 points" in result.output
    assert f"differ by at most {ACCEPTED_DIFFERENCE} on average" in " ".join(result.output.split())


def test_a_model_that_is_not_installed(app: Flask) -> None:
    result = run(app, "resnet18", "--data", "scans")
    assert result.exit_code == 1
    assert result.output == (
        "Error: No good version of resnet18 is installed. Installed: binary-cnn, mobilenet-v2.\n"
    )


def test_a_version_that_was_changed(models_dir: Path) -> None:
    (models_dir / "binary-cnn/1/graph.xml").write_text("changed")
    result = run(create_app({"MODELS_DIR": models_dir}), "binary-cnn", "--data", "scans")
    assert "No good version of binary-cnn is installed" in result.output


def test_a_model_without_training_data(tmp_path: Path, make_card: Callable[..., Card]) -> None:
    card = make_card("binary-cnn", measurement=None, training=None)
    publish_bundle(tmp_path / "models", card, write_graph)
    app = create_app({"MODELS_DIR": tmp_path / "models"})
    result = run(app, "binary-cnn", "--data", "scans")
    assert result.exit_code == 1
    assert "names no training data: it was imported" in result.output


def test_nothing_to_read(app: Flask) -> None:
    assert run(app, "binary-cnn").exit_code == 2


def test_both_graphs_are_measured_and_published(phantom_tree: Path, tmp_path: Path) -> None:
    root = tmp_path / "models"
    app = create_app({"MODELS_DIR": root})
    app.instance_path = str(tmp_path / "instance")
    publish_trained(root, phantom_tree, tmp_path / "cache")
    config = tmp_path / "training.yaml"  # of `flask train`
    config.write_text(f"model: binary-cnn\nprotocol: grouped\ndata: {phantom_tree}\n")
    result = run(app, "binary-cnn", "--config", str(config))
    assert result.exit_code == 0, result.output
    assert installed_versions(root) == {"binary-cnn": [1, 2]}
    *_, fp16, int8, published = result.stdout.splitlines()
    assert fp16.startswith("fp16: accuracy 0.")
    assert int8.startswith("int8: accuracy 0.")
    assert published.startswith(f"Published {root / 'binary-cnn/2'}. ")
