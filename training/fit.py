"""Scans and labels → the weights of the best epoch."""

import gc
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from training.augment import build_augmentation
from training.batches import ScanBatches
from training.checkpoint import Checkpoint, Epoch
from training.device import choose_precision
from training.losses import UnnamedTumorAccuracy, UnnamedTumorCrossentropy
from training.memory import accumulate_gradients, is_out_of_memory
from training.models import Architecture, Recipe, WeightsError

# What a model takes, and labels; and near-duplicate groups.
Scans = tuple[NDArray[Any], NDArray[np.int64]]
Labelled = tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]

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
        healthy: where some training scans show a tumour whose kind is not named (their label is
            `classes`), the class that they do not show.
        seed: of the weights, the order of the scans and the augmentation.
        weights: pretrained weights to start from: "imagenet" (Keras downloads them), a file, or
            None for random ones.
        precision: a Keras dtype policy, or "auto": mixed_float16 on a GPU, else float32.
    """

    recipe: Recipe
    size: int
    classes: int
    healthy: int | None = None
    seed: int = 0
    weights: str | Path | None = None
    precision: str = "auto"


@dataclass(frozen=True, eq=False)
class FitResult:
    """A trained model (float32, averaged weights of the best epoch) and how it got there.

    Attributes:
        model: of scans to probabilities.
        history: values of each epoch.
        best_epoch: counted from 1; 0 where there were no epochs.
        precision: the Keras dtype policy of the training.
        batch: scans a step that its predictions may take.
        notes: sentences on what is special about it, for the report.
    """

    model: keras.Model
    history: list[Epoch]
    best_epoch: int
    precision: str
    batch: int
    notes: tuple[str, ...] = ()


class _Stopwatch(keras.callbacks.Callback):
    """Adds the seconds of each epoch, validation included, to its history."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs["seconds"] = time.perf_counter() - self.started


def fit(
    architecture: Architecture,
    training: Labelled,
    validation: Scans,
    settings: FitSettings,
    folder: Path,
) -> FitResult:
    """Train a model, or go on with the run that `folder` holds.

    Args:
        architecture: what to train.
        training: pixels (scans, size, size, 1) uint8, labels (scans,) int64 and near-duplicate
            groups (scans,) int64. An architecture may take features instead of pixels.
        validation: inputs and labels; steers early stopping, the learning rate and the choice of
            the epoch.
        settings: how.
        folder: keeps the checkpoint, `history.csv` and the TensorBoard logs.

    Raises:
        DivergenceError: the validation loss is no longer a number.
        DeviceMemoryError: the device has no memory for even one scan a step.
    """
    precision = choose_precision(settings.precision)
    folder.mkdir(parents=True, exist_ok=True)
    keras.config.set_dtype_policy(precision)
    try:
        while not (checkpoint := _train(architecture, training, validation, settings, folder)):
            gc.collect()  # what the device ran out of memory with
    finally:
        keras.config.set_dtype_policy("float32")
    model = _load_best(architecture, settings, checkpoint.best_path)
    return FitResult(
        model, checkpoint.history, checkpoint.best_epoch, precision, 4 * checkpoint.batch
    )


