"""The same training code on Keras's other backends, where they are installed; their log."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.bundle import read_bundle

PROJECT = Path(__file__).parents[2]
PROGRAM = """
import sys
from dataclasses import replace
from pathlib import Path
from training.models import Recipe
from training.pipeline import train
from training.run import TrainingRequest

instance, data = map(Path, sys.argv[1:])
request = TrainingRequest(
    model="binary-cnn", data=(data,), instance=instance, models=instance / "models",
    protocol="grouped", recipe=Recipe(epochs=2, batch=16), size=32,
)
print(train(replace(request, publish=False)).run)
print(train(request).bundle)
"""
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
        "import os, sys; from training.backend import load_backend; load_backend();"
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


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_another_backend_trains_and_publishes(
    backend: str, tmp_path: Path, phantom_tree: Path
) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error::UserWarning:training",
            "-c",
            PROGRAM,
            tmp_path,
            phantom_tree,
        ],
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run, bundle = map(Path, (done.stdout.splitlines()[-2], done.stdout.splitlines()[-1]))
    assert len((run / "history.csv").read_text().splitlines()) == 3
    card = read_bundle(bundle)
    assert card.training["device"].endswith(backend)
    assert card.training["epochs"] == 2
    assert backend in card.training["versions"]
    assert card.metrics["graph_difference"] <= 1e-3
    assert card.feature_layer == "conv_2"
    assert done.stdout.count("Epoch 1/2") == 1  # the second call found a finished run
