"""What /metrics shows: in one process, and across gunicorn's workers."""

import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from tumorapp import create_app

PROJECT = Path(__file__).parents[2]

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read_samples(text: str) -> Samples:
    families = list(text_string_to_metric_families(text))
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def find(samples: Samples, name: str, /, **labels: str) -> float:
    """Give a sample's value; 0 where nothing was counted yet."""
    return samples.get((f"tumorapp_{name}", frozenset(labels.items())), 0)


@pytest.fixture
def changes(client: FlaskClient) -> Callable[..., float]:
    """Tell how much a sample has grown since the test began."""
    before = read_samples(client.get("/metrics").text)

    def tell(name: str, /, **labels: str) -> float:
        now = read_samples(client.get("/metrics").text)
        return find(now, name, **labels) - find(before, name, **labels)

    return tell


def test_a_prediction(client: FlaskClient, scan: bytes, changes: Callable[..., float]) -> None:
    answer = client.post("/api/predict", data=scan, content_type="image/jpeg")
    found = answer.get_json()["predictions"][0]["label"]
    name = {"model": "mobilenet-v2", "version": "1", "class": found}
    assert changes("predictions_total", **name) == 1
    assert changes("http_requests_total", endpoint="/api/predict", method="POST", status="200") == 1
    assert changes("http_request_duration_seconds_count", endpoint="/api/predict") == 1
    assert changes("request_images_sum") == 1
    stages = ("prepare", "infer")
    assert [changes("stage_duration_seconds_count", stage=stage) for stage in stages] == [1, 1]
    whole = changes("http_request_duration_seconds_sum", endpoint="/api/predict")
    assert 0 < sum(changes("stage_duration_seconds_sum", stage=stage) for stage in stages) < whole


@pytest.mark.parametrize(
    "request_",
    [
        {"data": b"x", "content_type": "image/png"},
        {"data": b"x", "content_type": "text/plain"},
        {"query_string": {"model": "vgg"}, "data": b"x", "content_type": "image/png"},
        {"path": "/secret/path"},
        {"method": "GET"},
    ],
)
def test_rejections(
    client: FlaskClient, changes: Callable[..., float], request_: dict[str, Any]
) -> None:
    options: dict[str, Any] = {"path": "/api/predict", "method": "POST", **request_}
    code = client.open(**options).get_json()["code"]
    assert changes("rejections_total", reason=code) == 1


def test_nothing_a_client_wrote_becomes_a_label(client: FlaskClient) -> None:
    client.open("/secret-path?secret=query", method="SECRET", headers={"X-Secret": "secret"})
    client.open("/static/secret-file", method="GET")
    client.post("/api/predict?model=secret&heatmap=secret", data=b"x", content_type="image/png")
    assert "secret" not in client.get("/metrics").text.lower()


def test_models_memory_and_requests_in_progress(client: FlaskClient) -> None:
    answer = client.get("/metrics")
    assert answer.content_type.startswith("text/plain; version=")
    samples = read_samples(answer.text)
    assert find(samples, "model_info", name="binary-cnn", version="1") == 1
    assert find(samples, "model_info", name="mobilenet-v2", version="1") == 1
    assert find(samples, "resident_memory_bytes") > 2e7
    assert find(samples, "workers") == 1
    assert find(samples, "http_requests_in_progress") == 1  # this one


def test_off(app: Flask) -> None:
    settings = {"MODELS_DIR": app.config["MODELS_DIR"], "METRICS": "off"}
    client = create_app(settings).test_client()
    assert client.get("/metrics").status_code == 404
    assert client.get("/healthz").status_code == 200


def test_each_metric_is_documented(client: FlaskClient) -> None:
    text = (PROJECT / "docs" / "configuration.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(tumorapp_\w+)` \|", text, flags=re.MULTILINE))
    shown = re.findall(r"^# TYPE (tumorapp_\w+)", client.get("/metrics").text, flags=re.MULTILINE)
    assert set(shown) == documented


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_across_workers_and_their_deaths(
    app: Flask, tmp_path: Path, scan: bytes, serve: Callable[..., AbstractContextManager[Any]]
) -> None:
    with serve(app.config["MODELS_DIR"], tmp_path, WEB_CONCURRENCY="2") as service:

        def read() -> Samples:
            return read_samples(service.ask("/metrics").text)

        wait_for(lambda: find(read(), "workers") == 2)
        for _ in range(20):
            service.ask("/api/predict", scan, {"Content-Type": "image/jpeg"})
        asked = {"endpoint": "/api/predict", "method": "POST", "status": "200"}
        assert {find(read(), "http_requests_total", **asked) for _ in range(10)} == {20}
        assert find(read(), "http_requests_in_progress") == 1

        victim = service.workers()[0]
        maps = Path(f"/proc/{victim}/maps").read_text()
        [folder] = set(re.findall(r"/\S+/tumorapp-metrics-[^/\s]+", maps))
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: len(service.workers()) == 2 and victim not in service.workers())
        wait_for(lambda: find(read(), "workers") == 2)
        assert find(read(), "http_requests_total", **asked) == 20
        assert find(read(), "stage_duration_seconds_count", stage="infer") == 20
        assert find(read(), "http_requests_in_progress") == 1
        assert find(read(), "resident_memory_bytes") > 4e7
    assert not Path(folder).exists()
