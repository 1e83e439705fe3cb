import base64
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.datastructures import FileStorage, MultiDict

from brainscan.bundle import Pointing
from tests.cards import LESION_NETWORK, POINTING, draw_measurement
from tests.volumes import draw_small, pack, write_nifti, write_slices
from tumorapp import create_app

Draw = Callable[..., bytes]


PREDICTION = [
    "filename",
    "verdict",
    "label",
    "tumor",
    "tumor_probability",
    "confidence",
    "uncertain",
    "in_distribution",
    "probabilities",
    "lesion",
    "warnings",
    "header",
]


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
    assert list(found) == PREDICTION
    assert found["filename"] == "scan.jpg"
    assert list(found["probabilities"]) == ["glioma", "meningioma", "notumor", "pituitary"]
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert found["confidence"] == max(found["probabilities"].values())
    assert found["probabilities"][found["label"]] == found["confidence"]
    assert found["tumor"] is (found["label"] != "notumor")
    assert found["verdict"] == ("tumor" if found["tumor"] else "no-tumor")
    assert found["tumor_probability"] == pytest.approx(
        1 - found["probabilities"]["notumor"], abs=1e-5
    )
    assert found["uncertain"] is False
    assert found["in_distribution"] is None  # its card has no refusal
    assert found["lesion"] is None
    assert found["header"] == {}
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


@pytest.mark.parametrize("start", ["", "data:image/jpeg;base64,"])
def test_json(client: FlaskClient, scan: bytes, start: str) -> None:
    image = {"name": "scan.jpg", "data": start + base64.b64encode(scan).decode()}
    sent = {"images": [image, image], "model": "binary-cnn", "heatmap": True}
    answer = client.post("/api/predict", json=sent).get_json()
    form = {"image": part(scan), "model": "binary-cnn", "heatmap": "1"}
    [expected] = client.post("/api/predict", data=form).get_json()["predictions"]
    assert answer["model"] == "binary-cnn"
    assert answer["predictions"] == [expected, expected]


@pytest.mark.parametrize(
    ("option", "status", "code"),
    [
        ({"model": 5}, 404, "unknown-model"),
        ({"model": ["binary-cnn"]}, 404, "unknown-model"),
        ({"heatmap": {"a": 1}}, 400, "invalid-option"),
        ({"threshold": 0.5}, 400, "unknown-option"),
    ],
)
def test_an_option_in_json_that_is_not_accepted(
    client: FlaskClient, scan: bytes, option: dict[str, object], status: int, code: str
) -> None:
    image = {"data": base64.b64encode(scan).decode()}
    answer = client.post("/api/predict", json={"images": [image], **option})
    assert (answer.status_code, answer.get_json()["code"]) == (status, code)


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


@pytest.mark.parametrize("pointing", [None, replace(POINTING, peak=0.2)])
def test_a_heat_map_that_does_not_beat_the_centre(
    tmp_path: Path, publish_model: Callable[..., object], scan: bytes, pointing: Pointing | None
) -> None:
    publish_model(tmp_path, measurement=draw_measurement(pointing=pointing))
    client = create_app({"MODELS_DIR": tmp_path}).test_client()
    answer = client.post("/api/predict?heatmap=1", data={"image": part(scan)}).get_json()
    [found] = answer["predictions"]
    assert found["heatmap"] is None
    assert [warning["code"] for warning in found["warnings"]] == ["no-reliable-map"]
    assert client.get("/api/models").get_json()["models"][0]["heatmap"] is False


