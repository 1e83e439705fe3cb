"""A format is one entry of a table: a made-up one gets through every door, and into training."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient

from brainscan.messages import ScanError
from brainscan.scan import Picture, ScanSpecification
from brainscan.scan.formats import FORMATS, Format, register
from training.data.dataset import load_dataset
from training.data.sources import DataError

Form = Callable[..., dict[str, Any]]

MEDIA_TYPE = "application/x-toy"


def read_toy(data: bytes, max_pixels: int) -> Picture:
    """Read "TOY1 width height", a line end, and a byte for each pixel."""
    head, _, pixels = data.partition(b"\n")
    width, height = map(int, head.split()[1:])
    if width * height > max_pixels:
        raise ScanError("image-too-large", width=width, height=height, most=max_pixels)
    if len(pixels) != width * height:
        raise ScanError("damaged-image", reason="pixels are missing")
    return Picture(np.frombuffer(pixels, np.uint8).reshape(height, width))


def write_toy(grey: np.ndarray) -> bytes:
    height, width = grey.shape
    return f"TOY1 {width} {height}\n".encode() + grey.tobytes()


@pytest.fixture(scope="module", autouse=True)
def toy_format() -> Iterator[None]:
    register(Format("Toy", (".toy",), MEDIA_TYPE, lambda data: data.startswith(b"TOY1 "), read_toy))
    yield
    del FORMATS["Toy"]


@pytest.fixture(scope="module")
def png(draw_scan: Callable[..., bytes]) -> bytes:
    return draw_scan("PNG")


@pytest.fixture(scope="module")
def toy(png: bytes) -> bytes:
    grey = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    return write_toy(np.asarray(grey))


@pytest.fixture
def expected(client: FlaskClient, png: bytes) -> dict[str, float]:
    """What is said of the same scan as a PNG."""
    return predict(client, data=png, content_type="image/png")


def predict(client: FlaskClient, **sent: Any) -> dict[str, float]:
    response = client.post("/api/predict", **sent)
    assert response.status_code == 200, response.text
    [found] = response.get_json()["predictions"]
    probabilities: dict[str, float] = found["probabilities"]
    return probabilities


def test_the_api(client: FlaskClient, form: Form, toy: bytes, expected: dict[str, float]) -> None:
    assert predict(client, **form(("image", "scan.toy", toy))) == expected
    assert predict(client, data=toy, content_type=MEDIA_TYPE) == expected
    refused = client.post("/api/predict", data=toy[:-1], content_type=MEDIA_TYPE)
    assert refused.get_json(force=True)["code"] == "damaged-image"
    refused = client.post("/api/predict", data=b"letter", content_type=MEDIA_TYPE)
    problem = refused.get_json(force=True)
    assert problem["accepted"][-1] == MEDIA_TYPE
    assert problem["detail"].endswith("JPEG 2000, DICOM, NIfTI and Toy.")


def test_its_description(app: Flask, client: FlaskClient) -> None:
    app.extensions.pop("openapi", None)
    document = client.get("/api/openapi.json").get_json()
    del app.extensions["openapi"]
    for path, form in (("/api/predict", "ImagesForm"), ("/api/report", "ImageForm")):
        assert MEDIA_TYPE in document["paths"][path]["post"]["requestBody"]["content"]
        fields = document["components"]["schemas"][form]["properties"]
        assert "NIfTI, Toy" in fields["image"]["description"]


def test_open_inference(client: FlaskClient, toy: bytes, expected: dict[str, float]) -> None:
    data = [base64.b64encode(toy).decode()]
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": data}
    response = client.post("/v2/models/mobilenet-v2/infer", json={"inputs": [tensor]})
    probabilities = response.get_json()["outputs"][0]["data"]
    assert probabilities == pytest.approx(list(expected.values()), abs=1e-6)


def test_the_pages(client: FlaskClient, form: Form, toy: bytes) -> None:
    headers = {"Accept": "text/html"}
    sent = form(("image", "scan.toy", toy), ("preview", None, b"1"))
    page = client.post("/", **sent, headers=headers)
    assert page.status_code == 200
    assert "data:image/webp;base64," in page.text
    assert f"application/x-nifti,{MEDIA_TYPE},.jpg" in page.text  # accept
    assert '.nii.gz .toy"' in page.text  # data-endings
    assert "NIfTI, Toy" in page.text
    for path in ("/how", "/compare/parts"):
        answer = client.post(path, **form(("image", "scan.toy", toy)), headers=headers)
        assert answer.status_code == 200
    how = client.get("/how", headers=headers).text
    assert f"application/x-nifti,{MEDIA_TYPE},.jpg" in how
    assert '.nii.gz .toy"' in how
    [result] = client.post("/many", **form(("image", "a.toy", toy))).get_json()["results"]
    assert result["filename"] == "a.toy"
    assert "label" in result


def test_the_command(app: Flask, tmp_path: Path, toy: bytes) -> None:
    (tmp_path / "scan.toy").write_bytes(toy)
    (tmp_path / "letter.txt").write_text("Dear doctor")
    result = app.test_cli_runner().invoke(args=["predict", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "scan.toy" in result.stdout
    assert "(1 .txt). Names of images end in .jpg, " in result.stderr
    assert ".nii.gz, .toy." in result.stderr


def test_training(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number, name in enumerate(("glioma", "notumor") * 2):
        grey = random.integers(0, 256, (40, 40), np.uint8)
        file = tmp_path / "data" / name / f"{number}.toy"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(write_toy(grey))
    cache = tmp_path / "cache"
    dataset = load_dataset([tmp_path / "data"], ScanSpecification(32), cache, binary=False)
    assert dataset.classes == ("glioma", "notumor")
    assert len(dataset.names) == 4
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"Images end in \.jpg, .*\.nii\.gz, \.toy\."):
        load_dataset([tmp_path / "empty"], ScanSpecification(32), cache, binary=False)
