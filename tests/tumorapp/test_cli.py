import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.data import split
from tumorapp.cli.train import PROTOCOLS

PROJECT = Path(__file__).parents[2]


def run_without_training(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command with an interpreter that finds no package of those only training needs."""
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "for name in ('keras', 'tensorflow', 'sklearn', 'kagglehub', 'requests', 'matplotlib'):\n"
        "    sys.modules[name] = None\n"
    )
    return subprocess.run(
        [sys.executable, "-m", "flask", *command],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(folder)},
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


def test_the_protocols_on_offer_are_those_there_are() -> None:
    assert PROTOCOLS == split.PROTOCOLS
