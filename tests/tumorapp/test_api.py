import base64
import io
import json
from collections.abc import Callable
from dataclasses import asdict

import pytest
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.datastructures import FileStorage, MultiDict

from brainscan.bundle.sentences import INTENDED_USE, LIMITS
from tests.cards import draw_measurement
from tumorapp import create_app
from tumorapp.api.schemas import ModelsSchema

Draw = Callable[..., bytes]


def part(data: bytes, name: str = "scan.jpg") -> FileStorage:
    return FileStorage(io.BytesIO(data), filename=name)


def test_one_image(client: FlaskClient, scan: bytes) -> None:
    response = client.post("/api/predict", data={"image": part(scan)})
    assert response.status_code == 200
    assert response.mimetype == "application/json"
    answer = response.get_json()
    assert list(answer) == ["model", "version", "predictions"]
    assert (answer["model"], answer["version"]) == ("mobilenet-v2", "1")
    [found] = answer["predictions"]
    assert list(found) == ["filename", "label", "tumor", "confidence", "probabilities", "warnings"]
    assert found["filename"] == "scan.jpg"
    assert list(found["probabilities"]) == ["glioma", "meningioma", "notumor", "pituitary"]
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert found["confidence"] == max(found["probabilities"].values())
    assert found["probabilities"][found["label"]] == found["confidence"]
    assert found["tumor"] is (found["label"] != "notumor")
    assert found["warnings"] == []


def test_several_images_in_their_order(client: FlaskClient, draw_scan: Draw) -> None:
    scans = [draw_scan("PNG", spot=0.4 + index * 0.03) for index in range(9)]
    parts = [part(data, f"{index}.png") for index, data in enumerate(scans)]
    together = client.post("/api/predict", data=MultiDict([("image", p) for p in parts]))
    predictions = together.get_json()["predictions"]
    assert [found["filename"] for found in predictions] == [f"{i}.png" for i in range(9)]
    for data, found in zip(scans, predictions, strict=True):
        alone = client.post("/api/predict", data={"image": part(data, found["filename"])})
        [expected] = alone.get_json()["predictions"]
        assert found["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
    assert len({found["confidence"] for found in predictions}) > 1


@pytest.mark.parametrize("content_type", ["image/jpeg", "application/octet-stream"])
def test_a_raw_body(client: FlaskClient, scan: bytes, content_type: str) -> None:
    raw = client.post("/api/predict?model=binary-cnn", data=scan, content_type=content_type)
    form = client.post("/api/predict", data={"image": part(scan), "model": "binary-cnn"})
    assert raw.status_code == 200
    [found], [expected] = raw.get_json()["predictions"], form.get_json()["predictions"]
    assert found == {**expected, "filename": "body"}


@pytest.mark.parametrize("where", ["form", "query"])
def test_choosing_a_model(client: FlaskClient, scan: bytes, where: str) -> None:
    name = "binary-cnn"
    form = {"preview": "1", **({"model": name} if where == "form" else {})}  # as the page sends it
    query = {"model": name} if where == "query" else {}
    response = client.post("/api/predict", query_string=query, data={**form, "image": part(scan)})
    assert response.get_json()["model"] == name


@pytest.mark.parametrize("wanted", ["1", "true"])
def test_a_heat_map_covers_the_scan(client: FlaskClient, draw_scan: Draw, wanted: str) -> None:
    data = draw_scan("PNG", width=300, height=150)
    answer = client.post("/api/predict", data={"image": part(data), "heatmap": wanted}).get_json()
    head, _, encoded = answer["predictions"][0]["heatmap"].partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(encoded, validate=True))) as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGBA")
        assert picture.size == (128, 64)


def test_a_model_without_convolutions_has_no_heat_map(
    tmp_path: object, publish_model: Callable[..., object], scan: bytes
) -> None:
    publish_model(tmp_path, "flat", feature_layer=None)
    client = create_app({"MODELS_DIR": tmp_path}).test_client()
    [found] = client.post("/api/predict?heatmap=1", data={"image": part(scan)}).get_json()[
        "predictions"
    ]
    assert found["heatmap"] is None
    assert [warning["code"] for warning in found["warnings"]] == ["no-heatmap"]


def test_models(client: FlaskClient) -> None:
    listed = client.get("/api/models").get_json()
    assert listed["default"] == "mobilenet-v2"
    assert listed["refused"] == []
    assert ModelsSchema().validate(listed) == {}
    binary, mobilenet = listed["models"]
    assert binary["name"] == "binary-cnn"
    assert binary["classes"] == ["healthy", "tumor"]
    assert not binary["default"]
    assert mobilenet == {
        "name": "mobilenet-v2",
        "version": "1",
        "classes": ["glioma", "meningioma", "notumor", "pituitary"],
        "default": True,
        "heatmap": True,
        "scan": {"size": 64, "crop": True},
        "precision": "fp16",
        "graphs": None,
        "architecture": "2 convolutions, softmax",
        "parameters": 1000,
        "created": "2026-11-21",
        "protocol": "grouped",
        "measurement": json.loads(json.dumps(asdict(draw_measurement()))),
        "intended_use": INTENDED_USE,
        "limits": LIMITS,
        "sources": [],
    }


def test_predictions_stay_in_no_cache(client: FlaskClient, scan: bytes) -> None:
    response = client.post("/api/predict", data={"image": part(scan)})
    assert response.cache_control.no_store
