"""Scans and labels → the weights of the best epoch."""

import importlib
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
from training.batches import ScanBatches
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
