"""Everything a training run needs to go on after a kill, written so that no kill can spoil it."""

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from brainscan.files import write_text
from training.device import DeviceMemoryError, accumulate_gradients

Epoch = dict[str, float]

_KEPT = ("batch", "finished", "history", "random", "tensors")
_LOG = logging.getLogger(__name__)


class DivergenceError(ValueError):
    """Training has left every useful number behind; the message says when and what to change."""


class Checkpoint(keras.callbacks.Callback):
    """Saves the run after every epoch and brings it back; after all callbacks that it replays.

    `BackupAndRestore` of Keras keeps weights, optimizer and epoch, but neither the waiting counts
    of early stopping and of the learning-rate cuts nor the best epoch so far, and a kill while it
    writes leaves a broken file. Here the history is stored with the weights and the state of the
    random draws, and the other callbacks get it replayed. Half a batch, where the device has run
    out of memory, is part of the state too.

    Files of the run's folder: `state-N.keras` (weights and optimizer after epoch N),
    `best-N.weights.h5` (averaged weights of the best epoch), `history.csv`, and `state.json`,
    which says what N is: it is replaced atomically and last, so whatever a kill leaves half
    written is not yet part of the run.

    Args:
        folder: of the run.
        batch: scans that an update is to see.
        average: swaps the moving average of the weights in and out.
        replayed: callbacks that hold counts over the epochs.
        keep_last: whether the last epoch is the one to keep, as a schedule that ends there means it
            to be.
    """

    def __init__(
        self,
        folder: Path,
        batch: int,
        average: keras.callbacks.SwapEMAWeights,
        replayed: Sequence[keras.callbacks.Callback],
        *,
        keep_last: bool = False,
    ) -> None:
        super().__init__()
        self.folder = folder
        self.wanted = self.batch = batch
        self.average = average
        self.replayed = replayed
        self.keep_last = keep_last
        self.history: list[Epoch] = []
        self.finished = False
        self.random: list[list[int]] = []
        self.tensors = 0  # that the network took from the weights it started from

    @property
    def steps(self) -> int:
        """Steps of `batch` scans whose gradients make one update."""
        return round(self.wanted / self.batch)

    @property
    def best_epoch(self) -> int:
        """The epoch that is kept, counted from 1: that with the lowest validation loss."""
        if self.keep_last:
            return len(self.history)
        losses = [values["val_loss"] for values in self.history]
        return losses.index(min(losses)) + 1

    @property
    def best_path(self) -> Path:
        """The averaged weights of the best epoch."""
        return self.folder / f"best-{self.best_epoch}.weights.h5"

    def restore(self) -> keras.Model | None:
        """Load the state of a run that was cut off; None for a run that has not begun."""
        self._read_state()
        if not self.history:
            return None
        model = keras.models.load_model(self._state_path)
        self._remove_others()
        accumulate_gradients(model, self.steps)
        for generator, drawn in zip(_random_states(model), self.random, strict=True):
            generator.assign(drawn)
        return model

    def halve_batch(self) -> None:
        """Remember to go on with half the scans a step, from the last epoch that was kept.

        Raises:
            DeviceMemoryError: a step is of one scan already.
        """
        if self.batch == 1:
            raise DeviceMemoryError(
                "The device has too little memory to train on even one scan a step. Choose a "
                "smaller --size or a smaller model, free memory that other programs hold, or train "
                "on the CPU."
            )
        self._read_state()  # an epoch whose files could not be written was none
        before = self.batch
        self.batch //= 2
        self._write_state()
        _LOG.warning(
            "The device ran out of memory with %d scans a step. Training continues after epoch %d "
            "with %d a step; %d steps make one update of the weights.",
            before,
            len(self.history),
            self.batch,
            self.steps,
        )

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Bring the other callbacks to where they were, epoch by epoch."""
        for epoch, values in enumerate(self.history):
            self.model.optimizer.learning_rate = values["learning_rate"]
            for callback in self.replayed:
                callback.on_epoch_end(epoch, dict(values))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Save the epoch; the other callbacks have judged it already."""
        values = {name: float(value) for name, value in (logs or {}).items()}
        self.history.append(values)
        if not math.isfinite(values["val_loss"]):
            raise DivergenceError(
                f"Training has diverged: the validation loss of epoch {epoch + 1} is "
                f"{values['val_loss']}. Choose a learning rate below "
                f"{self.history[0]['learning_rate']:g}."
            )
        self.finished = self.model.stop_training or epoch + 1 == self.params["epochs"]
        if self.best_epoch == len(self.history):
            self._save_best()
        self.model.save(self._state_path)
        self._write_csv()
        self.random = [
            keras.ops.convert_to_numpy(one).tolist() for one in _random_states(self.model)
        ]
        self._write_state()
        self._remove_others()

    @property
    def _state_path(self) -> Path:
        return self.folder / f"state-{len(self.history)}.keras"

    def _save_best(self) -> None:
        self.average.on_test_begin()
        self.model.save_weights(self.best_path)
        self.average.on_test_end()

    def _read_state(self) -> None:
        """Go back to the last epoch that was kept, or to none."""
        self.history, self.finished, self.random = [], False, []
        for name, value in _load_state(self.folder).items():
            setattr(self, name, value)

    def _write_state(self) -> None:
        state = {name: getattr(self, name) for name in _KEPT}
        write_text(self.folder / "state.json", json.dumps(state))

    def _write_csv(self) -> None:
        lines = [",".join(["epoch", *self.history[0]])]
        lines += [
            ",".join(map(str, [number, *values.values()]))
            for number, values in enumerate(self.history, 1)
        ]
        write_text(self.folder / "history.csv", "\n".join(lines) + "\n")

    def _remove_others(self) -> None:
        """Remove what belongs to other epochs, or was cut off while it was written."""
        for pattern in ("state-*.keras", "best-*.weights.h5", ".state.json-*", ".history.csv-*"):
            for path in self.folder.glob(pattern):
                if path not in (self._state_path, self.best_path):
                    path.unlink()


def count_epochs(folder: Path) -> int:
    """Count the epochs that a run has kept, after which it resumes."""
    return len(_load_state(folder).get("history", []))


def _load_state(folder: Path) -> dict[str, Any]:
    """Give what was kept, by the names in `_KEPT`; nothing before the first epoch."""
    try:
        state: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return state


def _random_states(model: keras.Model) -> list[keras.Variable]:
    """Give the states of dropout and augmentation, which a saved model does not hold."""
    return [one for one in model.variables if one.name == "seed_generator_state"]
