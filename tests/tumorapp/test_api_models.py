"""The models that the API lists."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from flask.testing import FlaskClient

from brainscan.bundle.sentences import INTENDED_USE, LIMITS
from tests.cards import LESION_NETWORK, draw_measurement
from tumorapp import create_app
from tumorapp.api.models import ModelsSchema


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
        "lesion": False,
        "decision": None,
        "refusal": None,
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


def test_what_a_lesion_network_says(tmp_path: Path, publish_model: Callable[..., object]) -> None:
    publish_model(tmp_path, "lesion-net", **LESION_NETWORK)
    client = create_app({"MODELS_DIR": tmp_path}).test_client()
    listed = client.get("/api/models").get_json()
    assert ModelsSchema().validate(listed) == {}
    [model] = listed["models"]
    assert (model["heatmap"], model["lesion"]) == (True, True)
    assert model["refusal"] == {"distance_above": 1e6}
    assert model["decision"]["lesion"] == {"region_from": 0.85, "marked_from": 0.9}
