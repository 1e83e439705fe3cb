"""The Open Inference Protocol, asked in plain JSON and by a client library made for it."""

import base64
import gzip
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from brainscan.scan import ScanSpecification, read_scan
from tests.cards import LESION_NETWORK
from tumorapp import create_app
from tumorapp.api.openapi import VERSION

MODEL = "/v2/models/mobilenet-v2"
WITH_LESIONS = ["tumor_probability", "uncertain", "lesion"]

Draw = Callable[..., bytes]
Change = dict[str, Any]


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def image_tensor(*files: bytes, **changes: Any) -> dict[str, Any]:
    tensor = {
        "name": "image",
        "shape": [len(files)],
        "datatype": "BYTES",
        "parameters": {"content_type": "base64"},
        "data": [encode(data) for data in files],
    }
    return {**tensor, **changes}


def prepare(*files: bytes) -> np.ndarray[Any, Any]:
    return np.stack([read_scan(data, ScanSpecification(size=64)).pixels for data in files])


def scans_tensor(pixels: np.ndarray[Any, Any], **changes: Any) -> dict[str, Any]:
    tensor = {"name": "scans", "shape": list(pixels.shape), "datatype": "UINT8"}
    return {**tensor, "data": pixels.ravel().tolist(), **changes}


def ask(client: FlaskClient, tensor: dict[str, Any], model: str = MODEL, **more: Any) -> Any:
    return client.post(f"{model}/infer", json={"inputs": [tensor], **more})


def read(response: TestResponse) -> dict[str, dict[str, Any]]:
    """Give the outputs of an answer by name."""
    assert response.status_code == 200, response.get_data(as_text=True)
    assert response.mimetype == "application/json"
    return {output["name"]: output for output in response.get_json()["outputs"]}


def refused(response: TestResponse, status: int, code: str = "invalid-inference-request") -> str:
    """Check that a request was refused as the protocol has it, and give the reason."""
    assert response.status_code == status, response.get_data(as_text=True)
    assert response.mimetype == "application/json"
    answer = response.get_json()
    assert list(answer) == ["error", "code"]
    assert answer["code"] == code
    return str(answer["error"])


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/v2", {"name": "tumorapp", "version": VERSION, "extensions": []}),
        ("/v2/", {"name": "tumorapp", "version": VERSION, "extensions": []}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        (f"{MODEL}/ready", {"name": "mobilenet-v2", "ready": True}),
        (f"{MODEL}/versions/1/ready", {"name": "mobilenet-v2", "ready": True}),
    ],
)
def test_the_server_and_its_health(client: FlaskClient, path: str, answer: dict[str, Any]) -> None:
    response = client.get(path)
    assert (response.status_code, response.get_json()) == (200, answer)


@pytest.mark.parametrize("path", [MODEL, f"{MODEL}/versions/1"])
def test_a_models_metadata(client: FlaskClient, path: str) -> None:
    assert client.get(path).get_json() == {
        "name": "mobilenet-v2",
        "versions": ["1"],
        "platform": "openvino_ir",
        "inputs": [
            {"name": "scans", "datatype": "UINT8", "shape": [-1, 64, 64, 1]},
            {
                "name": "image",
                "datatype": "BYTES",
                "shape": [-1],
                "parameters": {"content_type": "base64"},
            },
        ],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 4]},
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "verdict", "datatype": "BYTES", "shape": [-1]},
            {"name": "tumor_probability", "datatype": "FP32", "shape": [-1]},
            {"name": "uncertain", "datatype": "BOOL", "shape": [-1]},
            {"name": "heatmap", "datatype": "FP32", "shape": [-1, -1, -1]},
        ],
        "parameters": {"classes": "glioma,meningioma,notumor,pituitary"},
    }


