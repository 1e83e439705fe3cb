"""Training, epoch by epoch: scans and labels → the weights of the best epoch."""

import gc
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from training.augment import build_augmentation
from training.batches import ScanBatches
from training.calibrate import Calibrator, Model, scale_temperature
from training.checkpoint import Checkpoint, Epoch
from training.data.split import Part
from training.data.task import Task
from training.device import accumulate_gradients, choose_precision, is_out_of_memory
from training.lesion.batches import LesionBatches
from training.losses import LesionLoss
from training.models import Architecture, Recipe

# Epochs that the moving average of the weights may span: on a small data set a longer one would
# be validated, and published, long before it has caught up with the weights.
_LONGEST_AVERAGE = 6
_WARM_UP = 200  # updates


@dataclass(frozen=True)
class FitSettings:
    """What is trained, and how.

    Attributes:
        network: the architecture.
        task: what it is to tell apart.
        recipe: epochs, batch, learning rate and so on.
        size: width and height of the scans, in pixels.
        folder: of the run; keeps the checkpoint, `history.csv` and the TensorBoard logs.
        seed: of the weights, the order of the scans and the augmentation.
        weights: what a pretrained network starts from: "imagenet", a file, or None.
        precision: a Keras dtype policy, or "auto": mixed_float16 on a GPU, else float32.
        report: gets the number of each epoch that was kept, and its validation accuracy.
    """

    network: Architecture
    task: Task
    recipe: Recipe
    size: int
    folder: Path
    seed: int = 0
    weights: str | Path | None = None
    precision: str = "auto"
    report: Callable[[int, float], None] = lambda _epoch, _accuracy: None

    def build(self, weights: str | Path | None) -> keras.Model:
        """Build the network; see `Architecture.build`."""
        return self.network.build(self.size, self.task.outputs, weights)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained model (float32, averaged weights of the best epoch) and how it got there.

    Attributes:
        model: of scans to outputs, as `task` reads them.
        task: what it tells apart.
        history: values of each epoch.
        best_epoch: counted from 1; 0 where there were no epochs.
        precision: the Keras dtype policy of the training.
        batch: scans a step that its predictions may take.
        calibrate: makes its probabilities mean what they say.
        notes: sentences on what is special about it, for the report.
        tensors: how many it took from the weights that it started from.
    """

    model: Model
    task: Task
    history: Sequence[Epoch] = ()
    best_epoch: int = 0
    precision: str = "float32"
    batch: int = 64
    calibrate: Calibrator = scale_temperature
    notes: tuple[str, ...] = ()
    tensors: int = 0

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Give the probabilities of all classes: float32, shape (scans, classes)."""
        return self.task.read_outputs(self._ask(pixels, "probabilities"))

    def predict_lesions(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Give the lesion maps of a lesion network: float32, shape (scans, rows, columns)."""
        return np.asarray(self._ask(pixels, "lesion"), np.float32)

    def _ask(self, pixels: NDArray[np.uint8], output: str) -> Any:
        found = self.model.predict(pixels, batch_size=self.batch, verbose=0)
        return found[output] if isinstance(found, dict) else found


class _Stopwatch(keras.callbacks.Callback):
    """Adds the seconds of each epoch, validation included, to its history."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            for name in [name for name in logs if name.endswith("probabilities_accuracy")]:
                logs[name.replace("probabilities_", "")] = logs.pop(name)
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)
            logs["seconds"] = time.perf_counter() - self.started


