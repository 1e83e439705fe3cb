"""The page that shows every step from a scan to its prediction."""

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient

from brainscan.scan import Picture, ScanSpecification, read_picture, read_scan
from tests.cards import POINTING, VERDICTS, draw_measurement
from tumorapp import create_app
from tumorapp.pages.layers import Layer
from tumorapp.pages.steps import show_layer, show_tracing
from tumorapp.pictures import link_picture

HTML = {"Accept": "text/html"}
Form = Callable[..., dict[str, Any]]
Publish = Callable[..., Path]


def read_link(link: str) -> np.ndarray:
    data = base64.b64decode(link.partition(",")[2])
    picture = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
    if picture.ndim == 3 and np.ptp(picture, axis=2).max() == 0:  # WebP knows no grey
        return np.asarray(picture[..., 0])
    return picture


class TestSteps:
    def test_the_contour_and_its_points(self, scan: bytes) -> None:
        picture = read_picture(scan)
        tracing = show_tracing(picture)
        np.testing.assert_array_equal(read_link(tracing.mask), picture.outline.mask)
        assert tracing.points == len(tracing.contour.split()) > 20
        assert tracing.found
        box, sides = picture.outline.box, tracing.extremes
        assert box is not None
        across = (sides["left"][0], sides["right"][0] + 1)
        down = (sides["top"][1], sides["bottom"][1] + 1)
        assert across == pytest.approx((box.left, box.right), abs=1)
        assert down == pytest.approx((box.top, box.bottom), abs=1)

    def test_a_scan_larger_than_the_search(self, draw_scan: Callable[..., bytes]) -> None:
        picture = read_picture(draw_scan("PNG", width=1000, height=1100))
        tracing = show_tracing(picture)
        assert tracing.searched == (233, 256)
        assert picture.outline.box is not None
        assert tracing.extremes["left"][0] == pytest.approx(picture.outline.box.left, abs=5)
        assert max(read_link(link_picture(picture.grey, 640)).shape) == 640

    def test_the_maps_of_a_layer(self) -> None:
        maps = np.random.default_rng(1).normal(size=(9, 15, 15)).astype(np.float32)
        shown = show_layer(Layer(1, 1, maps))
        assert len(shown.maps) == 8
        for number, picture in shown.maps:
            expected = maps[number - 1]
            drawn = read_link(picture)
            assert (drawn.min(), drawn.max()) == (0, 255)
            assert np.unravel_index(drawn.argmax(), drawn.shape) == np.unravel_index(
                expected.argmax(), expected.shape
            )

    def test_no_contour(self) -> None:
        grey = np.zeros((64, 64), np.uint8)
        grey[::8, ::8] = 255  # dots that the erosion takes away
        tracing = show_tracing(Picture(grey))
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
        pixels = re.search(r'class="view pixels" src="([^"]+)" width="48"', text)
        assert pixels
        prepared = read_scan(scan, ScanSpecification(48))
        np.testing.assert_array_equal(read_link(pixels[1]), prepared.pixels[..., 0])

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

    @pytest.mark.parametrize("verdict", ["tumor", "no-tumor", "not-recognised"])
    def test_a_network_with_a_lesion_map(
        self, tmp_path: Path, publish_model: Publish, form: Form, scan: bytes, verdict: str
    ) -> None:
        publish_model(tmp_path, **VERDICTS[verdict])
        app = create_app({"MODELS_DIR": tmp_path, "JOBS_DIR": tmp_path / "jobs"})
        sent = form(("image", "scan.jpg", scan))
        text = app.test_client().post("/how", **sent, headers=HTML).text
        assert "The lesion map</h2>" in text
        assert "has 16\u00a0×\u00a016 cells" in text
        assert ("and nothing is marked" in text) is (verdict != "tumor")
        assert ('<g class="lesion">' in text) is (verdict == "tumor")
        assert "of layer 1" in text
        assert ("<details" in text) is (verdict == "not-recognised")

    def test_the_steps_of_a_decoder(
        self, tmp_path: Path, publish_model: Publish, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish_model(tmp_path, **VERDICTS["tumor"])
        maps = np.zeros((5, 8, 8), np.float32)
        layers = [Layer(1, 1, maps), Layer(1, 2, maps, decoder=True), Layer(2, 2, maps, True)]
        monkeypatch.setattr("tumorapp.pages.how.read_layers", lambda *_: layers)
        app = create_app({"MODELS_DIR": tmp_path, "JOBS_DIR": tmp_path / "jobs"})
        text = app.test_client().get("/how", headers=HTML).text
        assert "From coarse to fine</h2>" in text
        assert text.count('alt="Map 5 of layer 1"') == 1
        assert [f"Step {number} of 2: 5 maps of" in text for number in (1, 2)] == [True, True]
        assert 'alt="Map 5 of step 2"' in text

    def test_a_map_that_is_shown_nowhere_else(self, tmp_path: Path, publish_model: Publish) -> None:
        worse = draw_measurement(pointing=replace(POINTING, peak=0.1))
        publish_model(tmp_path, measurement=worse)
        app = create_app({"MODELS_DIR": tmp_path, "JOBS_DIR": tmp_path / "jobs"})
        text = app.test_client().get("/how", headers=HTML).text
        assert "in 10% of 8 scans (middle of the head: 20%)" in text
        assert "So it is shown here only" in text
        assert "The scan with the heat map over it" in text

    def test_a_graph_that_has_gone(self, app: Flask, models_dir: Path) -> None:
        app = create_app({"MODELS_DIR": models_dir, "JOBS_DIR": models_dir.parent / "jobs"})
        (models_dir / "binary-cnn" / "1" / "graph.xml").unlink()
        response = app.test_client().get("/how?model=binary-cnn", headers=HTML)
        assert response.status_code == 200
        assert "cannot be shown at the moment" in response.text

    def test_another_engine(
        self, app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(app.config, "ENGINE", "tensorflow")
        text = client.get("/how", headers=HTML).text
        assert "can only be shown with the OpenVINO engine" in text

    def test_nothing_is_inline(self, client: FlaskClient) -> None:
        text = client.get("/how", headers=HTML).text
        assert not re.search(r"<style| style=| on\w+=", text)
        assert all(" alt=" in picture for picture in re.findall(r"<img[^>]*>", text))

    def test_a_bounded_page(self, client: FlaskClient) -> None:
        assert len(client.get("/how", headers=HTML).data) < 300_000
