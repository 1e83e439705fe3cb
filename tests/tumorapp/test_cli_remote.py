"""`flask models` with a real S3 server."""

from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask

from brainscan.bundle import installed_versions
from tumorapp import create_app


def run(app: Flask, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(args=list(arguments))


def succeed(app: Flask, *arguments: str) -> str:
    result = run(app, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def local(models_dir: Path) -> Flask:
    return create_app({"MODELS_DIR": models_dir})


@pytest.fixture
def remote(bucket: str, tmp_path: Path) -> Flask:
    return create_app({"MODELS_DIR": f"{bucket}/models", "MODELS_CACHE": tmp_path / "cache"})


def test_models_are_pushed_and_pulled(local: Flask, remote: Flask, bucket: str) -> None:
    url, cache = f"{bucket}/models", remote.config["MODELS_DIR"]
    assert succeed(local, "models", "push", "binary-cnn", "--to", url).endswith(f"is in {url}.\n")
    told = succeed(local, "models", "push", "binary-cnn", "1", "--to", url)
    assert told == f"binary-cnn/1 was already in {url}.\n"
    assert succeed(remote, "models", "pull") == f"{cache} has binary-cnn/1.\n"
    assert "verified" in succeed(remote, "models", "list")
    assert "answers match" in succeed(remote, "models", "verify")


def test_versions_of_the_store_are_chosen_and_removed(
    local: Flask, remote: Flask, bucket: str
) -> None:
    for name in ("binary-cnn", "mobilenet-v2"):
        succeed(local, "models", "push", name, "--to", f"{bucket}/models")
    told = succeed(remote, "models", "activate", "binary-cnn", "1")
    assert "within half a minute" in told
    assert "chosen" in succeed(remote, "models", "list")
    succeed(remote, "models", "activate", "binary-cnn", "newest")
    assert "chosen" not in succeed(remote, "models", "list")
    assert "vgg is not installed" in run(remote, "models", "activate", "vgg", "newest").output
    succeed(remote, "models", "remove", "mobilenet-v2", "1", "--yes")
    succeed(remote, "models", "pull")
    assert installed_versions(remote.config["MODELS_DIR"]) == {"binary-cnn": [1]}


def test_nothing_is_published_straight_into_a_store(remote: Flask, tmp_path: Path) -> None:
    (tmp_path / "net.h5").write_bytes(b"")
    options = ("--name", "net", "--classes", "a,b", "--scale", "0..1")
    result = run(remote, "models", "import", str(tmp_path / "net.h5"), *options)
    assert result.exit_code == 1
    assert f"flask models push NAME --to {remote.config['MODELS_URL']}" in result.output


def test_what_cannot_be_pulled(
    local: Flask, remote: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def complaint(app: Flask) -> str:
        result = run(app, "models", "pull")
        assert result.exit_code == 1
        return result.output

    assert complaint(local).startswith("Error: TUMORAPP_MODELS_DIR is a folder.")
    assert complaint(remote) == f"Error: {remote.config['MODELS_URL']} does not exist.\n"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 does not answer" in complaint(remote)