class TestLesionNetwork:
    """A network that marks tumours and recognises scans; what it does not know gets no answer."""

    @pytest.fixture
    def client(self, tmp_path: Path, publish_model: Callable[..., object]) -> FlaskClient:
        publish_model(tmp_path, "lesion-net", **LESION_NETWORK)
        return create_app({"MODELS_DIR": tmp_path}).test_client()

    def test_a_tumour(self, client: FlaskClient, scan: bytes) -> None:
        answer = client.post("/api/predict?heatmap=1", data={"image": part(scan)}).get_json()
        [found] = answer["predictions"]
        assert list(found) == [*PREDICTION, "heatmap"]
        assert (found["verdict"], found["in_distribution"]) == ("tumor", True)
        assert found["heatmap"].startswith("data:image/png")
        lesion = found["lesion"]
        assert list(lesion) == ["peak", "outline", "area", "score"]
        assert lesion["peak"] == pytest.approx([0.6, 0.55], abs=0.1)  # the spot of draw_head
        x, y = zip(*lesion["outline"][0], strict=True)
        assert (min(x), max(x)) == pytest.approx((0.5, 0.7), abs=0.05)
        assert (min(y), max(y)) == pytest.approx((0.45, 0.65), abs=0.05)
        assert 0.02 < lesion["area"] < 0.06
        assert 0.9 <= lesion["score"] <= 1

    @pytest.mark.parametrize("strict", ["", "?strict=0", "?strict=1"])
    def test_what_is_not_a_scan(self, client: FlaskClient, scan: bytes, strict: str) -> None:
        white = io.BytesIO()
        Image.linear_gradient("L").point(lambda level: 200 + level // 8).save(white, "PNG")
        parts = MultiDict([("image", part(scan)), ("image", part(white.getvalue(), "parrot.png"))])
        response = client.post(f"/api/predict{strict}", data=parts)
        answer = response.get_json()
        if strict == "?strict=1":
            assert (response.status_code, answer["code"]) == (422, "not-recognised")
            assert answer["detail"].startswith("parrot.png: The image is not recognised")
            return
        known, unknown = answer["predictions"]
        assert (known["verdict"], known["in_distribution"]) == ("tumor", True)
        assert (unknown["verdict"], unknown["in_distribution"]) == ("not-recognised", False)
        assert unknown["lesion"] is None
        assert "not-a-scan" in [warning["code"] for warning in unknown["warnings"]]

    def test_strict_does_not_mind_scans(self, client: FlaskClient, scan: bytes) -> None:
        assert client.post("/api/predict?strict=1", data={"image": part(scan)}).status_code == 200

    def test_the_example_has_a_lesion_too(self, client: FlaskClient) -> None:
        paths = client.get("/api/openapi.json").get_json()["paths"]
        answer = paths["/api/predict"]["post"]["responses"]["200"]
        [found] = answer["content"]["application/json"]["example"]["predictions"]
        assert list(found) == PREDICTION
        assert (found["in_distribution"], len(found["lesion"])) == (True, 4)


def ask(client: FlaskClient, *files: tuple[str, bytes], **query: str) -> list[Any]:
    parts = MultiDict([("image", part(data, name)) for name, data in files])
    answer = client.post("/api/predict", data=parts, query_string=query)
    assert answer.status_code == 200, answer.text
    return answer.get_json()["predictions"]


class TestSeries:
    """Volumes, the files of a series, and ZIPs: an answer for the whole and for each slice."""

    def test_a_volume(self, client: FlaskClient) -> None:
        volume = write_nifti(np.stack([draw_small()] * 20, axis=-1))
        [found] = ask(client, ("a.nii.gz", volume), heatmap="1")
        assert list(found)[: len(PREDICTION)] == PREDICTION
        assert {"strongest", "volume_ml", "slices", "heatmap"} < set(found)
        assert [one["index"] for one in found["slices"]] == list(range(20))
        first = found["slices"][0]
        own = {"heatmap", "position_mm", "votes", "shows_tumor"}
        assert set(PREDICTION) - {"header"} | own < set(first)
        assert (first["filename"], first["frame"], first["position_mm"]) == ("a.nii.gz", 0, 0)
        assert found["heatmap"].startswith("data:image/png")
        assert "one-slice" not in str(found["warnings"])
        assert "heatmap" not in str(ask(client, ("a.nii.gz", volume)))

    def test_files_of_a_series_and_a_picture(self, client: FlaskClient, scan: bytes) -> None:
        many = [(f"{n}.dcm", data) for n, data in enumerate(write_slices(range(17, 0, -1)))]
        other = write_slices([1, 2], "1.9")
        files = [*many, ("scan.jpg", scan), ("b/1", other[0]), ("b/2", other[1])]
        series, picture, second = ask(client, *files)
        assert [one["position_mm"] for one in series["slices"]] == list(range(1, 18))
        assert series["slices"][0]["filename"] == "16.dcm"
        assert (picture["filename"], second["filename"]) == ("scan.jpg", "b")
        assert "slices" not in picture

    def test_a_zip(self, client: FlaskClient, scan: bytes) -> None:
        first, second = write_slices([1, 2])
        entries = [("a/1", first), ("../no\u202ete.txt", b"?"), ("a/2", second), ("s.jpg", scan)]
        data = pack(*entries, ("b.zip", pack(("a", b"x"))))
        body = client.post("/api/predict", data=data, content_type="application/zip").get_json()
        assert ask(client, ("all.zip", data)) == body["predictions"]
        series, note, picture, inner = body["predictions"]
        assert (series["filename"], len(series["slices"])) == ("a", 2)
        assert (note["filename"], note["error"]["code"]) == ("../no\ufffdte.txt", "not-an-image")
        assert picture["filename"] == "s.jpg"
        assert inner["error"]["code"] == "archive-not-read"

    @pytest.mark.parametrize(
        ("files", "status", "code"),
        [
            ([*write_slices([1, 2]), b"?"], 422, "not-an-image"),
            ([pack(("a", b"x"))[:-30]], 422, "unreadable-archive"),
            (write_slices(range(5)), 413, "too-many-slices"),
            ([write_nifti(np.stack([draw_small()] * 5, axis=-1))], 413, "too-many-slices"),
            ([pack(*((f"{n}", b"x") for n in range(5)))], 413, "archive-too-large"),
            ([pack(("a", bytes(11 * 2**20)))], 413, "archive-too-large"),
            ([pack(*((f"{n}", b"BM" + bytes(50)) for n in range(4)))], 413, "too-many-images"),
        ],
        ids=range(7),
    )
    def test_what_is_refused(self, app: Flask, files: list[bytes], status: int, code: str) -> None:
        limits = {"MAX_SLICES": 4, "MAX_IMAGES": 3, "MAX_UPLOAD_MB": 1}
        client = create_app({"MODELS_DIR": app.config["MODELS_DIR"], **limits}).test_client()
        parts = MultiDict([("image", part(data, f"{n}")) for n, data in enumerate(files)])
        response = client.post("/api/predict", data=parts)
        assert (response.status_code, response.get_json()["code"]) == (status, code)

    def test_a_series_counts_once(self, client: FlaskClient) -> None:
        def count() -> float:
            text = client.get("/metrics").text
            pattern = r"^tumorapp_predictions_total\{.*\} (\S+)$"
            return sum(map(float, re.findall(pattern, text, re.MULTILINE)))

        before = count()
        first, second = write_slices([1, 2])
        ask(client, ("a", first), ("b", second))
        assert count() == before + 1


def test_predictions_stay_in_no_cache(client: FlaskClient, scan: bytes) -> None:
    response = client.post("/api/predict", data={"image": part(scan)})
    assert response.cache_control.no_store