class _Cosine(keras.callbacks.Callback):
    """Lets the learning rate rise over the first updates, and fall to zero at the last epoch."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        steps = self.recipe.epochs * self.params["steps"]
        warm = min(_WARM_UP, steps // 4)
        step = int(self.model.optimizer.iterations)
        share = min(1.0, max(0, step - warm) / max(1, steps - warm))
        rate = min(1.0, (step + 1) / (warm + 1)) * (1 + math.cos(math.pi * share)) / 2
        self.model.optimizer.learning_rate = self.recipe.learning_rate * rate


def fit(training: Part, validation: Part, settings: FitSettings) -> Fitted:
    """Train a model, or go on with the run that the settings' folder holds.

    Args:
        training: scans, or features where the network takes those.
        validation: steers early stopping, the learning rate and the choice of the epoch.
        settings: what and how.

    Raises:
        DivergenceError: the validation loss is no longer a number.
        DeviceMemoryError: the device has no memory for even one scan a step.
    """
    precision = choose_precision(settings.precision)
    settings.folder.mkdir(parents=True, exist_ok=True)
    keras.config.set_dtype_policy(precision)
    try:
        while not (checkpoint := _train(training, validation, settings)):
            gc.collect()  # what the device ran out of memory with
    finally:
        keras.config.set_dtype_policy("float32")
    model = _assemble(settings, weights=None)
    model.load_weights(checkpoint.best_path)
    return Fitted(
        model if settings.network.lesion else model.layers[-1],  # the network alone
        settings.task,
        checkpoint.history,
        checkpoint.best_epoch,
        precision,
        4 * checkpoint.batch,
        tensors=checkpoint.tensors,
    )


def _train(training: Part, validation: Part, settings: FitSettings) -> Checkpoint | None:
    """Train to the end; give None where memory ran out and a smaller batch was written down."""
    recipe, task = settings.recipe, settings.task
    keras.utils.set_random_seed(settings.seed)
    average = keras.callbacks.SwapEMAWeights()
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=recipe.patience)
    plateau = keras.callbacks.ReduceLROnPlateau(
        "val_loss", factor=0.4, patience=max(1, recipe.patience // 2), min_lr=1e-6
    )
    schedules = {
        "plateau": [stopping, plateau],
        "cosine": [_Cosine(recipe)],
        "constant": [stopping],
    }
    steering = schedules[recipe.schedule]
    logs = keras.callbacks.TensorBoard(settings.folder / "tensorboard")
    checkpoint = Checkpoint(
        settings.folder, recipe.batch, average, steering, keep_last=recipe.schedule == "cosine"
    )
    reporter = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: settings.report(epoch + 1, logs["val_accuracy"])
    )
    restored = checkpoint.restore()
    if checkpoint.finished:
        return checkpoint
    start, batch = len(checkpoint.history), checkpoint.batch
    make = LesionBatches if settings.network.lesion else ScanBatches
    batches = make(training, task, recipe, batch, settings.seed, epoch=start)
    trained = restored or _compile(settings, len(batches), checkpoint)
    try:
        trained.fit(
            batches,
            validation_data=make(validation, task, recipe, 4 * batch),
            epochs=recipe.epochs,
            initial_epoch=start,
            shuffle=False,  # ScanBatches draws the order
            callbacks=[average, _Stopwatch(), logs, *steering, checkpoint, reporter],
            verbose=1 if sys.stdout.isatty() else 2,
        )
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        logs.on_train_end()  # closes its files
        checkpoint.halve_batch()
        return None
    return checkpoint


def _assemble(settings: FitSettings, weights: str | Path | None) -> keras.Model:
    """Put the augmentation before the network, which is then the last layer."""
    network = settings.build(weights)
    if settings.network.lesion:  # which varies the scan and its outline together
        return network
    augmentation = build_augmentation(settings.recipe.augmentation, settings.seed)
    return keras.Sequential([layers.Input(network.input_shape[1:]), *augmentation, network])


def _compile(settings: FitSettings, steps: int, checkpoint: Checkpoint) -> keras.Model:
    """Build and compile the model of a run that begins; an epoch has so many steps."""
    recipe, task = settings.recipe, settings.task
    updates = max(1.0, steps / checkpoint.steps)
    model = _assemble(settings, settings.weights)
    network = model if settings.network.lesion else model.layers[-1]
    checkpoint.tensors = getattr(network, "tensors_loaded", 0)
    for layer in network.layers if recipe.normalisation != "kept" else ():
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = True
            if recipe.normalisation == "pytorch":
                layer.momentum = 0.9  # which PyTorch calls 0.1
    loss, metrics = task.choose_loss(recipe.label_smoothing), [task.choose_accuracy()]
    if isinstance(loss, keras.losses.CategoricalCrossentropy) and not settings.network.lesion:
        # Trained on logits: a softmax that is sure and wrong has no gradient left where the backend
        # (JAX) does not keep the logits with it. The model that is kept has its softmax again.
        network.layers[-1].activation = keras.activations.linear
        loss = keras.losses.CategoricalCrossentropy(True, recipe.label_smoothing)
    model.compile(
        optimizer=keras.optimizers.AdamW(
            recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            clipnorm=1.0 if settings.network.lesion else None,
            use_ema=True,
            ema_momentum=min(recipe.average, 1 - 1 / (_LONGEST_AVERAGE * updates)),
        ),
        loss={"probabilities": loss, "lesion": LesionLoss()} if settings.network.lesion else loss,
        metrics={"probabilities": metrics} if settings.network.lesion else metrics,
    )
    accumulate_gradients(model, checkpoint.steps)
    return model
