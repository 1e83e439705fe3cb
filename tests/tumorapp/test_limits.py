"""How often a client may ask."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tumorapp import create_app
from tumorapp.keys import KeyFile
from tumorapp.limits import name_client

Limited = Callable[..., Flask]


@pytest.fixture
def limited(tmp_path: Path) -> Limited:
    """An application without models, and with a limit of three requests an hour."""

    def make(**settings: object) -> Flask:
        return create_app({"MODELS_DIR": tmp_path / "none", "RATE_LIMIT": "3/hour", **settings})

    return make


def ask(client: FlaskClient, address: str, path: str = "/api/models", **more: str) -> int:
    environ = {"REMOTE_ADDR": address}
    return client.get(path, environ_base=environ, headers=more).status_code


def test_one_too_many_is_refused_and_told_when_to_come_back(limited: Limited) -> None:
    client = limited().test_client()
    assert [ask(client, "192.0.2.1") for _ in range(3)] == [200] * 3
    response = client.get("/api/models", environ_base={"REMOTE_ADDR": "192.0.2.1"})
    assert response.status_code == 429
    assert response.mimetype == "application/problem+json"
    assert "3 in 3,600 s" in response.get_json()["detail"]
    seconds = int(response.headers["Retry-After"])
    assert 1 <= seconds <= 3600
    assert f"again in {seconds:,} s" in response.get_json()["detail"]
    assert response.headers["RateLimit-Limit"] == "3"
    assert response.headers["RateLimit-Remaining"] == "0"
    assert response.headers["RateLimit-Reset"] == str(seconds)


def test_all_that_a_client_asks_counts_together(limited: Limited) -> None:
    client = limited().test_client()
    answers = [
        ask(client, "192.0.2.1", path) for path in ("/api/models", "/v2", "/", "/api/predict")
    ]
    assert answers[:3] == [200] * 3
    assert ask(client, "192.0.2.1", "/v2") == 429


def test_another_address_is_another_client(limited: Limited) -> None:
    client = limited().test_client()
    assert [ask(client, "192.0.2.1") for _ in range(4)][-1] == 429
    assert ask(client, "192.0.2.2") == 200


def test_a_socket_for_both_kinds_of_address_tells_the_old_ones_apart(limited: Limited) -> None:
    client = limited().test_client()
    assert [ask(client, "::ffff:192.0.2.1") for _ in range(4)] == [200, 200, 200, 429]
    assert ask(client, "::ffff:192.0.2.2") == 200


def test_the_addresses_of_an_ipv6_network_are_one_client(limited: Limited) -> None:
    client = limited().test_client()
    answers = [ask(client, f"2001:db8:0:1::{number:x}") for number in range(4)]
    assert answers == [200, 200, 200, 429]
    assert ask(client, "2001:db8:0:2::1") == 200


def test_a_key_is_a_client_wherever_it_asks_from(limited: Limited, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    first, second = keys.add("first"), keys.add("second")
    client = limited(API_KEYS="on", KEYS_FILE=keys.path).test_client()
    answers = [
        ask(client, f"192.0.2.{number}", Authorization=f"Bearer {first}") for number in range(4)
    ]
    assert answers == [200, 200, 200, 429]
    assert ask(client, "192.0.2.1", Authorization=f"Bearer {second}") == 200


def test_what_watches_the_service_and_files_are_not_limited(limited: Limited) -> None:
    client = limited().test_client()
    for path in ("/healthz", "/readyz", "/metrics", "/v2/health/live", "/static/page.css"):
        for _ in range(6):
            with client.get(path) as response:
                assert response.status_code in (200, 503)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"path": "/api/models", "headers": {"X-API-Key": "wrong"}}, 401),
        ({"path": "/api/models"}, 401),
        ({"path": "/metrics", "headers": {"X-API-Key": "wrong"}}, 401),
        ({"path": "/nothing"}, 404),
        ({"path": "/", "method": "DELETE"}, 405),
        ({"path": "/", "method": "POST", "headers": {"Origin": "https://evil.example"}}, 403),
    ],
    ids=[
        "wrong key",
        "no key",
        "wrong key for what is not limited",
        "no such address",
        "wrong method",
        "another site",
    ],
)
def test_what_is_refused_counts_too(
    limited: Limited, tmp_path: Path, request_: dict[str, Any], status: int
) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    secret = keys.add("ward-3")
    client = limited(API_KEYS="on", KEYS_FILE=keys.path).test_client()
    assert [client.open(**request_).status_code for _ in range(5)] == [*[status] * 3, 429, 429]
    # A valid key is a client of its own, wherever it comes from.
    assert client.get("/api/models", headers={"X-API-Key": secret}).status_code == 200


def test_behind_a_proxy_its_clients_are_told_apart(limited: Limited) -> None:
    client = limited(PROXIES=1).test_client()
    for _ in range(3):
        assert ask(client, "127.0.0.1", **{"X-Forwarded-For": "192.0.2.1"}) == 200
    # What the client itself wrote before the proxy's own entry makes no difference.
    assert ask(client, "127.0.0.1", **{"X-Forwarded-For": "192.0.2.9, 192.0.2.1"}) == 429
    assert ask(client, "127.0.0.1", **{"X-Forwarded-For": "192.0.2.2"}) == 200


def test_a_client_without_an_address(app: Flask) -> None:
    with app.test_request_context("/", environ_overrides={"REMOTE_ADDR": ""}):
        assert name_client() == "unknown"


def test_replicas_count_together_in_redis_and_alone_while_it_is_away(
    limited: Limited, redis: Any, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (limited(REDIS=redis.url, JOBS="off").test_client() for _ in range(2))
    assert [ask(client, "192.0.2.1") for client in (first, second, first)] == [200] * 3
    assert [ask(client, "192.0.2.1") for client in (first, second)] == [429] * 2
    redis.kill()
    answers = [ask(first, "192.0.2.1") for _ in range(5)]
    redis.start()
    assert answers == [200, 200, 200, 429, 429]
    assert [record.name for record in caplog.records].count("flask-limiter") == 1
    assert "storage unreachable" in caplog.text
    assert "192.0.2" not in caplog.text
    assert ask(second, "192.0.2.1") == 429


def test_a_storage_that_fails_fails_no_request(
    limited: Limited, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = limited()
    [limiter] = app.extensions["limiter"]
    others = iter([lambda: ask(app.test_client(), "192.0.2.2")])

    def fail(*_: object, **__: object) -> bool:
        if (other := next(others, None)) is not None:
            with ThreadPoolExecutor(1) as pool:  # it finds out while this one still waits
                assert pool.submit(other).result() == 200
        raise ConnectionError("The storage has gone.")

    monkeypatch.setattr(limiter.limiter, "hit", fail)
    assert ask(app.test_client(), "192.0.2.1") == 200
    assert [record.name for record in caplog.records].count("flask-limiter") == 1


def test_a_storage_that_fails_after_it_has_counted(
    limited: Limited, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = limited()
    [limiter] = app.extensions["limiter"]

    def fail(*_: object) -> None:
        raise limiter.storage.base_exceptions

    monkeypatch.setattr(limiter.limiter, "get_window_stats", fail)
    client = app.test_client()
    answers = [client.get("/api/models") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].headers["Retry-After"] == "3600"


def test_the_document_says_so(limited: Limited, client: FlaskClient) -> None:
    document = limited().test_client().get("/api/openapi.json").get_json()
    assert "429" in document["paths"]["/api/predict"]["post"]["responses"]
    plain = client.get("/api/openapi.json").get_json()
    assert "429" not in plain["paths"]["/api/predict"]["post"]["responses"]
