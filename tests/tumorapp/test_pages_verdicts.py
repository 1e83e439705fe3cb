"""What the page says of each verdict, by a model for each that gives it to every scan."""

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.cards import POINTING, VERDICTS, draw_measurement
from tests.tumorapp.markup import Page, send
from tumorapp import create_app


@pytest.fixture(scope="module")
def judging(tmp_path_factory: pytest.TempPathFactory, publish_model: Callable[..., Path]) -> Flask:
    """The application with a model for each verdict, and two with heat maps."""
    root = tmp_path_factory.mktemp("models")
    figures = draw_measurement(pointing=replace(POINTING, peak=0.9, dice=0.72))
    for verdict, changes in VERDICTS.items():
        publish_model(root, verdict, measurement=figures, **changes)
    publish_model(root, "grad-cam", measurement=figures)
    worse = draw_measurement(pointing=replace(POINTING, peak=0.1))
    publish_model(root, "grad-cam-astray", measurement=worse)
    return create_app({"MODELS_DIR": root})


@pytest.fixture
def client(judging: Flask) -> FlaskClient:
    return judging.test_client()


@pytest.mark.parametrize(
    ("verdict", "headline", "stated"),
    [
        ("tumor", "Pituitary tumour", "{confidence:.1%} confidence"),
        (
            "tumor-kind-unclear",
            "Tumour, kind unclear",
            "{tumor_probability:.1%} probability of a tumour Still possible: Pituitary tumour",
        ),
        (
            "unclear",
            "Unclear whether there is a tumour",
            "{tumor_probability:.1%} probability of a tumour The probability is too high",
        ),
        ("no-tumor", "No tumour found", "{confidence:.1%} confidence That does not rule"),
        ("not-recognised", "Not recognised as an MRI slice of a head", " Such a slice is grey"),
    ],
)
def test_each_has_a_headline_and_says_how_probable_it_is(
    client: FlaskClient, scan: bytes, verdict: str, headline: str, stated: str
) -> None:
    sent = {"image": (io.BytesIO(scan), "scan.jpg"), "model": verdict}
    [found] = client.post("/api/predict", data=sent).get_json()["predictions"]
    assert found["verdict"] == verdict
    response = send(client, scan, model=verdict, heatmap="1")
    page = Page(response.text)
    assert f"scan.jpg {headline} {stated.format(**found).strip()}" in page.text
    assert page.text.startswith(f"{headline} · TumorApp")
    assert page.by_id("result")["data-finding"] == headline
    assert "healthy" not in page.text.lower().replace("healthy brain", "")


@pytest.mark.parametrize("verdict", VERDICTS)
def test_what_it_marks_lies_over_the_scan(client: FlaskClient, scan: bytes, verdict: str) -> None:
    page = Page(send(client, scan, model=verdict, heatmap="1").text)
    assert "hidden" in page.by_id("heat")
    if verdict in ("no-tumor", "not-recognised"):
        assert "hidden" in page.by_id("lesion")
        assert page.by_id("caption")["data-map"] == "none"
        return
    assert page.by_id("lesion")["viewbox"] == "0 0 200 220"
    [points] = [found["points"] for found in page.all("polygon")]
    x, y = zip(*(map(float, place.split(",")) for place in points.split()), strict=True)
    assert (min(x), max(x)) == pytest.approx((100, 140), abs=10)  # the spot of draw_head
    assert (min(y), max(y)) == pytest.approx((99, 143), abs=10)
    area = re.search(r"the region that the model marks, (\d)% of the head", str(page.elements))
    assert area
    assert f"The model marks this region ({area[1]}% of the head)" in page.text
    assert "peak lies in the tumour in 90% of 8 scans (middle of the head: 20%)" in page.text


def test_what_would_have_been_said_is_folded_away(client: FlaskClient, scan: bytes) -> None:
    text = send(client, scan, model="not-recognised").text
    before, _, after = text[text.index("<article") :].partition("<details")
    assert "Glioma" not in before
    assert "What the model would have said" in after
    assert 'class="top"' not in after


def test_a_heat_map_is_shown_with_its_figure_or_not_at_all(
    client: FlaskClient, scan: bytes
) -> None:
    good = Page(send(client, scan, model="grad-cam", heatmap="1").text)
    assert good.by_id("heat")["src"].startswith("data:image/png")
    assert "peak lies in the tumour in 90% of 8 scans" in good.text
    astray = Page(send(client, scan, model="grad-cam-astray", heatmap="1").text)
    assert "hidden" in astray.by_id("heat")
    assert "The heat map is left out" in astray.text
    assert "class" not in astray.by_id("heat")


def test_all_of_them_are_compared(client: FlaskClient, scan: bytes) -> None:
    response = send(client, scan, "/compare/parts", model="tumor")
    page = Page(response.text)
    assert "The models disagree: 2 of 5 call it a tumour." in page.text
    assert "2 uncertain answers are not counted." in page.text
    assert "Tumour, kind unclear Still possible: Pituitary tumour" in page.text
    assert len(list(page.all("polygon"))) == 3
    assert response.text.count("<image ") == 1  # the scan is there once
