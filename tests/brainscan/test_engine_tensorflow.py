"""The same bundle on both engines: the two answer alike."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from brainscan.bundle import Card, installed_versions, publish_bundle, read_bundle
from brainscan.scan import read_scan
from tumorapp import create_app
from tumorapp.catalog import Catalog

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.slow

SHARED = Path(__file__).parents[3] / "shared" / "data"
ENGINES = ("openvino", "tensorflow")
AGREEMENT = 1e-3
HEAT_AGREEMENT = 1e-2  # a hundredth of the colour scale
COMMITTED = Path(__file__).parents[2] / "instance" / "models"
SMALL = "binary-cnn"


def committed_names() -> list[str]:
    """Name the committed models whose newest bundle has a Keras model."""
    return [
        name
        for name, versions in installed_versions(COMMITTED).items()
        if (COMMITTED / name / str(versions[-1]) / "model.keras").is_file()
    ]


@pytest.fixture(scope="module")
def drawn(draw_scan: Callable[..., bytes]) -> list[bytes]:
    return [draw_scan("PNG", spot=0.4 + index * 0.03) for index in range(6)]


def check_agreement(models: Path, name: str, scans: list[bytes]) -> None:
    # The int8 graph of a bundle has checks of its own.
    openvino, tensorflow = (Catalog(models, engine, graph="fp16").get(name) for engine in ENGINES)
    pixels = np.stack([read_scan(data, openvino.card.scan).pixels for data in scans])
    expected, found = openvino.engine.predict(pixels), tensorflow.engine.predict(pixels)
    assert found.probabilities.dtype == expected.probabilities.dtype == np.float32
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=AGREEMENT)
    for output in ("heatmaps", "lesions"):
        ours, theirs = getattr(found, output), getattr(expected, output)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_allclose(ours, theirs, atol=HEAT_AGREEMENT)
    if expected.heatmaps is not None:
        assert expected.heatmaps.max() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", committed_names())
def test_both_engines_answer_alike(drawn: list[bytes], name: str) -> None:
    real = [file.read_bytes() for file in sorted(SHARED.rglob("*.jpg"))[::2000]]
    check_agreement(COMMITTED, name, drawn + real)


def test_the_api_on_tensorflow(tmp_path: Path, make_card: Callable[..., Card], scan: bytes) -> None:
    newest = COMMITTED / SMALL / str(installed_versions(COMMITTED)[SMALL][-1])

    def write(folder: Path, _card: Card) -> None:
        for file in ("model.keras", "graph.xml", "graph.bin"):
            shutil.copy(newest / file, folder)

    # Its own card leaves the heat map out.
    publish_bundle(tmp_path, make_card(SMALL, scan=read_bundle(newest).scan), write)
    answers = []
    for engine in ENGINES:
        settings = {"MODELS_DIR": tmp_path, "ENGINE": engine}
        client = create_app(settings).test_client()
        url = f"/api/predict?model={SMALL}&heatmap=1"
        answers.append(client.post(url, data=scan, content_type="image/jpeg").get_json())
    (expected,), (found,) = (answer["predictions"] for answer in answers)
    assert found["probabilities"] == pytest.approx(expected["probabilities"], abs=AGREEMENT)
    assert found["heatmap"].startswith("data:image/png;base64,")


def test_a_bundle_without_its_keras_model_is_refused_by_name(
    tmp_path: Path, publish_model: Callable[..., Path]
) -> None:
    publish_model(tmp_path)
    catalog = Catalog(tmp_path, "tensorflow")
    catalog.load()
    [refusal] = catalog.refused
    assert refusal.name == "mobilenet-v2"
    assert "no model.keras; the engine openvino can serve it" in refusal.reason


def test_a_keras_model_that_is_none(tmp_path: Path, make_card: Callable[..., Card]) -> None:
    def write(folder: Path, _card: Card) -> None:
        (folder / "graph.xml").write_text("<net/>")
        (folder / "graph.bin").write_bytes(b"")
        (folder / "model.keras").write_bytes(b"no archive")

    publish_bundle(tmp_path, make_card(), write)
    catalog = Catalog(tmp_path, "tensorflow")
    catalog.load()
    assert "Keras cannot load model.keras" in catalog.refused[0].reason
