"""Scans and labels → the weights of the best epoch."""

import importlib
import math
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from training.augment import build_augmentation
from training.checkpoint import Checkpoint, Epoch
from training.models import Architecture, Recipe

# Epochs that the moving average of the weights may span: on a small data set a longer one would
# be validated, and published, long before it has caught up with the weights.
_LONGEST_AVERAGE = 6


@dataclass(frozen=True)
class FitSettings:
    """How a run is trained.

    Attributes:
        recipe: epochs, batch, learning rate and so on.
        size: width and height of the scans, in pixels.
        classes: how many there are.
        seed: of the weights, the order of the scans and the augmentation.
        weights: pretrained weights to start from: "imagenet" (Keras downloads them), a file, or
            None for random ones.
        precision: a Keras dtype policy, or "auto": mixed_float16 on a GPU, else float32.
    """

    recipe: Recipe
    size: int
    classes: int
    seed: int = 0
    weights: str | Path | None = None
    precision: str = "auto"


@dataclass(frozen=True, eq=False)
class FitResult:
    """A trained model (float32, averaged weights of the best epoch) and how it got there."""

    model: keras.Model
    history: list[Epoch]
    best_epoch: int
    precision: str


class ScanBatches(keras.utils.PyDataset):
    """Batches of scans and targets; what an epoch holds depends on the seed and epoch alone.

    So a run that was cut off and resumed sees the scans in the order it would have seen them.

    Args:
        pixels: uint8, shape (scans, size, size, 1).
        labels: int64, shape (scans,).
        groups: int64, shape (scans,): near-duplicate groups. Where given, an epoch draws the
            square root of the size of each group, so a scan that the data sets hold fifty times
            does not count fifty times. None takes every scan.
        classes: how many there are.
        batch: scans a batch.
        binary: whether targets are (batch, 1) for one sigmoid neuron, else one-hot.
        seed: of the draw, the order and the mixing; None keeps the given order.
        mixup: where above 0, each scan and its target is blended with another's of its batch, by
            a share drawn from Beta(mixup, mixup) (Zhang et al., 2018).
        epoch: the epoch to begin with.
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        labels: NDArray[np.int64],
        groups: NDArray[np.int64] | None = None,
        *,
        classes: int,
        batch: int,
        binary: bool,
        seed: int | None = None,
        mixup: float = 0.0,
        epoch: int = 0,
    ) -> None:
        super().__init__()
        self.pixels, self.batch, self.seed, self.epoch = pixels, batch, seed, epoch
        self.mixup = mixup
        one_hot = np.eye(classes, dtype=np.float32)[labels]
        self.targets = one_hot[:, 1:] if binary else one_hot
        self.members = _list_members(groups, len(labels))
        # Every class weighs the same, however many scans of it an epoch holds.
        chances = np.empty(len(labels), np.float32)
        for rows in self.members:
            chances[rows] = _count_drawn(rows) / len(rows)
        counts = np.bincount(labels, weights=chances, minlength=classes)
        self.weights = (chances.sum() / (classes * counts))[labels].astype(np.float32)
        self._draw_order()

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        rows = self.order[index * self.batch : (index + 1) * self.batch]
        columns = self.pixels[rows], self.targets[rows], self.weights[rows]
        return self._mix(index, *columns) if self.mixup else columns

    def _mix(
        self,
        index: int,
        pixels: NDArray[np.uint8],
        targets: NDArray[np.float32],
        weights: NDArray[np.float32],
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        random = np.random.default_rng((self.seed or 0, self.epoch, index))
        share = np.float32(random.beta(self.mixup, self.mixup))
        other = random.permutation(len(pixels))

        def blend(column: NDArray[Any]) -> NDArray[Any]:
            return share * column + (1 - share) * column[other]

        mixed = blend(weights)
        # Each scan brings its own weight into the blend, so rare classes keep their share.
        return blend(pixels), blend(weights[:, None] * targets) / mixed[:, None], mixed

    def begin_at(self, epoch: int) -> None:
        """Draw the scans of an epoch, counted from 0."""
        self.epoch = epoch
        self._draw_order()

    def on_epoch_end(self) -> None:
        """Draw the next epoch; Keras calls it after each."""
        self.begin_at(self.epoch + 1)

    def _draw_order(self) -> None:
        if self.seed is None:
            self.order = np.concatenate(self.members)
            return
        random = np.random.default_rng((self.seed, self.epoch))
        drawn = [random.choice(rows, _count_drawn(rows), replace=False) for rows in self.members]
        self.order = random.permutation(np.concatenate(drawn))


def _list_members(groups: NDArray[np.int64] | None, scans: int) -> list[NDArray[np.int64]]:
    """Give the rows of each group; without groups every scan is one of its own, in order."""
    if groups is None:
        return list(np.arange(scans).reshape(-1, 1))
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.cumsum(np.unique(groups, return_counts=True)[1])[:-1])


def _count_drawn(group: NDArray[np.int64]) -> int:
    return math.ceil(math.sqrt(len(group)))


class _Stopwatch(keras.callbacks.Callback):
    """Adds the seconds of each epoch, validation included, to its history."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs["seconds"] = time.perf_counter() - self.started


