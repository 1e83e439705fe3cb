"""A run that is killed, however inconveniently, and called again ends as if it never had been."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from training.data.split import Part
from training.data.task import BINARY_CLASSES, Task
from training.fit import FitSettings, Fitted, fit
from training.models import Architecture, Recipe

Scans = tuple[NDArray[np.uint8], NDArray[np.int64]]

LEARNING = Recipe(epochs=4, batch=8, average=0.8)
# Its validation labels are swapped: the more it learns, the worse it does, so the learning rate is
# cut again and again and training stops early.
STOPPING = Recipe(epochs=12, batch=8, average=0.8, patience=4, augmentation=0)


@dataclass(frozen=True)
class Moment:
    """When a process kills itself: at an event that Python reports, with that file in its path.

    Attributes:
        event: `open` or `os.rename` of a file, or `os.remove`.
        file: its name.
        recipe: of the run.
        epochs: that are kept.
        delay: seconds from there to the kill, or None: when some of the file is written.
    """

    event: str
    file: str
    recipe: Recipe
    epochs: int
    delay: float | None = 0.0


MOMENTS = {
    "while the state is written": Moment("open", "state-2.keras", LEARNING, 1, None),
    "before the state counts": Moment("os.rename", ".state.json-", STOPPING, 0),
    "in the third epoch": Moment("os.remove", "state-1.keras", STOPPING, 2, 0.01),
    "while a cut of the learning rate is written": Moment(
        "open", "state-3.keras", STOPPING, 2, None
    ),
    "after the last epoch": Moment("os.remove", "state-4.keras", STOPPING, 5),
}


def build_tiny(size: int, outputs: int) -> keras.Model:
    """A network that trains in a second, with random draws of its own."""
    scans = keras.layers.Input((size, size, 1))
    x = keras.layers.Conv2D(8, 5, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(scans))
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(x))
    return keras.Model(scans, keras.layers.Dense(outputs, "sigmoid", dtype="float32")(x))


TINY = Architecture("tiny", "one convolution", "-", 32, build_tiny, binary=True)


def train(folder: Path, recipe: Recipe, training: Scans, validation: Scans) -> Fitted:
    """The call that starts a run and goes on with it."""
    pixels, labels = validation
    if recipe == STOPPING:
        labels = 1 - labels
    task = Task(BINARY_CLASSES, binary=True)
    settings = FitSettings(TINY, task, recipe, 32, folder, seed=1)
    known = Part(*training, np.arange(len(training[1])))
    return fit(known, Part(pixels, labels, np.arange(len(labels))), settings)


def train_and_die(moment: Moment, folder: Path, *parts: Scans) -> None:
    """Train in a process of its own until the moment has come."""

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event != moment.event or moment.file not in str(arguments[0]):
            return
        if moment.delay == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        threading.Thread(target=strike, args=(Path(arguments[0]),), daemon=True).start()

    def strike(path: Path) -> None:
        if moment.delay is None:
            while not path.exists() or path.stat().st_size == 0:
                time.sleep(0.0001)
        else:
            time.sleep(moment.delay)
        os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    train(folder, moment.recipe, *parts)


@pytest.fixture(scope="module")
def parts(draw_phantoms: Callable[..., Scans]) -> tuple[Scans, Scans]:
    return draw_phantoms(48, seed=1), draw_phantoms(16, seed=2)


@dataclass(frozen=True, eq=False)
class Run:
    """A run that came to its end."""

    folder: Path
    result: Fitted

    def load_state(self) -> keras.Model:
        """Load the model and optimizer of its last epoch."""
        return keras.models.load_model(self.folder / f"state-{len(self.result.history)}.keras")


@pytest.fixture(scope="module")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory, parts: tuple[Scans, Scans]
) -> Callable[[Recipe], Run]:
    runs: dict[Recipe, Run] = {}

    def run(recipe: Recipe) -> Run:
        if recipe not in runs:
            folder = tmp_path_factory.mktemp("uninterrupted")
            runs[recipe] = Run(folder, train(folder, recipe, *parts))
        return runs[recipe]

    return run


@pytest.fixture(scope="module", params=MOMENTS)
def killed(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    parts: tuple[Scans, Scans],
    processes: ForkServerContext,
) -> tuple[Moment, Path]:
    """A run in which a process was killed."""
    moment = MOMENTS[request.param]
    folder = tmp_path_factory.mktemp("killed")
    process = processes.Process(target=train_and_die, args=(moment, folder, *parts))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return moment, folder


def read_epochs(folder: Path) -> int:
    try:
        return len(json.loads((folder / "state.json").read_text(encoding="utf-8"))["history"])
    except FileNotFoundError:
        return 0


def test_killed_and_called_again(
    killed: tuple[Moment, Path],
    parts: tuple[Scans, Scans],
    uninterrupted: Callable[[Recipe], Run],
    capfd: pytest.CaptureFixture[str],
) -> None:
    moment, folder = killed
    assert read_epochs(folder) == moment.epochs
    capfd.readouterr()
    resumed = Run(folder, train(folder, moment.recipe, *parts))
    assert trained_epochs(capfd.readouterr().out) == list(
        range(moment.epochs + 1, len(resumed.result.history) + 1)
    )
    reference = uninterrupted(moment.recipe)
    assert_same_history(resumed.result, reference.result)
    assert_same_optimizer(resumed.load_state().optimizer, reference.load_state().optimizer)
    for ours, theirs in zip(
        resumed.result.model.weights, reference.result.model.weights, strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert {path.name for path in folder.iterdir()} == {
        path.name for path in reference.folder.iterdir()
    }


def trained_epochs(output: str) -> list[int]:
    lines = [line for line in output.splitlines() if line.startswith("Epoch ")]
    return [int(line.split()[1].partition("/")[0]) for line in lines]


def assert_same_history(result: Fitted, expected: Fitted) -> None:
    assert len(result.history) == len(expected.history)
    assert result.best_epoch == expected.best_epoch
    for values, theirs in zip(result.history, expected.history, strict=True):
        assert values["learning_rate"] == theirs["learning_rate"]
        for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
            assert values[name] == pytest.approx(theirs[name], abs=1e-4)


def assert_same_optimizer(ours: keras.Optimizer, theirs: keras.Optimizer) -> None:
    assert int(ours.iterations) == int(theirs.iterations)
    assert float(ours.learning_rate) == float(theirs.learning_rate)
    assert len(ours.variables) == len(theirs.variables)
    averages = [variable.path for variable in ours.variables if "average" in variable.path]
    assert averages
    for variable, other in zip(ours.variables, theirs.variables, strict=True):
        np.testing.assert_allclose(variable, other, atol=1e-4, err_msg=variable.path)


def test_the_stopping_run_stopped_early_and_was_slowed(
    uninterrupted: Callable[[Recipe], Run],
) -> None:
    """What the moments above rely on: it is stopped after five epochs, its rate cut in two."""
    result = uninterrupted(STOPPING).result
    assert result.best_epoch == 1
    assert len(result.history) == 1 + STOPPING.patience
    rates = [values["learning_rate"] for values in result.history]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-3, 4e-4, 4e-4])


def test_the_files_at_the_end_are_whole(uninterrupted: Callable[[Recipe], Run]) -> None:
    run = uninterrupted(LEARNING)
    with h5py.File(run.folder / f"best-{run.result.best_epoch}.weights.h5") as weights:
        assert "layers" in weights
    state = json.loads((run.folder / "state.json").read_text(encoding="utf-8"))
    assert state["finished"]
    assert state["history"] == run.result.history
    assert int(run.load_state().optimizer.iterations) == 4 * 6