@pytest.mark.parametrize("kind", ["image", "scans", "nested"])
def test_both_inputs_say_what_the_api_says(client: FlaskClient, draw_scan: Draw, kind: str) -> None:
    files = [draw_scan("PNG", spot=spot) for spot in (0.4, 0.5, 0.6)]
    pixels = prepare(*files)
    tensor = {
        "image": image_tensor(*files),
        "scans": scans_tensor(pixels),
        "nested": scans_tensor(pixels, data=pixels.tolist()),
    }[kind]
    outputs = read(ask(client, tensor))
    assert list(outputs) == ["probabilities", "label", "verdict"]
    found = outputs["probabilities"]
    assert (found["shape"], found["datatype"]) == ([3, 4], "FP32")
    assert (outputs["label"]["shape"], outputs["label"]["datatype"]) == ([3], "BYTES")
    rows = np.reshape(found["data"], found["shape"])
    verdicts = []
    for data, row, label in zip(files, rows, outputs["label"]["data"], strict=True):
        answer = client.post("/api/predict", data=data, content_type="image/png").get_json()
        [expected] = answer["predictions"]
        assert list(row) == pytest.approx(list(expected["probabilities"].values()), abs=1e-5)
        assert label == expected["label"]
        verdicts.append(expected["verdict"])
    assert outputs["verdict"]["data"] == verdicts


def test_an_answer_names_its_model_and_its_request(client: FlaskClient, scan: bytes) -> None:
    for path in (MODEL, f"{MODEL}/versions/1"):
        answer = ask(client, image_tensor(scan), path, id="a\n42").get_json()
        assert list(answer) == ["model_name", "model_version", "id", "outputs"]
        assert (answer["model_name"], answer["model_version"]) == ("mobilenet-v2", "1")
        assert answer["id"] == "a\n42"
    assert "id" not in ask(client, image_tensor(scan)).get_json()


def test_the_outputs_asked_for_in_their_order(client: FlaskClient, scan: bytes) -> None:
    wanted = [{"name": "heatmap"}, {"name": "label", "parameters": {"binary_data": False}}]
    outputs = read(ask(client, image_tensor(scan), outputs=wanted))
    assert list(outputs) == ["heatmap", "label"]
    shape = outputs["heatmap"]["shape"]
    heat = np.reshape(outputs["heatmap"]["data"], shape)
    assert shape[0] == 1
    assert heat.max() == pytest.approx(1, abs=1e-3)
    assert heat.min() >= 0


def test_warnings_are_those_of_the_api(client: FlaskClient, draw_scan: Draw) -> None:
    def save(*pages: Image.Image) -> bytes:
        file = io.BytesIO()
        pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
        return file.getvalue()

    head = Image.open(io.BytesIO(draw_scan("PNG")))
    spot = Image.new("L", (200, 200))
    spot.paste(255, (90, 90, 110, 110))
    files = [save(head), save(head, spot), save(spot), save(Image.linear_gradient("L"))]
    answer = ask(client, image_tensor(*files), "/v2/models/binary-cnn").get_json()
    found = {one["name"]: one["warnings"] for one in json.loads(answer["parameters"]["warnings"])}
    for number, data in enumerate(files, start=1):
        sent = {"data": data, "content_type": "image/tiff"}
        [expected] = client.post("/api/predict?model=binary-cnn", **sent).get_json()["predictions"]
        assert found.get(f"image {number}", []) == expected["warnings"]
    codes = {warning["code"] for warnings in found.values() for warning in warnings}
    assert codes == {"uncertain", "not-a-scan", "no-head-outline", "more-pages"}


def test_it_is_counted_as_the_api_is(client: FlaskClient, scan: bytes) -> None:
    counted = re.compile(
        r"^tumorapp_((?:stage_duration_seconds_count|request_images_sum|predictions).*) (.+)$",
        re.MULTILINE,
    )

    def count() -> dict[str, float]:
        return {name: float(value) for name, value in counted.findall(client.get("/metrics").text)}

    client.post("/api/predict", data=scan, content_type="image/jpeg")
    before = count()
    ask(client, image_tensor(scan))
    between = count()
    client.post("/api/predict", data=scan, content_type="image/jpeg")
    grown = {name: value - before[name] for name, value in between.items()}
    assert set(grown.values()) == {0, 1}
    assert count() == {name: value + grown[name] for name, value in between.items()}