def fit(
    architecture: Architecture,
    training: tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]],
    validation: tuple[NDArray[np.uint8], NDArray[np.int64]],
    settings: FitSettings,
    folder: Path,
) -> FitResult:
    """Train a model, or go on with the run that `folder` holds.

    Args:
        architecture: what to train.
        training: pixels (scans, size, size, 1) uint8, labels (scans,) int64 and near-duplicate
            groups (scans,) int64.
        validation: pixels and labels; steers early stopping, the learning rate and the choice of
            the epoch.
        settings: how.
        folder: keeps the checkpoint, `history.csv` and the TensorBoard logs.

    Raises:
        DivergenceError: the validation loss is no longer a number.
    """
    recipe = settings.recipe
    keras.utils.set_random_seed(settings.seed)
    precision = _choose_precision(settings.precision)
    keras.config.set_dtype_policy(precision)
    average = keras.callbacks.SwapEMAWeights()
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=recipe.patience)
    plateau = keras.callbacks.ReduceLROnPlateau(
        "val_loss", factor=0.4, patience=max(1, recipe.patience // 2), min_lr=1e-6
    )
    checkpoint = Checkpoint(folder, average, [stopping, plateau])
    folder.mkdir(parents=True, exist_ok=True)
    pixels, labels, groups = training
    batches = partial(ScanBatches, classes=settings.classes, binary=architecture.binary)
    training_batches = batches(
        pixels,
        labels,
        None if recipe.every_copy else groups,
        batch=recipe.batch,
        seed=settings.seed,
        mixup=recipe.mixup,
    )
    trained = checkpoint.restore() or _compile(architecture, settings, len(training_batches))
    start = len(checkpoint.history)
    training_batches.begin_at(start)
    try:
        if not checkpoint.finished:
            trained.fit(
                training_batches,
                validation_data=batches(*validation, batch=4 * recipe.batch),
                epochs=recipe.epochs,
                initial_epoch=start,
                shuffle=False,  # ScanBatches draws the order
                callbacks=[
                    average,
                    _Stopwatch(),
                    keras.callbacks.TensorBoard(folder / "tensorboard"),
                    stopping,
                    plateau,
                    checkpoint,
                ],
                verbose=1 if sys.stdout.isatty() else 2,
            )
    finally:
        keras.config.set_dtype_policy("float32")
    model = _load_best(architecture, settings, checkpoint.best_path)
    return FitResult(model, checkpoint.history, checkpoint.best_epoch, precision)


def _assemble(
    architecture: Architecture, settings: FitSettings, weights: str | Path | None
) -> keras.Sequential:
    """Put the augmentation before the network; the network is the last layer."""
    network = architecture.build(settings.size, settings.classes, weights)
    augmentation = build_augmentation(settings.recipe.augmentation, settings.seed)
    return keras.Sequential([layers.Input(network.input_shape[1:]), *augmentation, network])


def _compile(architecture: Architecture, settings: FitSettings, steps: int) -> keras.Model:
    """Build and compile the model; an epoch has that many steps."""
    recipe = settings.recipe
    model = _assemble(architecture, settings, settings.weights)
    losses = keras.losses
    loss = losses.BinaryCrossentropy if architecture.binary else losses.CategoricalCrossentropy
    model.compile(
        optimizer=keras.optimizers.AdamW(
            recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            use_ema=True,
            ema_momentum=min(recipe.average, 1 - 1 / (_LONGEST_AVERAGE * steps)),
        ),
        loss=loss(label_smoothing=recipe.label_smoothing),
        metrics=["accuracy"],
    )
    return model


def _load_best(architecture: Architecture, settings: FitSettings, path: Path) -> keras.Model:
    """Rebuild the network alone, in float32, with the averaged weights of the best epoch."""
    model = _assemble(architecture, settings, weights=None)
    model.load_weights(path)
    return model.layers[-1]


def _choose_precision(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    # A CPU without matrix units trains slower in half precision (measured: docs/decisions.md).
    return "mixed_float16" if count_gpus() else "float32"


def count_gpus() -> int:
    """Count the GPUs that the Keras backend sees."""
    if keras.backend.backend() == "torch":  # which keras.distribution does not cover
        return int(importlib.import_module("torch").cuda.device_count())
    devices = keras.distribution.list_devices()  # the accelerators, or failing any, the CPUs
    return sum(device.lower().startswith(("gpu", "cuda", "rocm")) for device in devices)


def describe_device() -> str:
    """Say in a few words what a run trains on."""
    gpus = count_gpus()
    return f"{gpus} GPU, {keras.backend.backend()}" if gpus else f"CPU, {keras.backend.backend()}"
