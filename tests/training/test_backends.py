"""The same training code on Keras's other backends, where they are installed."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from brainscan.bundle import read_bundle

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
    assert card.training.device.endswith(backend)
    assert card.training.epochs == 2
    assert backend in card.training.versions
    assert card.graph_difference <= 1e-3
    assert card.feature_layer == "conv_2"
    assert done.stdout.count("Epoch 1/2") == 1  # the second call found a finished run
