"""A head and its slices as the server renders them: a volume, a series, and one slice of it."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.cards import VERDICTS
from tests.heads import SPOTS, write_series, write_volume
from tests.tumorapp.markup import HTML, Page, send
from tests.volumes import write_nifti
from tumorapp import create_app


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, publish_model: Callable[..., Path]) -> Flask:
    """The application with a model that knows nothing but tumours and marks what is bright."""
    root = tmp_path_factory.mktemp("models")
    publish_model(root, "mobilenet-v2", classes=("glioma", "meningioma"), **VERDICTS["tumor"])
    return create_app({"MODELS_DIR": root, "JOBS_DIR": tmp_path_factory.mktemp("jobs")})


def test_without_a_script_there_is_the_strongest_slice_and_a_table(client: FlaskClient) -> None:
    page = Page(send(client, write_volume(), name="head.nii.gz").text)
    assert page.by_id("scan")["src"].startswith("data:image/webp;base64,")
    assert page.by_id("lesion")["viewbox"] == "0 0 100 110"
    number = int(page.by_id("slice")["data-frame"]) + 1
    assert f"Slice {number} of 4 , {2 * number - 2}.0 mm" in page.text
    assert "4, of which 4 count" in page.text
    assert "Marked volume" in page.text
    assert "Matrix 100 × 110 Spacing 1 × 1 × 2 mm" in page.text  # of the header
    assert "6.0 mm" in page.text  # where the last slice of the table lies
    scans = [one for _, one in page.elements if one.get("id") == "scan"]
    assert len(scans) == 2  # on the stage, and in the template of a new one


def test_the_script_gets_what_each_slice_puts_on_the_stage(client: FlaskClient) -> None:
    page = Page(send(client, write_volume(), path="/parts", name="head.nii.gz").text)
    brought = [one for tag, one in page.elements if one.get("id") == "scan"][1:]
    assert [one["src"][:23] for one in brought] == ["data:image/jpeg;base64,"] * len(SPOTS)
    slices = [one for tag, one in page.elements if one.get("id") == "slice"][1:]
    assert [one["data-frame"] for one in slices] == ["0", "1", "2", "3"]


def test_the_files_of_a_series_are_one_answer(client: FlaskClient) -> None:
    images = [(io.BytesIO(data), name) for name, data in write_series()]
    page = Page(client.post("/parts", data={"image": images}, headers=HTML).text)
    assert "3.dcm (4 files)" in page.text
    files = [one["data-file"] for tag, one in page.elements if one.get("id") == "slice"][1:]
    assert files == ["0.dcm", "1.dcm", "2.dcm", "3.dcm"]
    sent = {"image": [(io.BytesIO(data), name) for name, data in write_series()], "series": "1"}
    [row] = client.post("/many", data=sent).get_json()["results"]
    assert (row["verdict"], "slices" in row) == ("tumor", False)


def test_what_is_not_of_the_series_is_told(client: FlaskClient) -> None:
    files = [*write_series(), ("letter.dcm", b"Dear doctor")]
    images = [(io.BytesIO(data), name) for name, data in files]
    page = Page(client.post("/parts", data={"image": images}, headers=HTML).text)
    assert "letter.dcm" in page.text


@pytest.mark.parametrize("name", ["head.nii.gz", "scan.jpg"])
def test_there_is_one_head(client: FlaskClient, scan: bytes, name: str) -> None:
    data = scan if name == "scan.jpg" else write_volume()
    images = [(io.BytesIO(data), name), (io.BytesIO(data), f"other-{name}")]
    answer = client.post("/parts", data={"image": images}, headers=HTML)
    assert answer.status_code == 413
    assert "Too many images: 2" in answer.text


@pytest.mark.parametrize("path", ["/how", "/counterfactual/parts", "/compare", "/report"])
def test_one_slice_is_asked_about(client: FlaskClient, path: str) -> None:
    def ask(volume: bytes | None = None, **fields: str) -> Any:
        sent = {"image": (io.BytesIO(volume or write_volume()), "head.nii.gz"), **fields}
        return client.post(path, data=sent, headers=HTML)

    first, last = ask(frame="0"), ask(frame="3")
    assert (first.status_code, last.status_code) == (200, 200)
    assert first.data != last.data
    answer = ask(frame="4")
    assert answer.status_code == 422
    assert "The file has no slice 4." in answer.text
    blank = write_nifti(np.zeros((32, 32, 2), np.uint8))
    assert ask(blank, frame="1").status_code == 200


@pytest.mark.parametrize("path", ["/how", "/counterfactual/parts", "/compare"])
def test_a_slice_does_not_answer_for_its_head(client: FlaskClient, path: str) -> None:
    said = "the answer for the whole head may be different"
    for name, data, number in (
        ("head.nii.gz", write_volume(), "slice 3 of 4"),
        (*write_series()[0], "one slice of a series"),
    ):
        sent = {"image": (io.BytesIO(data), name), "frame": "2" if "nii" in name else "0"}
        answer = client.post(path, data=sent, headers=HTML)
        assert f"This is {number}: {said}" in Page(answer.text).text