@pytest.mark.parametrize(
    "more",
    [
        {"id": None, "parameters": None, "outputs": None},
        {"parameters": {"binary_data_output": True, "priority": 3}, "timeout": 5},
        {"outputs": []},
    ],
    ids=["null", "unknown", "none"],
)
def test_what_other_servers_know_does_no_harm(
    client: FlaskClient, scan: bytes, more: dict[str, Any]
) -> None:
    outputs = read(ask(client, image_tensor(scan), **more))
    assert list(outputs) == ["probabilities", "label", "verdict"]


@pytest.mark.parametrize("change", [{"parameters": None}, {"parameters": {}}, {"extra": 1}])
def test_an_image_tensor_in_other_words(client: FlaskClient, scan: bytes, change: Change) -> None:
    assert ask(client, image_tensor(scan, **change)).status_code == 200


@pytest.mark.parametrize(
    ("change", "status", "word"),
    [
        ({"name": "pixels"}, 400, "no input named 'pixels'"),
        ({"datatype": "UINT8"}, 400, "Accepted: BYTES"),
        ({"shape": [1, 64, 64, 1]}, 400, "Accepted: BYTES and [-1]"),
        ({"shape": [2]}, 400, "1 values where 2 are expected"),
        ({"shape": []}, 400, "inputs.0.shape"),
        ({"shape": [10**30]}, 413, "too-many-images"),
        ({"shape": [17], "data": ["eA=="] * 17}, 413, "too-many-images"),
        ({"data": "eA=="}, 400, "inputs.0.data"),
        ({"data": [1]}, 400, "image 1: it is not base64"),
        ({"data": ["\ud800"]}, 400, "image 1: it is not base64"),
        ({"data": [""]}, 422, "empty-file"),
        ({"parameters": []}, 400, "inputs.0.parameters"),
    ],
)
def test_an_image_tensor_that_is_none(
    client: FlaskClient, scan: bytes, change: Change, status: int, word: str
) -> None:
    response = ask(client, image_tensor(scan, **change))
    if status == 400:
        assert word in refused(response, status)
    else:
        refused(response, status, code=word)
    if status == 422:
        assert response.get_json()["error"].startswith("image 1: ")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"datatype": "FP32"}, "Accepted: UINT8"),
        ({"shape": [1, 32, 128, 1]}, "Accepted: UINT8 and [-1, 64, 64, 1]"),
        ({"data": [0] * 4095}, "4095 values where 4096"),
        ({"data": [256] * 4096}, "from 0 to 255"),
        ({"data": [0.5] * 4096}, "from 0 to 255"),
        ({"data": [[[[0]] * 64] * 63 + [7]]}, "64 values where 4096 are expected"),
        ({"data": [{}] * 4096}, "from 0 to 255"),
    ],
)
def test_an_array_that_is_no_scan(
    client: FlaskClient, scan: bytes, change: Change, word: str
) -> None:
    assert word in refused(ask(client, scans_tensor(prepare(scan), **change)), 400)


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (b"\xff\xfe{}", 400, "not JSON"),
        (gzip.compress(b"{}", mtime=0), 400, "uncompressed"),
        (b"[" * 60_000, 400, "not JSON"),
        (b'{"a":' * 60_000, 400, "not JSON"),
        (b"[" * 200_000, 413, ""),
        (b"[" + b"0," * 200_000 + b"0]", 413, ""),
        (b"[]", 400, "Invalid input type"),
        (b"{}", 400, "inputs: Missing data"),
        (b'{"inputs": []}', 400, "inputs: "),
        (b'{"inputs": {"name": "image"}}', 400, "inputs"),
        (b'{"inputs": [{}], "id": 4}', 400, "id: Not a valid string"),
    ],
)
def test_a_body_that_is_no_request(
    client: FlaskClient, body: bytes, status: int, word: str
) -> None:
    response = client.post(f"{MODEL}/infer", data=body, content_type="application/json")
    code = {413: "request-too-large"}.get(status, "invalid-inference-request")
    assert word in refused(response, status, code)


