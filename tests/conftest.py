"""What several tests share: scans that are drawn, small real bundles, and the application."""

import io
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import cv2
import numpy as np
import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from brainscan.bundle import Card, publish_bundle
from brainscan.familiarity import Familiarity
from tests.cards import draw_up_card
from tumorapp import create_app


def pytest_configure(config: pytest.Config) -> None:
    """Let decoders warn, as `brainscan.scan` does; pytest's own filters would go before that."""
    config.addinivalue_line("filterwarnings", r"ignore:::(PIL|pydicom)(\.|$)")


def pytest_xdist_auto_num_workers() -> int:
    """Start one process more than there are cores: servers and slow clients make tests wait."""
    return (os.cpu_count() or 1) + 1


def draw_head(width: int = 200, height: int = 220, spot: float = 0.6) -> Image.Image:
    """Draw a head on black: skull, brain, and a bright spot that far from left and top."""
    picture = Image.new("L", (width, height), 4)
    pen = ImageDraw.Draw(picture)

    def ellipse(left: float, top: float, right: float, bottom: float, fill: int) -> None:
        pen.ellipse((left * width, top * height, right * width, bottom * height), fill=fill)

    ellipse(0.10, 0.07, 0.90, 0.93, 200)
    ellipse(0.15, 0.12, 0.85, 0.88, 90)
    ellipse(spot - 0.1, spot - 0.15, spot + 0.1, spot + 0.05, 240)
    ellipse(0.30, 0.60, 0.42, 0.75, 40)
    return picture


@pytest.fixture(scope="session")
def draw_scan() -> Callable[..., bytes]:
    """Draw a head and save it: `draw_scan("PNG", mode="RGB", width=…, **options of Image.save)`."""

    def draw(
        file_format: str = "JPEG",
        *,
        mode: str = "L",
        width: int = 200,
        height: int = 220,
        spot: float = 0.6,
        **options: Any,
    ) -> bytes:
        file = io.BytesIO()
        draw_head(width, height, spot).convert(mode).save(file, file_format, **options)
        return file.getvalue()

    return draw


@pytest.fixture(scope="session")
def scan(draw_scan: Callable[..., bytes]) -> bytes:
    """One scan, as a JPEG."""
    return draw_scan("JPEG", quality=95)


def draw_phantom(random: np.random.Generator, side: int, *, tumor: bool) -> NDArray[np.uint8]:
    """Draw a head, no two alike, with a bright blob in it or without: uint8, (side, side)."""
    across, down = np.meshgrid(*[np.linspace(-1, 1, side)] * 2)
    turn = random.uniform(-0.4, 0.4)
    x = (across * np.cos(turn) + down * np.sin(turn) - random.uniform(-0.08, 0.08)) / (
        random.uniform(0.62, 0.8)
    )
    y = (down * np.cos(turn) - across * np.sin(turn) - random.uniform(-0.08, 0.08)) / (
        random.uniform(0.72, 0.9)
    )
    radius = np.hypot(x, y)
    tissue = cv2.resize(random.normal(size=(7, 7)), (side, side), interpolation=cv2.INTER_CUBIC)
    picture = np.where(radius < 1, 90 + 22 * tissue, 2)
    picture[(radius > 0.88) & (radius < 1)] = 170
    if tumor:
        angle, distance = random.uniform(0, 2 * np.pi), random.uniform(0.2, 0.55)
        blob = np.hypot(x - distance * np.cos(angle), y - distance * np.sin(angle))
        picture[blob < random.uniform(0.18, 0.28)] = 250
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def grow_tree() -> Callable[..., Path]:
    """Fill folders with phantoms: `grow_tree(root, {"yes": 20, "no": 20}, seed=0)`.

    Heads in a folder named `no…` or `Healthy` are healthy, those in any other have a blob.
    """

    def grow(root: Path, folders: dict[str, int], *, seed: int = 0) -> Path:
        random = np.random.default_rng(seed)
        for folder, count in folders.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            tumor = not Path(folder).name.lower().startswith(("no", "healthy"))
            for number in range(count):
                picture = draw_phantom(random, 64, tumor=tumor)
                cv2.imwrite(str(root / folder / f"{number}.png"), picture)
        return root

    return grow


@pytest.fixture(scope="session")
def phantom_tree(tmp_path_factory: pytest.TempPathFactory, grow_tree: Callable[..., Path]) -> Path:
    """Forty heads in `Healthy` and `Brain Tumor`, for tests that leave it as it is."""
    root = tmp_path_factory.mktemp("data") / "phantoms"
    return grow_tree(root, {"Healthy": 20, "Brain Tumor": 20})


