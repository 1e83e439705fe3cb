"""`flask models` as a person types it."""

import pytest
from click.testing import Result
from flask import Flask

from training.models import architecture


def run(app: Flask, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(args=["models", *arguments])


def test_architectures_are_listed_with_their_parameters(app: Flask) -> None:
    result = run(app, "architectures", "ann-32-*")
    assert result.exit_code == 0, result.output
    header, *rows = result.stdout.splitlines()
    assert header.split() == ["name", "parameters", "size", "document", "pretrained", "summary"]
    assert [row.split()[0] for row in rows] == [f"ann-32-nodes-{n}-dense" for n in range(3)]
    first = rows[0].split(maxsplit=5)
    # One dense layer of 32 nodes on 224 × 224 pixels, and four classes.
    assert first[1] == f"{224 * 224 * 32 + 32 + 32 * 4 + 4:,}"
    assert first[2:] == ["224", "000", "no", architecture("ann-32-nodes-0-dense").summary]


def test_a_pretrained_one_and_two_documents(app: Flask) -> None:
    [_, row] = run(app, "architectures", "mobilenet-v2").stdout.splitlines()
    assert row.split()[1:6] == ["2,263,108", "176", "000,", "002", "yes"]


def test_a_binary_one_is_built_for_two_classes(app: Flask) -> None:
    [_, row] = run(app, "architectures", "binary-*").stdout.splitlines()
    assert row.startswith("binary-cnn")


def test_a_pattern_that_matches_nothing_lists_the_known_names(app: Flask) -> None:
    result = run(app, "architectures", "vgg")
    assert result.exit_code == 1
    assert "No architecture's name matches 'vgg'" in result.output
    assert "binary-cnn" in result.output
    assert "vgg16" in result.output


@pytest.mark.parametrize("command", [[], ["architectures"]])
def test_help_says_what_they_do(app: Flask, command: list[str]) -> None:
    result = run(app, *command, "--help")
    assert result.exit_code == 0
    assert ("flask models architectures 'cnn-*'" in result.output) == bool(command)
    assert "architectures" in result.output