def _train(
    architecture: Architecture,
    training: Labelled,
    validation: Scans,
    settings: FitSettings,
    folder: Path,
) -> Checkpoint | None:
    """Train to the end; give None where memory ran out and a smaller batch was written down."""
    recipe = settings.recipe
    keras.utils.set_random_seed(settings.seed)
    average = keras.callbacks.SwapEMAWeights()
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=recipe.patience)
    plateau = keras.callbacks.ReduceLROnPlateau(
        "val_loss", factor=0.4, patience=max(1, recipe.patience // 2), min_lr=1e-6
    )
    logs = keras.callbacks.TensorBoard(folder / "tensorboard")
    checkpoint = Checkpoint(folder, recipe.batch, average, [stopping, plateau])
    restored = checkpoint.restore()
    if checkpoint.finished:
        return checkpoint
    start, binary = len(checkpoint.history), architecture.binary
    batches = _draw_batches(training, settings, binary, batch=checkpoint.batch, epoch=start)
    trained = restored or _compile(architecture, settings, len(batches), checkpoint.steps)
    try:
        trained.fit(
            batches,
            validation_data=_keep_order(validation, settings, binary, batch=4 * checkpoint.batch),
            epochs=recipe.epochs,
            initial_epoch=start,
            shuffle=False,  # ScanBatches draws the order
            callbacks=[average, _Stopwatch(), logs, stopping, plateau, checkpoint],
            verbose=1 if sys.stdout.isatty() else 2,
        )
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        logs.on_train_end()  # closes its files
        checkpoint.halve_batch()
        return None
    return checkpoint


def _draw_batches(
    training: Labelled, settings: FitSettings, binary: bool, batch: int, epoch: int
) -> ScanBatches:
    (inputs, labels, groups), recipe = training, settings.recipe
    return ScanBatches(
        inputs,
        labels,
        None if recipe.every_copy else groups,
        classes=settings.classes,
        batch=batch,
        binary=binary,
        unnamed=settings.healthy is not None,
        seed=settings.seed,
        mixup=recipe.mixup,
        variants=recipe.variants,
        balanced=recipe.balanced,
        epoch=epoch,
    )


def _keep_order(validation: Scans, settings: FitSettings, binary: bool, batch: int) -> ScanBatches:
    return ScanBatches(
        *validation,
        classes=settings.classes,
        batch=batch,
        binary=binary,
        unnamed=settings.healthy is not None,
        balanced=settings.recipe.balanced,
    )


def build_at_size(
    architecture: Architecture, settings: FitSettings, weights: str | Path | None
) -> keras.Model:
    """Build a network; raises ValueError where its layers leave nothing of scans that small."""
    try:
        return architecture.build(settings.size, settings.classes, weights)
    except WeightsError:
        raise
    except ValueError as error:
        raise ValueError(
            f"{architecture.name} cannot be built for scans of {settings.size} × {settings.size} "
            f"pixels. Choose a larger --size; its own is {architecture.size}. "
            f"(Keras: {str(error).strip()})"
        ) from error


def _assemble(
    architecture: Architecture, settings: FitSettings, weights: str | Path | None
) -> keras.Sequential:
    """Put the augmentation before the network; the network is the last layer."""
    network = build_at_size(architecture, settings, weights)
    augmentation = build_augmentation(settings.recipe.augmentation, settings.seed)
    return keras.Sequential([layers.Input(network.input_shape[1:]), *augmentation, network])


def _compile(
    architecture: Architecture, settings: FitSettings, epoch: int, steps: int
) -> keras.Model:
    """Build and compile the model; an epoch has `epoch` steps, and `steps` make an update."""
    recipe = settings.recipe
    updates = max(1.0, epoch / steps)
    model = _assemble(architecture, settings, settings.weights)
    if recipe.normalisation != "kept":
        _train_normalisation(model.layers[-1], as_pytorch=recipe.normalisation == "pytorch")
    loss, accuracy = _choose_loss(architecture, settings)
    model.compile(
        optimizer=keras.optimizers.AdamW(
            recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            use_ema=True,
            ema_momentum=min(recipe.average, 1 - 1 / (_LONGEST_AVERAGE * updates)),
        ),
        loss=loss,
        metrics=[accuracy],
    )
    if steps > 1:
        accumulate_gradients(model, steps)
    return model


def _choose_loss(
    architecture: Architecture, settings: FitSettings
) -> tuple[keras.Loss, keras.Metric | str]:
    smoothing = settings.recipe.label_smoothing
    if settings.healthy is not None:
        loss = UnnamedTumorCrossentropy(settings.healthy, smoothing)
        return loss, UnnamedTumorAccuracy(settings.healthy)
    losses = keras.losses
    usual = losses.BinaryCrossentropy if architecture.binary else losses.CategoricalCrossentropy
    return usual(label_smoothing=smoothing), "accuracy"


def _train_normalisation(network: keras.Model, *, as_pytorch: bool) -> None:
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = True
            if as_pytorch:
                layer.momentum = 0.9  # which PyTorch calls 0.1


def _load_best(architecture: Architecture, settings: FitSettings, path: Path) -> keras.Model:
    """Rebuild the network alone, in float32, with the averaged weights of the best epoch."""
    model = _assemble(architecture, settings, weights=None)
    model.load_weights(path)
    return model.layers[-1]
