"""Everything a training run needs to go on after a kill, written so that no kill can spoil it."""

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

Epoch = dict[str, float]


class Checkpoint(keras.callbacks.Callback):
    """Saves the run after every epoch and brings it back.

    `BackupAndRestore` of Keras keeps weights, optimizer and epoch, but neither the waiting counts
    of early stopping and of the learning-rate cuts nor the best epoch so far, and a kill while it
    writes leaves a broken file. Here the history is the one source of truth: it is stored with
    the weights, and the other callbacks get it replayed.

    Files of the run's folder: `state-N.keras` (weights and optimizer after epoch N), `state.json`
    (names it; replaced atomically, last), `best.weights.h5` (averaged weights of the best epoch),
    `history.csv`.

    Args:
        folder: of the run.
        average: swaps the moving average of the weights in and out.
        replayed: callbacks that hold counts over the epochs.
    """

    def __init__(
        self,
        folder: Path,
        average: keras.callbacks.SwapEMAWeights,
        replayed: Sequence[keras.callbacks.Callback],
    ) -> None:
        super().__init__()
        self.folder = folder
        self.average = average
        self.replayed = replayed
        self.history: list[Epoch] = []
        self.finished = False

    @property
    def best_path(self) -> Path:
        """The averaged weights of the epoch with the lowest validation loss."""
        return self.folder / "best.weights.h5"

    def restore(self) -> keras.Model | None:
        """Load the state of a run that was cut off; None where there is none."""
        try:
            state = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        self.history, self.finished = state["history"], state["finished"]
        return keras.models.load_model(self.folder / state["model"])

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        rate = float(self.model.optimizer.learning_rate)
        for epoch, values in enumerate(self.history):
            for callback in self.replayed:
                callback.on_epoch_end(epoch, dict(values))
        self.model.optimizer.learning_rate = rate  # the replay has cut it a second time

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        values = {name: float(value) for name, value in (logs or {}).items()}
        best = min((past["val_loss"] for past in self.history), default=float("inf"))
        if values["val_loss"] < best:
            self._save_best()
        self.history.append(values)
        self._save_state()
        self._write_csv()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.finished = True
        self._save_state()

    def _save_best(self) -> None:
        self.average.on_test_begin()
        partial = self.folder / "partial.weights.h5"
        self.model.save_weights(partial)
        os.replace(partial, self.best_path)
        self.average.on_test_end()

    def _save_state(self) -> None:
        name = f"state-{len(self.history)}.keras"
        if not self.finished:
            self.model.save(self.folder / name)
        state = {"model": name, "finished": self.finished, "history": self.history}
        _replace_text(self.folder / "state.json", json.dumps(state))
        for old in self.folder.glob("state-*.keras"):
            if old.name != name:
                old.unlink()

    def _write_csv(self) -> None:
        partial = self.folder / "history.csv.partial"
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["epoch", *self.history[0]])
            writer.writeheader()
            writer.writerows(
                {"epoch": number, **values} for number, values in enumerate(self.history, 1)
            )
        os.replace(partial, self.folder / "history.csv")


def _replace_text(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
