"""`flask models quantize` as a person types it; `tests/training/test_quantize.py` has the rest."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import Result
from flask import Flask

from brainscan.bundle import Card, Parts, installed_versions, publish_bundle
from brainscan.scan import ScanSpecification
from tests.cards import draw_measurement, draw_training
from tests.training.test_quantize import SIZE, write_graph
from training.data.dataset import load_dataset
from training.data.split import split_scans
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


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Pictures that are all different, in two classes."""
    random = np.random.default_rng(0)
    for number in range(40):
        folder = tmp_path / "scans" / ("yes", "no")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture = cv2.resize(random.uniform(0, 255, (6, 6)), (64, 64))
        cv2.imwrite(str(folder / f"{number}.png"), picture.astype(np.uint8))
    return tmp_path / "scans"


def test_both_graphs_are_measured_and_published(
    scans: Path, tmp_path: Path, make_card: Callable[..., Card]
) -> None:
    root = tmp_path / "models"
    app = create_app({"MODELS_DIR": root})
    app.instance_path = str(tmp_path / "instance")
    found = load_dataset([scans], ScanSpecification(SIZE), tmp_path / "cache", binary=True)
    split = split_scans(found, "random-80-20", 0)
    card = make_card(
        "binary-cnn",
        training=draw_training(seed=0, manifest=found.manifest),
        measurement=draw_measurement(
            ("healthy", "tumor"), protocol="random-80-20", parts=Parts(**split.sizes)
        ),
    )
    publish_bundle(root, card, write_graph)
    result = run(app, "binary-cnn", "--data", str(scans))
    assert result.exit_code == 0, result.output
    assert installed_versions(root) == {"binary-cnn": [1, 2]}
    *_, fp16, int8, published = result.stdout.splitlines()
    assert fp16.startswith("fp16: accuracy 0.")
    assert int8.startswith("int8: accuracy 0.")
    assert published.startswith(f"Published {root / 'binary-cnn/2'}. ")
