"""API keys: the file, the commands, and what asks for one."""

import hashlib
import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tumorapp import create_app
from tumorapp.client import Client, ProblemError
from tumorapp.errors import ConfigurationError
from tumorapp.keys import KeyFile

pytestmark = pytest.mark.filterwarnings("error")

Serve = Callable[..., Any]


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys" / "keys.json")


@pytest.fixture
def locked(app: Flask, keys: KeyFile) -> Flask:
    """The application, asking for keys."""
    models = app.config["MODELS_DIR"]
    return create_app({"MODELS_DIR": models, "API_KEYS": "on", "KEYS_FILE": keys.path})


@pytest.fixture
def asking(locked: Flask) -> FlaskClient:
    return locked.test_client()


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


class TestFile:
    def test_a_key_is_stored_as_its_hash_for_the_owner_alone(self, keys: KeyFile) -> None:
        secret = keys.add("ward-3")
        assert len(secret) >= 43
        text = keys.path.read_text()
        assert secret not in text
        [stored] = json.loads(text).values()
        assert stored["sha256"] == hashlib.sha256(secret.encode()).hexdigest()
        assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
        left = [file.name for file in keys.path.parent.iterdir() if not file.name.endswith(".lock")]
        assert left == ["keys.json"]

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
    def test_root_leaves_it_to_the_user_of_the_service(self, keys: KeyFile) -> None:
        keys.path.parent.mkdir()
        os.chown(keys.path.parent, 10001, 10001)
        for name in "ab":
            keys.add(name)
            assert {file.stat().st_uid for file in keys.path.parent.iterdir()} == {10001}

    def test_every_key_is_another(self, keys: KeyFile) -> None:
        assert keys.add("a") != keys.add("b")
        assert list(keys.read()) == ["a", "b"]

    def test_it_is_found_by_a_comparison_in_constant_time(
        self, keys: KeyFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import hmac

        secrets = [keys.add(name) for name in "abc"]
        compared = []
        original = hmac.compare_digest
        monkeypatch.setattr(
            hmac, "compare_digest", lambda *both: compared.append(both) or original(*both)
        )
        for shown, name in ((secrets[0], "a"), (secrets[2], "c"), ("wrong", None)):
            compared.clear()
            assert keys.find(shown) == name
            assert len(compared) == 3  # it does not end at the first that fits

    def test_what_is_no_key_file_is_refused(self, keys: KeyFile) -> None:
        keys.path.parent.mkdir()
        for text in ("", "{", "[]", '{"a": 1}', '{"a": {}}'):
            keys.path.write_text(text)
            with pytest.raises(ConfigurationError, match="cannot be read"):
                keys.read()
            assert keys.find("x") is None

    def test_several_at_once(self, keys: KeyFile) -> None:
        threads = [
            threading.Thread(target=keys.add, args=(f"key-{number}",)) for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(keys.read()) == 8


PROTECTED = ["/api/models", "/v2", "/v2/models/mobilenet-v2", "/metrics"]
OPEN = [
    *("/", "/models", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"),
    *("/api/openapi.json", "/api/docs", "/static/page.css"),
]


class TestRequests:
    def test_with_and_without_a_key(self, asking: FlaskClient, keys: KeyFile) -> None:
        secret = keys.add("ward-3")
        shown = (bearer(secret), {"X-API-Key": secret}, {"authorization": f"bearer {secret}"})
        for path in PROTECTED:
            response = asking.get(path)
            assert response.status_code == 401
            assert response.headers["WWW-Authenticate"] == 'Bearer realm="TumorApp"'
            assert "X-API-Key" in response.get_data(as_text=True)
            assert [asking.get(path, headers=one).status_code for one in shown] == [200] * 3

    def test_what_needs_none(self, asking: FlaskClient) -> None:
        for path in OPEN:
            with asking.get(path) as response:
                assert response.status_code == 200, path

    def test_every_other_address_needs_one(self, locked: Flask) -> None:
        client = locked.test_client()
        for rule in locked.url_map.iter_rules():
            if rule.rule in OPEN or not rule.rule.startswith(("/api/", "/v2", "/metrics")):
                continue
            if "<path:" in rule.rule:  # files of the API's page
                continue
            path = rule.rule.replace("<name>", "x").replace("<version>", "1")
            path = path.replace("<job>", "x")
            for method in (rule.methods or set()) - {"OPTIONS"}:
                status = client.open(path, method=method).status_code
                assert status == 401, (method, path)

    def test_with_a_wrong_one(self, asking: FlaskClient, keys: KeyFile) -> None:
        keys.add("ward-3")
        for headers in (
            bearer("wrong"),
            bearer("tumorapp_" + "x" * 10_000),
            bearer("ключ"),
            {"X-API-Key": "\u00ff"},
            {"Authorization": "Bearer"},
            {"Authorization": "Basic dXNlcjpwYXNz"},
            {"X-API-Key": " "},
        ):
            encoded = {name: value.encode().decode("latin-1") for name, value in headers.items()}
            response = asking.get("/api/models", headers=encoded)
            assert response.status_code == 401, headers
            assert "tumorapp_" not in response.get_data(as_text=True)

    def test_it_counts_at_once_and_no_longer_once_removed(
        self, asking: FlaskClient, keys: KeyFile
    ) -> None:
        first, second = keys.add("first"), keys.add("second")
        assert asking.get("/api/models", headers=bearer(first)).status_code == 200
        keys.remove("first")
        assert asking.get("/api/models", headers=bearer(first)).status_code == 401
        assert asking.get("/api/models", headers=bearer(second)).status_code == 200
        keys.path.write_text("damaged")
        assert asking.get("/api/models", headers=bearer(second)).status_code == 401

    def test_a_prediction(self, asking: FlaskClient, keys: KeyFile, scan: bytes) -> None:
        sent = {"data": scan, "content_type": "image/jpeg"}
        assert asking.post("/api/predict", **sent).status_code == 401
        headers = bearer(keys.add("ward-3"))
        assert asking.post("/api/predict", **sent, headers=headers).status_code == 200

    def test_the_document_says_so(self, asking: FlaskClient, client: FlaskClient) -> None:
        document = asking.get("/api/openapi.json").get_json()
        assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
        predict = document["paths"]["/api/predict"]["post"]
        assert predict["security"] == [{"bearer": []}, {"key": []}]
        assert {"401", "403"} <= predict["responses"].keys()
        assert "security" not in document["paths"]["/v2/health/live"]["get"]
        plain = client.get("/api/openapi.json").get_json()
        assert "securitySchemes" not in plain["components"]
        assert "401" not in plain["paths"]["/api/predict"]["post"]["responses"]

    def test_a_start_without_keys_warns(
        self, locked: Flask, caplog: pytest.LogCaptureFixture
    ) -> None:
        create_app(
            {**{name: locked.config[name] for name in ("MODELS_DIR", "API_KEYS", "KEYS_FILE")}}
        )
        assert "TUMORAPP_API_KEYS is on and there is no key in" in caplog.text
        assert "the pages predict without a key" in caplog.text
        assert "TUMORAPP_PAGES=off turns them off." in caplog.text

    def test_a_start_with_a_damaged_file_is_refused(self, app: Flask, tmp_path: Path) -> None:
        file = tmp_path / "keys.json"
        file.write_text("[]")
        models = app.config["MODELS_DIR"]
        with pytest.raises(ConfigurationError, match="cannot be read"):
            create_app({"MODELS_DIR": models, "API_KEYS": "on", "KEYS_FILE": file})


class TestCommands:
    def run(self, app: Flask, *arguments: str) -> Any:
        with app.app_context():  # pytest-flask has pushed that of another application
            return app.test_cli_runner().invoke(args=["keys", *arguments])

    def test_add_list_and_remove(self, locked: Flask, keys: KeyFile) -> None:
        assert "There are no keys" in self.run(locked, "list").output
        added = self.run(locked, "add", "ward-3")
        secret = added.stdout.strip()
        assert "cannot be shown again" in added.stderr
        asking = locked.test_client()
        assert asking.get("/api/models", headers=bearer(secret)).status_code == 200
        listed = self.run(locked, "list").output
        assert listed.startswith("ward-3  20")
        assert secret not in listed
        assert self.run(locked, "remove", "ward-3").exit_code == 0
        assert asking.get("/api/models", headers=bearer(secret)).status_code == 401

    def test_what_cannot_be_done_is_said(self, locked: Flask, keys: KeyFile) -> None:
        for name in ("", "a b", "-a", "x" * 65, "a/b"):
            result = self.run(locked, "add", "--", name)
            assert result.exit_code == 1
            assert "is not accepted. Give a name of" in result.stderr
        self.run(locked, "add", "one")
        assert "already a key named 'one'" in self.run(locked, "add", "one").stderr
        assert "no key named 'two'" in self.run(locked, "remove", "two").stderr
        keys.path.write_text("{")
        for command in (["list"], ["add", "x"], ["remove", "x"]):
            result = self.run(locked, *command)
            assert result.exit_code == 1
            assert "cannot be read" in result.stderr


@pytest.mark.slow
def test_the_client_and_the_command_send_it(
    app: Flask, locked: Flask, keys: KeyFile, tmp_path: Path, serve: Serve, scan: bytes
) -> None:
    secret = keys.add("ward-3")
    variables = {"TUMORAPP_API_KEYS": "on", "TUMORAPP_KEYS_FILE": str(keys.path)}
    file = tmp_path / "scan.jpg"
    file.write_bytes(scan)
    runner = app.test_cli_runner()
    with serve(
        app.config["MODELS_DIR"], tmp_path, TUMORAPP_LOG_FORMAT="json", **variables
    ) as service:
        with Client(service.url) as client, pytest.raises(ProblemError, match="has no API key"):
            client.predict(scan)
        with Client(service.url) as client, pytest.raises(ProblemError) as refused:
            client.predict([scan + bytes(1_000_000)] * 15)  # it reads why, however much it sends
        assert refused.value.status == 401
        with Client(service.url, api_key=secret) as client:
            assert client.ready()
            assert client.predict(scan).predictions
        command = ["predict", str(file), "--server", service.url]
        assert "has no API key" in runner.invoke(args=command).stderr
        done = runner.invoke(args=command, env={"TUMORAPP_API_KEY": secret})
        assert done.exit_code == 0, done.output
        log = service.output.read_text()
    assert '"key": "ward-3"' in log
    assert secret not in log + service.errors.read_text()
