import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from brainscan import Problem
from brainscan.bundle.manifest import write_manifest
from tumorapp import create_app
from tumorapp.catalog import Catalog

Publish = Callable[..., Path]


def load(root: Path, **options: Any) -> Catalog:
    catalog = Catalog(root, **options)
    catalog.load()
    return catalog


def edit_card(bundle: Path, **changes: Any) -> None:
    path = bundle / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    write_manifest(bundle)


def change_a_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a changed byte": (lambda bundle: change_a_byte(bundle / "graph.bin"), "graph.bin was changed"),
    "a changed byte of the card": (
        lambda bundle: change_a_byte(bundle / "card.json"),
        "card.json was changed",
    ),
    "too many classes": (
        lambda bundle: edit_card(bundle, classes=["a", "b", "c", "d", "e"], measurement=None),
        "its card has 5 classes",
    ),
    "another scan size": (
        lambda bundle: edit_card(bundle, scan={"size": 99, "crop": True}),
        "fails on a scan",
    ),
    "no heat map announced": (
        lambda bundle: edit_card(bundle, feature_layer=None),
        "disagree on whether there is a heat map",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_bundle_is_refused_by_name_while_the_other_serves(
    models_dir: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    spoil, word = DAMAGES[damage]
    spoil(models_dir / "mobilenet-v2" / "1")
    with caplog.at_level(logging.ERROR):
        catalog = load(models_dir)
    [refusal] = catalog.refused
    assert (refusal.name, refusal.version) == ("mobilenet-v2", "1")
    assert word in refusal.reason
    assert any("mobilenet-v2/1" in message and word in message for message in caplog.messages)
    assert list(catalog.models) == ["binary-cnn"]
    assert catalog.default_name == "binary-cnn"


def test_an_older_good_version_takes_the_place_of_a_bad_one(
    models_dir: Path, publish_model: Publish
) -> None:
    for _ in range(9):
        publish_model(models_dir, "binary-cnn")
    change_a_byte(publish_model(models_dir, "binary-cnn") / "graph.xml")
    catalog = load(models_dir)
    assert catalog.get("binary-cnn").card.version == 10
    assert [refusal.version for refusal in catalog.refused] == ["11"]


def test_the_refused_are_listed_by_the_api(models_dir: Path) -> None:
    change_a_byte(models_dir / "binary-cnn" / "1" / "graph.bin")
    listed = create_app({"MODELS_DIR": models_dir}).test_client().get("/api/models").get_json()
    assert [model["name"] for model in listed["models"]] == ["mobilenet-v2"]
    [refused] = listed["refused"]
    assert (refused["name"], refused["version"]) == ("binary-cnn", "1")
    assert "graph.bin" in refused["reason"]
    assert str(models_dir) not in refused["reason"]


@pytest.mark.parametrize(
    ("installed", "chosen", "expected"),
    [
        (["zeta", "mobilenet-v2", "alpha"], None, "mobilenet-v2"),
        (["zeta", "alpha"], None, "alpha"),
        (["zeta", "mobilenet-v2"], "zeta", "zeta"),
    ],
)
def test_the_default_model(
    tmp_path: Path,
    publish_model: Publish,
    installed: list[str],
    chosen: str | None,
    expected: str,
) -> None:
    for name in installed:
        publish_model(tmp_path, name)
    catalog = load(tmp_path, default=chosen)
    assert catalog.default_name == expected
    assert catalog.get().card.name == catalog.get(None).card.name == expected


def test_a_default_that_is_not_served_is_not_replaced(
    models_dir: Path, scan: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    client = create_app({"MODELS_DIR": models_dir, "DEFAULT_MODEL": "missing"}).test_client()
    assert "The default model missing is not served" in caplog.text
    ask = {"data": scan, "content_type": "image/jpeg"}
    for response in (client.get("/readyz"), client.post("/api/predict", **ask)):
        assert response.status_code == 503
        problem = response.get_json(force=True)
        assert problem["code"] == "default-model-missing"
        assert problem["accepted"] == ["binary-cnn", "mobilenet-v2"]
    assert client.post("/api/predict?model=binary-cnn", **ask).status_code == 200
    assert client.get("/api/models").get_json()["default"] is None
    assert client.get("/").status_code == 200


@pytest.mark.parametrize("exists", [True, False])
def test_nothing_installed(tmp_path: Path, caplog: pytest.LogCaptureFixture, exists: bool) -> None:
    catalog = load(tmp_path if exists else tmp_path / "missing")
    assert (dict(catalog.models), catalog.refused, catalog.default_name) == ({}, (), None)
    assert "No model is served" in caplog.text
    with pytest.raises(Problem) as caught:
        catalog.get("binary-cnn")
    assert caught.value.code == "no-model"


def test_stray_files_are_left_alone(models_dir: Path) -> None:
    (models_dir / "README.md").write_text("notes")
    (models_dir / ".staging-1-x").mkdir()
    (models_dir / "empty").mkdir()
    (models_dir / "binary-cnn" / "draft").mkdir()
    (models_dir / "binary-cnn" / "notes.txt").write_text("x")
    (models_dir / "binary-cnn" / "7").write_text("x")
    catalog = load(models_dir)
    assert list(catalog.models) == ["binary-cnn", "mobilenet-v2"]
    assert [(refusal.name, refusal.version) for refusal in catalog.refused] == [("binary-cnn", "7")]


def test_it_loads_on_first_use_and_once(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[Catalog] = []
    load_really = Catalog.load
    monkeypatch.setattr(Catalog, "load", lambda self: (loads.append(self), load_really(self)))
    catalog = Catalog(models_dir)
    assert not loads
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: catalog.get("binary-cnn"), range(32)))
    assert len(loads) == 1
    assert all(model is found[0] for model in found)


def test_the_application_loads_at_start_but_under_the_flask_command(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        create_app({"MODELS_DIR": models_dir})
        assert "Serving binary-cnn/1" in caplog.text
        caplog.clear()
        monkeypatch.setenv("FLASK_RUN_FROM_CLI", "true")
        create_app({"MODELS_DIR": models_dir})
        assert "Serving" not in caplog.text
