"""`flask tune` as a person types it, on phantoms."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import Result

Run = Callable[..., Result]


@pytest.mark.slow
def test_the_best_is_trained_from_its_file(
    run: Run, tmp_path: Path, grow_tree: Callable[..., Path]
) -> None:
    data = grow_tree(tmp_path / "heads", {"Gliom": 20, "Healthy heads": 20})
    names = ("--class", "Gliom=glioma", "--tumor-free", "Healthy heads")
    given = ("--model", "ann-32-nodes-0-dense", "--data", data, *names, "--epochs", 2)
    command = ("tune", *given, "--size", 32, "--variants", 0, "--thin-copies", "--trials", 1)
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert "Trial 0 (learning_rate 0.001, weight_decay 1e-05, " in result.stdout
    (folder,) = (tmp_path / "instance/tuning").iterdir()
    assert result.stdout.endswith(f"To train it: flask train --config {folder}/best.yaml\n")
    best = yaml.safe_load((folder / "best.yaml").read_text(encoding="utf-8"))
    assert best == {
        "model": "ann-32-nodes-0-dense",
        "data": [str(data)],
        "class": ["Gliom=glioma"],
        "tumor-free": "Healthy heads",
        "epochs": 2,
        "variants": 0,
        "every-copy": False,
        "size": 32,
        "learning-rate": 0.001,
        "weight-decay": 1e-5,
        "label-smoothing": 0.0,
        "batch": 32,
        "augmentation": 0.0,
        "mixup": 0.0,
    }
    assert "Trials: 1, already finished: 1." in run(*command).stdout
    trained = run("train", "--config", folder / "best.yaml", "--no-publish")
    assert trained.exit_code == 0, trained.output
    assert "Resuming after epoch 2." in trained.stdout  # the trial's run is the training's


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "binary-cnn", "--method", "frozen"], "binary-cnn is trained from scratch"),
        (["--model", "binary-cnnn"], "Did you mean binary-cnn"),
        (["--model", "binary-cnn", "--trials", "0"], "Invalid value for '--trials'"),
    ],
)
def test_what_is_refused(
    run: Run, phantom_tree: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    result = run("tune", "--data", phantom_tree, *options)
    assert result.exit_code in (1, 2)
    assert words in result.stderr
    assert not (tmp_path / "instance").exists()