@pytest.mark.parametrize(
    ("outputs", "word"),
    [
        ([{"name": "logits"}], "gives: probabilities, label, verdict, "),
        ([{"name": "label"}, {"name": "label"}], "more than once"),
        ([{}], "outputs.0.name"),
        ([{"name": 7}], "outputs.0.name"),
    ],
)
def test_outputs_that_there_are_not(
    client: FlaskClient, scan: bytes, outputs: list[Any], word: str
) -> None:
    assert word in refused(ask(client, image_tensor(scan), outputs=outputs), 400)


def test_a_model_without_convolutions(
    tmp_path: Path, publish_model: Callable[..., Path], scan: bytes
) -> None:
    publish_model(tmp_path, "flat", feature_layer=None)
    client = create_app({"MODELS_DIR": tmp_path}).test_client()
    names = [output["name"] for output in client.get("/v2/models/flat").get_json()["outputs"]]
    assert "heatmap" not in names
    response = ask(client, image_tensor(scan), "/v2/models/flat", outputs=[{"name": "heatmap"}])
    assert "no output named 'heatmap'. flat gives: probabilities, label, " in refused(response, 400)


def test_a_network_that_marks_lesions(
    tmp_path: Path, publish_model: Callable[..., Path], scan: bytes
) -> None:
    publish_model(tmp_path, "lesion-net", **LESION_NETWORK)
    client = create_app({"MODELS_DIR": tmp_path}).test_client()
    path = "/v2/models/lesion-net"
    names = [output["name"] for output in client.get(path).get_json()["outputs"]]
    assert names == ["probabilities", "label", "verdict", *WITH_LESIONS]
    asked = [{"name": name} for name in WITH_LESIONS]
    outputs = read(ask(client, image_tensor(scan, scan), path, outputs=asked))
    [found, _] = client.post(
        "/api/predict", data={"image": [(io.BytesIO(scan), "a.jpg"), (io.BytesIO(scan), "b.jpg")]}
    ).get_json()["predictions"]
    assert outputs["tumor_probability"]["data"][0] == pytest.approx(found["tumor_probability"])
    assert outputs["uncertain"]["data"] == [found["uncertain"]] * 2
    assert outputs["lesion"]["shape"] == [2, 16, 16]
    assert max(outputs["lesion"]["data"]) == pytest.approx(found["lesion"]["score"], abs=1e-3)


@pytest.mark.parametrize("rest", ["", "/ready", "/infer"])
@pytest.mark.parametrize("model", ["vgg", "mobilenet-v2/versions/7", "mobilenet-v2/versions/01"])
def test_a_model_or_version_that_is_not_served(client: FlaskClient, model: str, rest: str) -> None:
    path = f"/v2/models/{model}{rest}"
    response = client.post(path) if rest == "/infer" else client.get(path)
    code = "unknown-version" if "versions" in model else "unknown-model"
    assert "mobilenet-v2" in refused(response, 404, code)


@pytest.mark.parametrize("accept", ["*/*", "text/html"])
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/models", 404),
        ("GET", f"{MODEL}/infer", 405),
        ("POST", "/v2", 405),
    ],
)
def test_addresses_and_methods_that_there_are_not(
    client: FlaskClient, method: str, path: str, status: int, accept: str
) -> None:
    code = "not-found" if status == 404 else "method-not-allowed"
    refused(client.open(path, method=method, headers={"Accept": accept}), status, code)


def test_an_unforeseen_error_says_nothing_of_the_inside(app: Flask) -> None:
    failing = create_app({"MODELS_DIR": app.config["MODELS_DIR"], "PROPAGATE_EXCEPTIONS": False})
    failing.add_url_rule("/v2/crash", "crash", view_func=lambda: 1 / 0)
    response = failing.test_client().get("/v2/crash")
    assert "division" not in refused(response, 500, "internal-error")


