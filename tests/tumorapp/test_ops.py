from pathlib import Path

import pytest
from flask.testing import FlaskClient

from tumorapp import create_app
from tumorapp.security import HEADERS

BROWSER = {"Accept": "text/html"}


def test_alive(client: FlaskClient) -> None:
    assert client.get("/healthz").get_json() == {"status": "ok"}


def test_ready(client: FlaskClient) -> None:
    expected = {
        "status": "ready",
        "default": "mobilenet-v2",
        "models": ["binary-cnn", "mobilenet-v2"],
        "refused": [],
    }
    assert client.get("/readyz").get_json() == expected


def test_alive_but_not_ready_without_a_model(tmp_path: Path) -> None:
    client = create_app({"MODELS_DIR": tmp_path}).test_client()
    assert client.get("/healthz").status_code == 200
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.mimetype == "application/problem+json"


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/api/models"])
def test_only_to_be_read(client: FlaskClient, path: str, method: str) -> None:
    assert client.open(path, method=method).status_code == 405


@pytest.mark.parametrize(
    "path",
    ["/", "/healthz", "/readyz", "/metrics", "/api/models", "/api/predict", "/nothing"],
)
@pytest.mark.parametrize("accept", ["text/html", "*/*"])
def test_every_response_has_the_security_headers(
    client: FlaskClient, path: str, accept: str
) -> None:
    response = client.get(path, headers={"Accept": accept})
    for name, value in HEADERS.items():
        assert response.headers.getlist(name) == [value]
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert "unsafe" not in response.headers["Content-Security-Policy"]
