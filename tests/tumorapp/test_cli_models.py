"""`flask models` as a person types it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask

from brainscan.bundle import installed_versions
from brainscan.bundle.manifest import write_manifest
from training.models import architecture
from tumorapp import create_app
from tumorapp.cli.installed import describe_change

Publish = Callable[..., Path]


def run(app: Flask, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(args=["models", *arguments])


def test_architectures_are_listed_with_their_parameters(app: Flask) -> None:
    result = run(app, "architectures", "ann-32-nodes-?-dense")
    assert result.exit_code == 0, result.output
    header, *rows = result.stdout.splitlines()
    assert header.split() == ["name", "parameters", "size", "document", "pretrained", "summary"]
    assert [row.split()[0] for row in rows] == [f"ann-32-nodes-{n}-dense" for n in range(4)]
    second = rows[1].split(maxsplit=5)
    # One dense layer of 32 nodes on 224 × 224 pixels, and four classes.
    assert second[1] == f"{224 * 224 * 32 + 32 + 32 * 4 + 4:,}"
    assert second[2:] == ["224", "000", "no", architecture("ann-32-nodes-1-dense").summary]


def test_a_pretrained_one_and_two_documents(app: Flask) -> None:
    [_, row] = run(app, "architectures", "mobilenet-v2").stdout.splitlines()
    assert row.split()[1:6] == ["2,263,108", "176", "000,", "002", "yes"]


def test_a_binary_one_is_built_for_two_classes(app: Flask) -> None:
    [_, row] = run(app, "architectures", "binary-*").stdout.splitlines()
    assert row.startswith("binary-cnn")


def test_architectures_are_listed_without_a_training_framework() -> None:
    code = (
        "import sys; from tumorapp import create_app; "
        "create_app().test_cli_runner().invoke(args=['models', 'architectures']); "
        "create_app().test_cli_runner().invoke(args=['study', '--list']); "
        "sys.exit('keras' in sys.modules)"
    )
    as_flask_does = {**os.environ, "FLASK_RUN_FROM_CLI": "true"}  # which loads no model at once
    done = subprocess.run([sys.executable, "-c", code], env=as_flask_does, check=False)
    assert done.returncode == 0


def test_a_pattern_that_matches_nothing_lists_the_known_names(app: Flask) -> None:
    result = run(app, "architectures", "vgg")
    assert result.exit_code == 1
    assert "No architecture's name matches 'vgg'" in result.output
    assert "binary-cnn" in result.output
    assert "vgg16" in result.output


@pytest.fixture
def installed(models_dir: Path, publish_model: Publish) -> Flask:
    """`binary-cnn` 1 to 3 and `mobilenet-v2` 1, as the commands see them."""
    for _ in range(2):
        publish_model(models_dir, "binary-cnn")
    return create_app({"MODELS_DIR": models_dir})


def rows(app: Flask) -> dict[str, list[str]]:
    """Give the cells of each listed version."""
    result = run(app, "list")
    assert result.exit_code == 0, result.output
    header, *lines = result.stdout.splitlines()
    assert header.split() == ["name", "version", "served", "accuracy", "protocol", "size", "files"]
    return {"/".join(line.split()[:2]): re.split(r"\s{2,}", line)[2:] for line in lines}


def spoil(models_dir: Path, bundle: str) -> None:
    (models_dir / bundle / "graph.bin").write_bytes(b"spoilt")


def test_the_list_says_what_is_served_and_why(installed: Flask, models_dir: Path) -> None:
    listed = rows(installed)
    assert listed["mobilenet-v2/1"] == ["newest", "0.5000", "grouped", "0.0 MB", "verified"]
    assert listed["binary-cnn/3"][0] == "newest"
    assert "newest" not in listed["binary-cnn/2"]
    spoil(models_dir, "binary-cnn/3")
    listed = rows(installed)
    assert listed["binary-cnn/2"][0] == "newest good"
    assert "graph.bin was changed" in listed["binary-cnn/3"][-1]


def test_the_list_of_nothing(tmp_path: Path) -> None:
    result = run(create_app({"MODELS_DIR": tmp_path}), "list")
    assert result.exit_code == 0
    assert "No model is installed" in result.stdout


def test_a_model_without_figures_is_listed(models_dir: Path, publish_model: Publish) -> None:
    publish_model(models_dir, "imported", measurement=None)
    assert rows(create_app({"MODELS_DIR": models_dir}))["imported/1"][0] == "newest"


def test_a_version_is_activated_and_the_newest_again(installed: Flask, models_dir: Path) -> None:
    result = run(installed, "activate", "binary-cnn", "2")
    assert result.exit_code == 0, result.output
    follows = "A running service follows within seconds, without a restart."
    assert result.stdout == f"binary-cnn/2 is active. {follows}\n"
    assert rows(installed)["binary-cnn/2"][0] == "chosen"
    assert run(installed, "activate", "binary-cnn", "newest").exit_code == 0
    assert rows(installed)["binary-cnn/3"][0] == "newest"
    assert not (models_dir / "binary-cnn" / "active").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("binary-cnn", "9"), "binary-cnn/9 is not installed. Installed: binary-cnn/1, "),
        (("vgg", "1"), "vgg/1 is not installed"),
        (("vgg", "newest"), "No model named 'vgg' is installed. Installed: binary-cnn, "),
        (("binary-cnn", "latest"), "'latest'"),
        (("binary-cnn", "1"), "graph.bin was changed"),
    ],
)
def test_what_cannot_be_activated(
    installed: Flask, models_dir: Path, arguments: tuple[str, str], word: str
) -> None:
    spoil(models_dir, "binary-cnn/1")
    result = run(installed, "activate", *arguments)
    assert result.exit_code == 1
    assert word in result.output
    assert not list(models_dir.glob("*/active"))


def test_a_version_is_removed(installed: Flask, models_dir: Path) -> None:
    assert run(installed, "remove", "binary-cnn", "1").exit_code == 0
    assert installed_versions(models_dir)["binary-cnn"] == [2, 3]


@pytest.mark.parametrize(
    ("bundle", "word"), [("binary-cnn/3", "that is served"), ("mobilenet-v2/1", "only version")]
)
def test_what_is_served_is_removed_with_yes_alone(
    installed: Flask, models_dir: Path, bundle: str, word: str
) -> None:
    result = run(installed, "remove", *bundle.split("/"))
    assert result.exit_code == 1
    assert word in result.output
    assert (models_dir / bundle).is_dir()
    assert run(installed, "remove", *bundle.split("/"), "--yes").exit_code == 0
    assert not (models_dir / bundle).exists()


def test_what_is_not_installed_is_not_removed(installed: Flask) -> None:
    result = run(installed, "remove", "binary-cnn", "7", "--yes")
    assert result.exit_code == 1
    assert "binary-cnn/7 is not installed" in result.output


def test_everything_is_verified(installed: Flask, models_dir: Path) -> None:
    result = run(installed, "verify")
    assert result.exit_code == 0, result.output
    assert re.fullmatch(
        r"(\S+/\d: its card and its files are as they were published, and its answers match its "
        r"card\.\n){4}",
        result.stdout,
    )
    card = models_dir / "binary-cnn" / "2" / "card.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "feature_layer": None}))
    write_manifest(card.parent)
    spoil(models_dir, "binary-cnn/1")
    result = run(installed, "verify")
    assert result.exit_code == 1
    assert "binary-cnn/1: Bundle binary-cnn/1: graph.bin was changed" in result.stdout
    assert "binary-cnn/2: Its card and its graph disagree" in result.stdout
    assert run(installed, "verify", "mobilenet-v2").exit_code == 0
    assert run(installed, "verify", "binary-cnn").exit_code == 1
    assert run(installed, "verify", "binary-cnn", "3").exit_code == 0
    assert run(installed, "verify", "binary-cnn", "4").exit_code == 1


@pytest.mark.parametrize("asked", ["vgg", "vgg/2", "binary-cnn/7"])
def test_what_is_not_installed_is_not_verified(app: Flask, asked: str) -> None:
    result = run(app, "verify", *asked.split("/"))
    assert result.exit_code == 1
    assert result.output == (
        f"Error: {asked} is not installed. Installed: binary-cnn/1, mobilenet-v2/1.\n"
    )


def test_a_graph_whose_answers_are_no_probabilities(models_dir: Path) -> None:
    graph = models_dir / "binary-cnn" / "1" / "graph.xml"
    text = graph.read_text().replace('type="SoftMax"', 'type="LogSoftmax"')
    graph.write_text(text)
    write_manifest(graph.parent)
    result = run(create_app({"MODELS_DIR": models_dir}), "verify", "binary-cnn")
    assert result.exit_code == 1
    assert "probabilities" in result.stdout


def test_who_publishes_hears_what_is_served_now_and_how_to_go_back(
    installed: Flask, models_dir: Path, publish_model: Publish
) -> None:
    knows = "A running service follows within seconds, without a restart."
    with installed.app_context():
        assert describe_change(publish_model(models_dir, "cnn")) == knows
        told = describe_change(publish_model(models_dir, "cnn"))
        assert told == (f"It replaces version 1. {knows} To go back: flask models activate cnn 1")
        publish_model(models_dir, "cnn")
    assert run(installed, "activate", "cnn", "1").exit_code == 0
    told = describe_change(publish_model(models_dir, "cnn"))
    assert told.startswith("Version 1 is served as before, because it was chosen.")
    assert told.endswith("flask models activate cnn 4")