def test_limits(app: Flask, draw_scan: Draw) -> None:
    limits = {"MAX_UPLOAD_MB": 1, "MAX_PIXELS": 10_000}
    client = create_app({"MODELS_DIR": app.config["MODELS_DIR"], **limits}).test_client()
    response = client.post(f"{MODEL}/infer", data=bytes(2**20 + 1))
    assert "1 MB" in refused(response, 413, "request-too-large")
    file = draw_scan("PNG", width=101, height=100)
    assert "101 × 100" in refused(ask(client, image_tensor(file)), 413, "image-too-large")


def test_without_any_model(tmp_path: Path) -> None:
    client = create_app({"MODELS_DIR": tmp_path}).test_client()
    assert client.get("/v2/health/live").status_code == 200
    ready = client.get("/v2/health/ready")
    assert (ready.status_code, ready.get_json()) == (400, {"ready": False})
    refused(client.get(f"{MODEL}/ready"), 503, "no-model")


def test_the_largest_request_is_accepted(client: FlaskClient, scan: bytes) -> None:
    pixels = np.repeat(prepare(scan), 16, axis=0)
    body = json.dumps({"inputs": [scans_tensor(pixels, data=pixels.tolist())]})
    response = client.post(f"{MODEL}/infer", data=body)
    assert read(response)["probabilities"]["shape"] == [16, 4]


# A process of its own: gevent, which the client is built on, would be loaded into every test.
CLIENT = """
import base64, json, sys
import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

address, file = sys.argv[1], sys.stdin.buffer.read()
client = triton.InferenceServerClient(address, network_timeout=60, connection_timeout=60)
assert client.is_server_live() and client.is_server_ready()
assert client.is_model_ready("mobilenet-v2") and client.is_model_ready("mobilenet-v2", "1")
assert not client.is_model_ready("mobilenet-v2", "7") and not client.is_model_ready("vgg")
assert client.get_server_metadata()["name"] == "tumorapp"
described = client.get_model_metadata("mobilenet-v2")
shape = [2, *described["inputs"][0]["shape"][1:]]

scans = triton.InferInput("scans", shape, "UINT8")
scans.set_data_from_numpy(np.full(shape, 90, np.uint8), binary_data=False)
wanted = [triton.InferRequestedOutput(name, binary_data=False) for name in ("heatmap", "label")]
found = client.infer("mobilenet-v2", [scans], outputs=wanted, request_id="7", model_version="1")
assert found.get_response()["id"] == "7"
assert found.as_numpy("heatmap").dtype == np.float32 and found.as_numpy("heatmap").shape[0] == 2
assert found.as_numpy("label").shape == (2,)
assert found.as_numpy("probabilities") is None

image = triton.InferInput("image", [1], "BYTES")
image.set_data_from_numpy(np.array([base64.b64encode(file)], object), binary_data=False)
found = client.infer("mobilenet-v2", [image])
try:
    client.infer("vgg", [image])
except InferenceServerException as error:
    assert error.status() == "404" and "no model named 'vgg'" in error.message()
else:
    raise AssertionError
scans.set_data_from_numpy(np.full(shape, 90, np.uint8), binary_data=True)
try:
    client.infer("mobilenet-v2", [scans])
except InferenceServerException as error:
    reason = error.message()
print(json.dumps({
    "probabilities": found.as_numpy("probabilities").tolist(),
    "label": [str(label) for label in found.as_numpy("label")],
    "reason": reason,
}))
"""


@pytest.mark.slow
def test_a_client_library_made_for_it(client: FlaskClient, scan: bytes, service: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CLIENT, service.url.removeprefix("http://")],
        input=scan,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert "Traceback" not in service.errors.read_text()
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    outputs = read(ask(client, image_tensor(scan)))
    assert found["probabilities"][0] == pytest.approx(outputs["probabilities"]["data"], abs=1e-5)
    assert found["label"] == outputs["label"]["data"]
    assert "binary_data=False" in found["reason"]
