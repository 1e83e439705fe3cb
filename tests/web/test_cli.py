import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.data import split
from tumorapp.cli.train import PROTOCOLS

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "command",
    [
        ["train", "--model", "binary-cnn", "--data", "scans"],
        ["data", "fetch", "sartaj"],
    ],
)
def test_a_package_that_is_not_installed_is_named(command: list[str], tmp_path: Path) -> None:
    # An interpreter that finds no package of those only training needs.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "for name in ('keras', 'tensorflow', 'sklearn', 'kagglehub', 'requests', 'matplotlib'):\n"
        "    sys.modules[name] = None\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "flask", *command],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    assert "needs the packages of requirements.txt (missing: " in result.stderr
    assert ".venv/dev/bin/flask" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_protocols_on_offer_are_those_there_are() -> None:
    assert PROTOCOLS == split.PROTOCOLS
