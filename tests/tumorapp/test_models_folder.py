"""A service whose models are in a real S3 server."""

import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask

from brainscan.bundle.remote import RemoteBundles
from brainscan.storage import open_storage
from tumorapp import create_app
from tumorapp.catalog import Catalog

Publish = Callable[..., Path]


@pytest.fixture
def remote(bucket: str, models_dir: Path) -> RemoteBundles:
    """A store with `binary-cnn` 1."""
    remote = RemoteBundles(f"{bucket}/models")
    remote.push(models_dir / "binary-cnn" / "1")
    return remote


@pytest.fixture
def start(remote: RemoteBundles, tmp_path: Path) -> Callable[[], Flask]:
    """Start a service that has its models there, and let it look there once."""

    def start() -> Flask:
        settings = {"MODELS_CACHE": tmp_path / "cache", "JOBS_DIR": tmp_path / "jobs"}
        app = create_app({"MODELS_DIR": remote.url, **settings})
        look_again(app)
        return app

    return start


def served(app: Flask) -> dict[str, str]:
    models = app.test_client().get("/api/models").get_json()["models"]
    return {model["name"]: model["version"] for model in models}


def look_again(app: Flask) -> None:
    catalog: Catalog = app.extensions["catalog"]
    catalog.refresh()


def test_its_models_are_fetched_and_new_ones_taken_up(
    start: Callable[[], Flask],
    remote: RemoteBundles,
    models_dir: Path,
    publish_model: Publish,
    scan: bytes,
) -> None:
    app = start()
    assert served(app) == {"binary-cnn": "1"}
    remote.push(publish_model(models_dir, "binary-cnn"))
    look_again(app)
    assert served(app) == {"binary-cnn": "2"}
    answer = app.test_client().post("/api/predict", data=scan, content_type="image/jpeg")
    assert answer.status_code == 200


def test_a_store_that_goes_away_stops_nothing(
    start: Callable[[], Flask], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    caplog.clear()
    with caplog.at_level(logging.ERROR):
        look_again(app)
        look_again(app)
        assert served(app) == {"binary-cnn": "1"}
        [line] = caplog.messages
        assert "http://127.0.0.1:9 does not answer" in line
        assert line.endswith("What was fetched before is served.")
    assert served(start()) == {"binary-cnn": "1"}


def test_a_store_that_hangs_does_not_hold_up_the_start(
    start: Callable[[], Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = start()
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        address = "http://{}:{}".format(*hanging.getsockname())
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        begin = time.monotonic()
        settings = {"MODELS_DIR": before.config["MODELS_URL"]}
        app = create_app({**settings, "MODELS_CACHE": before.config["MODELS_DIR"]})
        assert served(app) == {"binary-cnn": "1"}
        assert time.monotonic() - begin < 15  # and not until the store's time is up


def test_a_half_uploaded_version_is_told_and_the_old_one_serves(
    start: Callable[[], Flask], remote: RemoteBundles, caplog: pytest.LogCaptureFixture
) -> None:
    app = start()
    system, root = open_storage(remote.url)
    system.pipe_file(f"{root}/binary-cnn/2/card.json", b"{}")
    look_again(app)
    look_again(app)
    assert served(app) == {"binary-cnn": "1"}
    [refused] = app.test_client().get("/api/models").get_json()["refused"]
    assert (refused["name"], refused["version"]) == ("binary-cnn", "2")
    assert "is not finished: push it again." in refused["reason"]
    assert caplog.text.count("Not fetched: binary-cnn/2: SHA256SUMS is not in") == 1


def test_a_file_url_is_a_folder(models_dir: Path) -> None:
    assert create_app({"MODELS_DIR": models_dir.as_uri()}).config["MODELS_DIR"] == models_dir