def write_graph(folder: Path, card: Card) -> None:
    """Write a small convolutional network with fixed random weights, as publishing would."""
    import openvino
    from openvino import opset13 as ops

    random = np.random.default_rng(7)
    scans = ops.parameter([-1, card.scan.size, card.scan.size, 1], np.uint8, name="scans")
    pixels = ops.divide(ops.convert(scans, "f32"), np.float32(255))
    maps = ops.relu(
        ops.convolution(
            ops.transpose(pixels, [0, 3, 1, 2]),
            random.normal(size=(8, 1, 5, 5)).astype(np.float32),
            [4, 4],
            [0, 0],
            [0, 0],
            [1, 1],
        )
    )
    weights = random.normal(size=(8, len(card.classes))).astype(np.float32)
    logits = ops.matmul(ops.reduce_mean(maps, [2, 3]), weights, False, False)
    probabilities = ops.softmax(logits, 1)
    probabilities.output(0).set_names({"probabilities"})
    outputs = [probabilities]
    if card.feature_layer is not None:
        heat = ops.reduce_mean(maps, [1])
        heat = ops.divide(heat, ops.add(ops.reduce_max(heat, [1, 2], True), np.float32(1e-6)))
        heat.output(0).set_names({"heatmap"})
        outputs.append(heat)
    if card.has_lesion_map:  # it takes what is bright for a tumour
        lesion = ops.avg_pool(
            ops.transpose(pixels, [0, 3, 1, 2]), [4, 4], [0, 0], [0, 0], [4, 4], False
        )
        lesion = ops.squeeze(lesion, [1])
        lesion.output(0).set_names({"lesion"})
        outputs.append(lesion)
    if card.refusal is not None:
        features = ops.reduce_mean(maps, [2, 3])
        features.output(0).set_names({"features"})
        outputs.append(features)
        Familiarity(np.zeros((1, 8), np.float32), np.eye(8, dtype=np.float32)).write(folder)
    openvino.save_model(openvino.Model(outputs, [scans]), folder / "graph.xml")


@pytest.fixture(scope="session")
def make_card() -> Callable[..., Card]:
    """Give the card of a made-up model: `make_card("binary-cnn", **fields)`."""
    return draw_up_card


@pytest.fixture(scope="session")
def publish_model() -> Callable[..., Path]:
    """Publish a small real bundle: `publish_model(root, "binary-cnn", **fields of its card)`."""

    def publish(root: Path, name: str = "mobilenet-v2", **changes: Any) -> Path:
        return publish_bundle(root, draw_up_card(name, **changes), write_graph)

    return publish


@pytest.fixture(scope="session")
def form() -> Callable[..., dict[str, Any]]:
    """Write a form as bytes: `client.post(path, **form(("image", "scan.jpg", data), …))`.

    werkzeug's client would write a large one into a temporary file that it leaves open.
    """

    def write(*parts: tuple[str, str | None, bytes]) -> dict[str, Any]:
        body = io.BytesIO()
        for name, filename, data in parts:
            named = f'; filename="{filename}"' if filename is not None else ""
            body.write(b"--boundary\r\nContent-Disposition: form-data; ")
            body.write(f'name="{name}"{named}\r\n\r\n'.encode() + data + b"\r\n")
        body.write(b"--boundary--\r\n")
        content_type = "multipart/form-data; boundary=boundary"
        return {"data": body.getvalue(), "content_type": content_type}

    return write


@pytest.fixture
def models_dir(tmp_path: Path, publish_model: Callable[..., Path]) -> Path:
    """A folder with `binary-cnn` and `mobilenet-v2`, for a test to do with as it likes."""
    root = tmp_path / "models"
    publish_model(root, "binary-cnn")
    publish_model(root, "mobilenet-v2")
    return root


@pytest.fixture
def run_program(models_dir: Path) -> Callable[..., Any]:
    """Run a program in a Python of its own, which serves those models; it must succeed."""

    def run(program: str, given: bytes = b"", **environment: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parents[1],
            env={**os.environ, "TUMORAPP_MODELS_DIR": str(models_dir), **environment},
            input=given,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done

    return run


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A real S3 server; gives its endpoint. Most tests want `bucket`."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    listening = server._server
    server.stop()
    listening.server_close()  # which moto leaves to the garbage collector


def set_keys(environment: pytest.MonkeyPatch, endpoint: str) -> None:
    """Set what opens the buckets of `s3_server`."""
    environment.setenv("AWS_ENDPOINT_URL", endpoint)
    environment.setenv("AWS_ACCESS_KEY_ID", "key")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty bucket; the environment has its endpoint and keys."""
    set_keys(monkeypatch, s3_server)
    name = f"bucket{uuid4().hex}"
    requests.put(f"{s3_server}/{name}", timeout=10).raise_for_status()
    return f"s3://{name}"


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory, publish_model: Callable[..., Path]) -> Flask:
    """The application with `binary-cnn` and `mobilenet-v2`; tests leave it as it is."""
    root = tmp_path_factory.mktemp("models")
    publish_model(root, "binary-cnn")
    publish_model(root, "mobilenet-v2")
    jobs = tmp_path_factory.mktemp("jobs")
    return create_app({"MODELS_DIR": root, "JOBS_DIR": jobs, "PROPAGATE_EXCEPTIONS": False})


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()
