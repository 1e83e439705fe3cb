import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tumorapp.cli.data import data_commands
from tumorapp.cli.evaluate import evaluate_command
from tumorapp.cli.models import models_commands
from tumorapp.cli.study import study_command
from tumorapp.cli.train import train_command

PROJECT = Path(__file__).parents[2]


def run_without_training(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command with an interpreter that finds no package of those only training needs."""
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "for name in ('keras', 'tensorflow', 'sklearn', 'kagglehub', 'requests', 'matplotlib'):\n"
        "    sys.modules[name] = None\n"
    )
    # The engine of TensorFlow names it to this process, once a test has opened one.
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    return subprocess.run(
        [sys.executable, "-m", "flask", *command],
        cwd=PROJECT,
        env={**environment, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "command",
    [
        ["train", "--model", "binary-cnn", "--data", "{folder}"],
        ["data", "fetch", "sartaj"],
    ],
)
def test_a_package_that_is_not_installed_is_named(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "yes").mkdir()
    (tmp_path / "yes/1.jpg").touch()
    words = [word.format(folder=tmp_path) for word in command]
    result = run_without_training(tmp_path, *words)
    assert result.returncode == 1, result.stderr
    assert "needs the packages of requirements.txt (missing: " in result.stderr
    assert ".venv/dev/bin/flask" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--data", "nowhere"], "The data folder nowhere does not exist."),
        (["--data", "{folder}"], "No labelled image in "),
    ],
)
def test_data_that_is_not_there_is_told_before_anything_is_loaded(
    options: list[str], word: str, tmp_path: Path
) -> None:
    words = [option.format(folder=tmp_path) for option in options]
    result = run_without_training(tmp_path, "train", "--model", "binary-cnn", *words)
    assert result.returncode == 1
    assert word in result.stderr


def list_commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """Give every command below one, by what is typed for it."""
    for below, one in command.commands.items() if isinstance(command, click.Group) else ():
        yield from list_commands(one, f"{name} {below}")
    if not isinstance(command, click.Group):
        yield name, command


OURS = dict(
    found
    for command in (data_commands, evaluate_command, models_commands, study_command, train_command)
    for found in list_commands(command, f"flask {command.name}")
)


@pytest.mark.parametrize("name", OURS)
def test_help_names_what_is_given_and_has_examples(name: str) -> None:
    command = OURS[name]
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    assert command.epilog is None or f"Examples:\n    {name}" in result.output
    for option in command.params:
        assert option.opts[0] in result.output or isinstance(option, click.Argument)
