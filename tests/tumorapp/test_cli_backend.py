import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

# A package that writes, when it is imported, as TensorFlow does: past Python's own streams.
NOISY = "import os; os.write(2, b'I0000 at level %s, ' % os.environb[b'TF_CPP_MIN_LOG_LEVEL'])"


@pytest.mark.parametrize(
    ("given", "written"), [(None, "at level 3"), ("0", "I0000 at level 0, at level 0")]
)
def test_the_log_of_tensorflow_is_for_those_who_ask(
    given: str | None, written: str, tmp_path: Path
) -> None:
    (tmp_path / "keras.py").write_text(NOISY)
    program = (
        "import os, sys; from tumorapp.cli.backend import load_backend; load_backend();"
        "sys.stderr.write('at level ' + os.environ['TF_CPP_MIN_LOG_LEVEL'])"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{PROJECT}"}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, **({"TF_CPP_MIN_LOG_LEVEL": given} if given else {})},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == written
