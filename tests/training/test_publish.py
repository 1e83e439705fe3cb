"""Publishing, with the real conversion, on a network that is small enough to make it go wrong."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from brainscan.bundle import (
    Card,
    Decision,
    LesionMap,
    PublishError,
    Refusal,
    installed_versions,
    publish_bundle,
    read_bundle,
)
from brainscan.bundle.manifest import read_manifest
from brainscan.familiarity import Familiarity
from brainscan.scan import ScanSpecification
from tests.cards import draw_measurement
from tests.conversion import converting_here
from tests.training.conftest import full_disk, run_graph
from training.calibrate import apply_temperature
from training.half_precision import round_weights
from training.publish import AGREEMENT, publish


def build_dense(kernel: NDArray[np.float32] | None = None) -> keras.Model:
    """Flatten and Dense: no convolution, so no heat map."""
    keras.utils.set_random_seed(0)
    scans = keras.layers.Input((16, 16, 1))
    pixels = keras.layers.Rescaling(1 / 255)(scans)
    dense = keras.layers.Dense(2, "softmax")
    model = keras.Model(scans, dense(keras.layers.Flatten()(pixels)))
    if kernel is not None:
        dense.set_weights([kernel, np.zeros(2, np.float32)])
    return model


def draw_scans() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (12, 16, 16, 1), np.uint8)


def write_graph(folder: Path, card: Card) -> None:
    for name in ("graph.xml", "graph.bin"):
        (folder / name).write_text(f"version {card.version}")


def write_report(folder: Path, card: Card) -> None:
    folder.mkdir()
    (folder / "README.md").write_text(f"{card.name} {card.version} {card.measurement}")


def write_report_and_die(folder: Path, card: Card) -> None:
    write_report(folder, card)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def models(tmp_path: Path, dense_card: Card) -> Path:
    """A folder of bundles with one version in it."""
    root = tmp_path / "models"

    publish_bundle(root, dense_card, write_graph)
    return root


@pytest.fixture(scope="session")
def dense_card() -> Card:
    fields: dict[str, Any] = {
        "name": "dense",
        "version": 1,
        "classes": ["healthy", "tumor"],
        "scan": {"size": 16, "crop": True},
        "architecture": "one layer",
        "parameters": 514,
        "feature_layer": None,
        "created": "2026-11-21",
        "training": None,
        "measurement": None,
        "intended_use": "tests",
        "limits": "all",
        "sources": [],
        "files": {},
        "format": 1,
    }
    return Card.from_json(json.dumps(fields))


def assert_untouched(root: Path) -> None:
    """Assert that the first version is all there is, and whole."""
    assert installed_versions(root) == {"dense": [1]}
    assert read_bundle(root / "dense/1").version == 1


def test_a_bundle_holds_model_graph_report_and_card(models: Path, dense_card: Card) -> None:
    model, scans = build_dense(), draw_scans()
    folder = publish(model, dense_card, scans, models, write_report)
    assert folder == models / "dense/2"
    card = read_bundle(folder)
    files = {"card.json", "graph.xml", "graph.bin", "model.keras", "report/README.md"}
    assert set(read_manifest(folder)) == files
    assert card.version == 2
    assert card.feature_layer is None
    assert 0 <= card.graph_difference <= AGREEMENT
    report = (folder / "report/README.md").read_text()
    assert report == f"dense 2 {card.measurement}"
    expected = model.predict(scans, verbose=0)
    again = keras.models.load_model(folder / "model.keras")
    assert again.predict(scans, verbose=0) == pytest.approx(expected, abs=1e-6)
    outputs = run_graph(folder, scans)
    assert set(outputs) == {"probabilities"}
    assert outputs["probabilities"] == pytest.approx(expected, abs=AGREEMENT)
    assert not list(models.glob(".staging-*/"))


def test_a_network_with_a_lesion_map(
    tmp_path: Path, dense_card: Card, build_lesion_network: Callable[[], keras.Model]
) -> None:
    """Calibrated, rounded, converted and checked as any other, and its familiarity lies with it."""
    model = build_lesion_network()
    scans = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 1), np.uint8)
    before = np.log(model.predict(scans, verbose=0)["probabilities"])
    apply_temperature(model, 0.5)
    round_weights(model)
    card = replace(
        dense_card,
        classes=("glioma", "meningioma", "notumor", "pituitary"),
        scan=ScanSpecification(32),
        refusal=Refusal(1.0),
        measurement=draw_measurement(),
        decision=Decision(0.0, (0.0, 0.0), 0.0, lesion=LesionMap(0.0, 0.0)),
    )
    square = (np.array([[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]]),)
    outlines = [square, square, square, None, (), ()]
    known = Familiarity(np.zeros((1, 48), np.float32), np.eye(48, dtype=np.float32))
    folder = publish(
        model, card, scans, tmp_path, write_report, outlines=outlines, familiarity=known
    )
    published = read_bundle(folder)
    assert published.feature_layer is None
    assert published.graph_difference <= AGREEMENT
    assert "familiarity.npz" in read_manifest(folder)
    measured = published.measurement
    assert (measured.pointing.scans, measured.pointing.marked_healthy) == (3, 1.0)
    assert measured.faithfulness.scans == 3
    assert measured.flips is None  # everything is marked, so nothing can replace it
    outputs = run_graph(folder, scans)
    assert {name: values.shape for name, values in outputs.items()} == {
        "probabilities": (6, 4),
        "lesion": (6, 8, 8),
        "features": (6, 48),
    }
    assert outputs["probabilities"] == pytest.approx(softmax(before / 0.5, axis=1), abs=5e-3)


def test_a_graph_that_differs_is_refused(models: Path, dense_card: Card) -> None:
    """Weights that were not rounded before: stored in half precision, they say something else."""
    large = np.random.default_rng(1).normal(0, 40, (256, 1)).astype(np.float32)
    kernel = np.hstack([large, large + 0.01])
    with pytest.raises(PublishError, match=r"differs from the Keras model by 0\.\d+ on 12 scans"):
        publish(build_dense(kernel), dense_card, draw_scans(), models, write_report)
    assert_untouched(models)


@pytest.mark.parametrize("after", [0, 2_000])
def test_a_full_disk_while_the_model_is_written(after: int, models: Path, dense_card: Card) -> None:
    model = build_dense()
    with full_disk(after), pytest.raises(PublishError, match=r"could not be written(.|\n)*room"):
        publish(model, dense_card, draw_scans(), models, write_report)
    assert_untouched(models)


def publish_and_die(root: Path, card: Card) -> None:
    with converting_here():
        publish(build_dense(), card, draw_scans(), root, write_report_and_die)


def test_killed_while_publishing(
    models: Path, dense_card: Card, processes: ForkServerContext
) -> None:
    process = processes.Process(target=publish_and_die, args=(models, dense_card))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (abandoned,) = models.glob(".staging-*/")
    assert {path.name for path in abandoned.iterdir()} >= {"graph.xml", "model.keras", "report"}
    assert_untouched(models)
    publish_bundle(models, dense_card, write_graph)
    assert installed_versions(models) == {"dense": [1, 2]}
    assert not abandoned.exists()
