"""The page that shows every step from a scan to its prediction."""

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient

from brainscan import ImageFile
from brainscan.scan import ScanSpecification, read_picture, read_scan
from tumorapp import create_app
from tumorapp.catalog import Catalog
from tumorapp.pages.layers import LayerReaders
from tumorapp.pages.steps import Steps, show_steps

HTML = {"Accept": "text/html"}
Form = Callable[..., dict[str, Any]]
Publish = Callable[..., Path]


def read_link(link: str) -> np.ndarray:
    data = base64.b64decode(link.partition(",")[2])
    picture = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
    if picture.ndim == 3 and np.ptp(picture, axis=2).max() == 0:  # WebP knows no grey
        return np.asarray(picture[..., 0])
    return picture


def explain(app: Flask, data: bytes, model: str = "mobilenet-v2") -> Steps:
    catalog: Catalog = app.extensions["catalog"]
    served = catalog.get(model)
    readers: LayerReaders = app.extensions["layers"]
    return show_steps(served, ImageFile("scan.jpg", data), readers.get(served.card), 10**7)


class TestSteps:
    def test_they_are_those_of_the_prediction(
        self, app: Flask, client: FlaskClient, scan: bytes
    ) -> None:
        steps = explain(app, scan)
        prepared = read_scan(scan, ScanSpecification(64))
        np.testing.assert_array_equal(read_link(steps.pixels), prepared.pixels[..., 0])
        assert (steps.box, steps.whole) == (prepared.box, prepared.whole)
        answer = client.post("/api/predict", data=scan, content_type="image/jpeg").get_json()
        assert steps.examination.probabilities == answer["predictions"][0]["probabilities"]
        assert steps.cells == (15, 15)

    def test_the_contour_and_its_points(self, app: Flask, scan: bytes) -> None:
        steps = explain(app, scan)
        tracing = steps.tracing
        assert tracing is not None
        outline = read_picture(scan).outline
        np.testing.assert_array_equal(read_link(tracing.mask), outline.mask)
        assert tracing.points == len(tracing.contour.split()) > 20
        assert tracing.found
        sides = tracing.extremes
        across = (sides["left"][0], sides["right"][0] + 1)
        down = (sides["top"][1], sides["bottom"][1] + 1)
        assert across == pytest.approx((steps.box.left, steps.box.right), abs=1)
        assert down == pytest.approx((steps.box.top, steps.box.bottom), abs=1)

    def test_a_scan_larger_than_the_search(
        self, app: Flask, draw_scan: Callable[..., bytes]
    ) -> None:
        steps = explain(app, draw_scan("PNG", width=1000, height=1100))
        assert steps.whole == (1000, 1100)
        assert max(read_link(steps.picture).shape) == 640
        tracing = steps.tracing
        assert tracing is not None
        assert tracing.searched == (233, 256)
        assert tracing.extremes["left"][0] == pytest.approx(steps.box.left, abs=5)

    def test_what_the_layers_saw(self, app: Flask, scan: bytes) -> None:
        shown = explain(app, scan).layers
        assert shown is not None
        assert (shown.convolutions, shown.poolings) == (1, 0)
        [layer] = shown.layers
        assert len(layer.maps) == 8
        for number, picture in layer.maps:
            assert 1 <= number <= 8
            assert read_link(picture).shape == (15, 15)

    def test_no_contour(self, app: Flask, draw_scan: Callable[..., bytes]) -> None:
        grey = np.zeros((64, 64), np.uint8)
        grey[::8, ::8] = 255  # dots that the erosion takes away
        tracing = explain(app, bytes(cv2.imencode(".png", grey)[1])).tracing
        assert tracing is not None
        assert (tracing.points, tracing.contour, tracing.extremes) == (0, "", {})
        assert not tracing.found


class TestPage:
    def test_a_sample_without_a_scan(self, client: FlaskClient, form: Form) -> None:
        for response in (
            client.get("/how", headers=HTML),
            client.post("/how", **form(("image", "", b"")), headers=HTML),
        ):
            assert response.status_code == 200
            assert "A sample" in response.text
            assert response.text.count("<h2>") == 7
        assert 'aria-current="page">How it works' in response.text

    def test_the_visitors_scan(self, client: FlaskClient, form: Form, scan: bytes) -> None:
        sent = form(("image", "<b>.jpg", scan), ("model", None, b"binary-cnn"))
        text = client.post("/how", **sent, headers=HTML).text
        assert "&lt;b&gt;.jpg" in text
        assert "A sample" not in text
        assert "200\u00a0×\u00a0220" in text
        assert "48\u00a0×\u00a048" in text
        assert re.search(r'value="binary-cnn" selected', text)

    def test_another_sample_and_model(self, client: FlaskClient) -> None:
        response = client.get("/how?sample=slice-2&model=binary-cnn", headers=HTML)
        assert response.status_code == 200
        assert client.get("/how?sample=slice-9", headers=HTML).status_code == 400

    @pytest.mark.parametrize(
        ("sent", "status"),
        [
            ([("image", "letter.txt", b"Dear doctor")], 422),
            ([("model", None, b"none")], 404),
            ([("image", "a.jpg", b"1"), ("image", "b.jpg", b"2")], 413),
        ],
    )
    def test_what_is_refused(self, client: FlaskClient, form: Form, sent: Any, status: int) -> None:
        page = client.post("/how", **form(*sent), headers=HTML)
        assert (page.status_code, page.mimetype) == (status, "text/html")
        assert 'role="alert"' in page.text
        assert "The scan</h2>" not in page.text
        assert client.post("/how", **form(*sent)).mimetype == "application/problem+json"

    def test_without_models(self, tmp_path: Path) -> None:
        app = create_app({"MODELS_DIR": tmp_path / "none", "JOBS_DIR": tmp_path / "jobs"})
        page = app.test_client().get("/how", headers=HTML)
        assert page.status_code == 503
        assert "None is installed" in page.text

    def test_a_model_that_takes_the_whole_scan_and_has_no_convolutions(
        self, tmp_path: Path, publish_model: Publish, scan: bytes
    ) -> None:
        specification = ScanSpecification(size=64, crop=False)
        publish_model(tmp_path, "ann", scan=specification, feature_layer=None)
        app = create_app({"MODELS_DIR": tmp_path, "JOBS_DIR": tmp_path / "jobs"})
        text = app.test_client().get("/how", headers=HTML).text
        assert "Extreme points" not in text
        assert text.count("This model has no convolutions") == 2

    def test_a_graph_that_has_gone(self, app: Flask, models_dir: Path) -> None:
        app = create_app({"MODELS_DIR": models_dir, "JOBS_DIR": models_dir.parent / "jobs"})
        (models_dir / "binary-cnn" / "1" / "graph.xml").unlink()
        response = app.test_client().get("/how?model=binary-cnn", headers=HTML)
        assert response.status_code == 200
        assert "cannot be shown at the moment" in response.text

    def test_another_engine(self, app: Flask, client: FlaskClient) -> None:
        readers = app.extensions.pop("layers")
        try:
            text = client.get("/how", headers=HTML).text
        finally:
            app.extensions["layers"] = readers
        assert "can only be shown with the engine OpenVINO" in text

    def test_nothing_is_inline(self, client: FlaskClient) -> None:
        text = client.get("/how", headers=HTML).text
        assert not re.search(r"<style| style=| on\w+=", text)
        assert all(" alt=" in picture for picture in re.findall(r"<img[^>]*>", text))

    def test_a_bounded_page(self, client: FlaskClient) -> None:
        assert len(client.get("/how", headers=HTML).data) < 300_000
