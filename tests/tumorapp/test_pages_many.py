"""Many scans from the page: each by itself, whatever the others are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.cards import VERDICTS
from tumorapp import create_app

Form = Callable[..., dict[str, Any]]


def test_they_are_predicted_as_the_api_does(client: FlaskClient, scan: bytes, form: Form) -> None:
    sent = form(("image", "a.jpg", scan), ("image", "b.jpg", scan), ("model", None, b"binary-cnn"))
    answer = client.post("/many", **sent).get_json()
    expected = client.post("/api/predict", **sent).get_json()
    assert (answer["model"], answer["version"]) == ("binary-cnn", "1")
    words = [result.pop("words") for result in answer["results"]]
    pictures = [result.pop("thumbnail") for result in answer["results"]]
    assert all(picture.startswith("data:image/webp;base64,") for picture in pictures)
    assert answer["results"] == expected["predictions"]
    assert [word["finding"] in {"Tumour", "No tumour found"} for word in words] == [True, True]
    assert words[0]["confidence"].endswith("%")
    assert words[0]["share"] == answer["results"][0]["confidence"]


@pytest.mark.parametrize(
    ("verdict", "finding", "of", "remarks"),
    [
        ("tumor-kind-unclear", "Tumour, kind unclear", "of a tumour", "Still possible: "),
        ("unclear", "Unclear whether there is a tumour", "of a tumour", ""),
        ("not-recognised", "Not recognised as an MRI slice of a head", "", ""),
    ],
)
def test_what_is_left_open_is_said(
    tmp_path: Path,
    publish_model: Callable[..., Path],
    scan: bytes,
    form: Form,
    verdict: str,
    finding: str,
    of: str,
    remarks: str,
) -> None:
    publish_model(tmp_path, **VERDICTS[verdict])
    client = create_app({"MODELS_DIR": tmp_path}).test_client()
    [found] = client.post("/many", **form(("image", "a.jpg", scan))).get_json()["results"]
    words = found["words"]
    assert (found["verdict"], words["finding"], words["of"]) == (verdict, finding, of)
    assert words["share"] == (found["tumor_probability"] if of else None)
    assert words["remarks"].startswith(remarks)
    assert bool(words["remarks"]) is bool(remarks)


def test_a_bad_file_does_not_stop_the_rest(client: FlaskClient, scan: bytes, form: Form) -> None:
    sent = form(
        ("image", "a.jpg", scan), ("image", "b.txt", b"Dear doctor"), ("image", "c.jpg", scan)
    )
    response = client.post("/many", **sent)
    assert response.status_code == 200
    good, bad, other = response.get_json()["results"]
    assert set(bad) == {"filename", "error"}
    assert bad["filename"] == "b.txt"
    assert bad["error"]["code"] == "not-an-image"
    assert bad["error"]["detail"].startswith("The file is not an image")
    assert good["confidence"] == other["confidence"]


def test_a_scan_with_too_many_pixels_is_one_bad_file(
    app: Flask, scan: bytes, draw_scan: Callable[..., bytes], form: Form
) -> None:
    app = create_app({"MODELS_DIR": app.config["MODELS_DIR"], "MAX_PIXELS": 60_000})
    large = draw_scan("PNG", width=400, height=400)
    sent = form(("image", "large.png", large), ("image", "a.jpg", scan))
    bad, good = app.test_client().post("/many", **sent).get_json()["results"]
    assert bad["error"]["code"] == "image-too-large"
    assert "label" in good


@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        ([], 400, "missing-image"),
        ([("image", "a.jpg", b"x")] * 17, 413, "too-many-images"),
        ([("image", "a.jpg", b"x"), ("model", None, b"none")], 404, "unknown-model"),
        ([("image", "a.jpg", b"x"), ("color", None, b"red")], 400, "unknown-option"),
    ],
)
def test_what_is_wrong_with_all_of_it_is_a_problem(
    client: FlaskClient, form: Form, parts: list[Any], status: int, code: str
) -> None:
    response = client.post("/many", **form(*parts), headers={"Accept": "application/json"})
    assert response.status_code == status
    assert response.mimetype == "application/problem+json"
    assert response.get_json()["code"] == code


def test_it_asks_for_no_key_and_goes_with_the_pages(
    app: Flask, tmp_path: Any, scan: bytes, form: Form
) -> None:
    models = app.config["MODELS_DIR"]
    keys = tmp_path / "keys.json"
    locked = create_app({"MODELS_DIR": models, "API_KEYS": "on", "KEYS_FILE": keys}).test_client()
    sent = form(("image", "a.jpg", scan))
    assert locked.post("/api/predict", **sent).status_code == 401
    assert locked.post("/many", **sent).status_code == 200
    headless = create_app({"MODELS_DIR": models, "PAGES": "off"}).test_client()
    assert headless.post("/many", **sent).status_code == 404
