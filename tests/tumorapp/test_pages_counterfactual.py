"""What the page shows of a scan without the region that the model marks."""

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

import tumorapp.pages.counterfactual
from brainscan import Examination, Model
from brainscan.bundle import CurveAreas, Faithfulness
from tests.cards import LESION_NETWORK, VERDICTS, draw_measurement
from tumorapp import create_app

HTML = {"Accept": "text/html"}
PATH = "/counterfactual/parts"
Form = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, publish_model: Callable[..., Path]) -> Flask:
    root = tmp_path_factory.mktemp("models")
    publish_model(root, "lesions", **LESION_NETWORK, measurement=draw_measurement(flips=0.87))
    publish_model(root, "none-found", **VERDICTS["no-tumor"])
    return create_app({"MODELS_DIR": root, "DEFAULT_MODEL": "lesions", "JOBS_DIR": root / "jobs"})


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def read_pictures(html: str) -> list[np.ndarray]:
    links = re.findall(r'(?:href|src)="data:image/webp;base64,([^"]+)"', html)
    data = [np.frombuffer(base64.b64decode(link), np.uint8) for link in links]
    return [np.asarray(cv2.imdecode(one, cv2.IMREAD_GRAYSCALE), np.int64) for one in data]


def test_both_pictures_and_what_the_model_says(
    client: FlaskClient, form: Form, scan: bytes
) -> None:
    response = client.post(PATH, **form(("image", "scan.jpg", scan)), headers=HTML)
    assert response.status_code == 200
    before, after = read_pictures(response.text)
    assert before.shape == after.shape == (220, 200)
    spot = np.s_[110:120, 115:125]
    assert after[spot].mean() < before[spot].mean() - 20
    assert "Without the marked region the model says: <strong>" in response.text
    assert "87% of the answers changed" in response.text
    assert 'id="error" hidden' in response.text


def test_the_page_of_all_steps_has_it(client: FlaskClient, form: Form, scan: bytes) -> None:
    def show(model: bytes) -> str:
        sent = form(("image", "scan.jpg", scan), ("model", None, model))
        return client.post("/how", **sent, headers=HTML).text

    assert "Without the marked region the model says" in show(b"lesions")
    assert "Without the marked region" not in show(b"none-found")


def test_it_can_be_asked_for_where_a_region_is_marked(
    client: FlaskClient, form: Form, scan: bytes
) -> None:
    def show(model: bytes) -> str:
        sent = form(("image", "scan.jpg", scan), ("model", None, model))
        return client.post("/parts", **sent, headers=HTML).text

    assert f'data-parts="{PATH}"' in show(b"lesions")
    assert PATH not in show(b"none-found")


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("no-tumor", "So its answer comes from this region."),
        ("tumor", "So its answer does not come from this region alone."),
        ("tumor-kind-unclear", "So its answer does not come from this region alone."),
        (None, "The marked region cannot be replaced"),
    ],
)
def test_what_it_means(
    client: FlaskClient,
    form: Form,
    scan: bytes,
    monkeypatch: pytest.MonkeyPatch,
    verdict: str | None,
    words: str,
) -> None:
    def answer(_: Model, found: Examination) -> Examination | None:
        changes = VERDICTS[verdict] if verdict else {}
        return replace(found, card=replace(found.card, **changes)) if verdict else None

    monkeypatch.setattr(tumorapp.pages.counterfactual, "examine_without_lesion", answer)
    text = client.post(PATH, **form(("image", "scan.jpg", scan)), headers=HTML).text
    assert words in text
    assert len(read_pictures(text)) == (2 if verdict else 0)


def test_what_is_refused(client: FlaskClient, form: Form) -> None:
    sent = ("image", "letter.txt", b"Dear doctor")
    page = client.post(PATH, **form(sent), headers=HTML)
    assert (page.status_code, page.mimetype) == (422, "text/html")
    assert 'role="alert"' in page.text
    assert client.post(PATH, **form(sent)).mimetype == "application/problem+json"


def test_the_models_page_says_whether_its_answers_follow_its_map(
    tmp_path: Path, publish_model: Callable[..., Path]
) -> None:
    areas = CurveAreas(0.41, 0.92), CurveAreas(0.55, 0.81), CurveAreas(0.68, 0.7)
    figures = draw_measurement(faithfulness=Faithfulness(*areas, 0.0312, 8), flips=0.875)
    publish_model(tmp_path, "lesions", **LESION_NETWORK, measurement=figures)
    app = create_app({"MODELS_DIR": tmp_path, "JOBS_DIR": tmp_path / "jobs"})
    text = app.test_client().get("/models/lesions/1", headers=HTML).text
    cells = re.findall(r'<td class="number">([^<]+)</td>', text[text.index("(deletion") :])
    assert cells[:6] == ["0.4100", "0.5500", "0.6800", "0.9200", "0.8100", "0.7000"]
    assert cells[6:8] == ["0.0312", "87.50%"]
