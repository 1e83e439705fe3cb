import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from training.batches import ScanBatches
from training.checkpoint import Checkpoint, DivergenceError
from training.data.split import Part
from training.data.task import BINARY_CLASSES, Task
from training.device import (
    DeviceMemoryError,
    count_gpus,
    describe_device,
    is_out_of_memory,
)
from training.fit import FitSettings, Fitted, fit
from training.models import Architecture, Recipe

Scans = tuple[NDArray[np.uint8], NDArray[np.int64]]
RECIPE = Recipe(epochs=5, batch=8, learning_rate=1e-2, average=0.8)


def build_tiny(size: int, outputs: int) -> keras.Model:
    """A network that trains in a second."""
    scans = keras.layers.Input((size, size, 1))
    x = keras.layers.Conv2D(4, 5, 3, "same", activation="relu")(scans)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(x))
    return keras.Model(scans, keras.layers.Dense(outputs, "softmax", dtype="float32")(x))


TINY = Architecture("tiny", "one convolution", "-", 32, build_tiny)


@pytest.fixture(scope="module")
def parts(draw_phantoms: Callable[..., Scans]) -> tuple[Scans, Scans]:
    return draw_phantoms(40, seed=1), draw_phantoms(24, seed=2)


Fit = Callable[..., Fitted]


@pytest.fixture(scope="module")
def run(parts: tuple[Scans, Scans]) -> Fit:
    def run(folder: Path, entry: Architecture = TINY, **settings: object) -> Fitted:
        task = Task(BINARY_CLASSES, binary=entry.binary)
        chosen = {"recipe": RECIPE, "size": 32, **settings}
        training, validation = (
            Part(pixels, labels, np.arange(len(labels)), ((),) * len(labels))
            for pixels, labels in parts
        )
        return fit(training, validation, FitSettings(entry, task, folder=folder, **chosen))

    return run


@pytest.fixture(scope="module")
def trained(run: Fit, tmp_path_factory: pytest.TempPathFactory) -> tuple[Fitted, Path]:
    folder = tmp_path_factory.mktemp("run")
    return run(folder, seed=1), folder


# Without dropout and with 40 scans in steps of 8, 4 and 2, the updates are the same ones.
PLAIN = Recipe(epochs=3, batch=8, augmentation=0, average=0.5, label_smoothing=0.0)


@pytest.fixture(scope="module")
def reference(run: Fit, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    return run(tmp_path_factory.mktemp("roomy"), recipe=PLAIN, seed=1)


class TestFit:
    def test_it_learns(self, trained: tuple[Fitted, Path]) -> None:
        losses = [values["loss"] for values in trained[0].history]
        assert len(losses) == 5
        assert losses[-1] < losses[0]

    def test_the_history_is_a_table(self, trained: tuple[Fitted, Path]) -> None:
        result, folder = trained
        with (folder / "history.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5]
        for row, values in zip(rows, result.history, strict=True):
            assert {name: float(text) for name, text in row.items() if name != "epoch"} == values
        assert set(result.history[0]) == {
            "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds"
        }  # fmt: skip
        assert all(values["seconds"] > 0 for values in result.history)

    def test_it_learns_from_tumours_without_a_name(
        self, parts: tuple[Scans, Scans], tmp_path: Path
    ) -> None:
        (pixels, labels), validation = parts
        tumours = np.nonzero(labels == 1)[0]
        nameless = labels.copy()
        nameless[tumours[::2]] = 2
        training = Part(pixels, nameless, np.arange(len(labels)))
        unseen = Part(*validation, np.arange(len(validation[1])))
        task = Task(BINARY_CLASSES, unnamed=True)
        recipe = replace(PLAIN, label_smoothing=0.1, mixup=0.2)
        result = fit(training, unseen, FitSettings(TINY, task, recipe, 32, tmp_path, seed=1))
        assert result.model.output_shape == (None, 2)
        assert result.history[-1]["loss"] < result.history[0]["loss"]
        assert 0 <= result.history[-1]["val_accuracy"] <= 1

    def test_the_network_of_the_best_epoch_comes_back(
        self, trained: tuple[Fitted, Path], parts: tuple[Scans, Scans]
    ) -> None:
        """Its validation loss is the lowest of the history, averaged weights and all."""
        result = trained[0]
        losses = [values["val_loss"] for values in result.history]
        assert result.best_epoch == losses.index(min(losses)) + 1
        assert len(result.model.layers) == 5  # without the augmentation before it
        pixels, labels = parts[1]
        predicted = np.asarray(result.model(pixels), np.float64)
        smooth = np.eye(2)[labels] * 0.95 + 0.025
        loss = -(smooth * np.log(predicted)).sum(axis=1).mean()
        assert loss == pytest.approx(min(losses), abs=1e-4)

    def test_a_finished_run_is_not_trained_again(
        self, run: Fit, trained: tuple[Fitted, Path]
    ) -> None:
        result, folder = trained
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        again = run(folder, seed=1)
        assert again.history == result.history
        assert again.best_epoch == result.best_epoch
        for one, other in zip(again.model.weights, result.model.weights, strict=True):
            assert np.array_equal(one, other)
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before

    def test_only_what_is_needed_stays_on_disk(self, trained: tuple[Fitted, Path]) -> None:
        result, folder = trained
        assert {path.name for path in folder.iterdir()} == {
            "state-5.keras", f"best-{result.best_epoch}.weights.h5", "state.json", "history.csv",
            "tensorboard",
        }  # fmt: skip

    def test_the_seed_decides(
        self, run: Fit, trained: tuple[Fitted, Path], reference: Fitted, tmp_path: Path
    ) -> None:
        """On a CPU the same seed gives the same weights, bit for bit."""
        again = run(tmp_path / "again", seed=1)
        if count_gpus() == 0:
            assert all(
                map(np.array_equal, again.model.get_weights(), trained[0].model.get_weights())
            )
        other = run(tmp_path / "other", recipe=replace(PLAIN, epochs=1), seed=2)
        assert other.history[0]["loss"] != pytest.approx(reference.history[0]["loss"], rel=1e-4)

    def test_several_classes_in_half_precision(self, run: Fit, tmp_path: Path) -> None:
        """Trained in bfloat16, the network that comes back computes in float32."""
        recipe = Recipe(epochs=2, batch=20, augmentation=0)
        result = run(tmp_path, recipe=recipe, precision="mixed_bfloat16")
        assert result.precision == "mixed_bfloat16"
        assert result.model.output_shape == (None, 2)
        assert {layer.compute_dtype for layer in result.model.layers} == {"float32"}
        assert keras.config.dtype_policy().name == "float32"

    @pytest.mark.parametrize(("schedule", "epochs"), [("constant", 2), ("cosine", 3)])
    def test_early_stopping_does_not_cut_a_cosine_short(
        self, run: Fit, tmp_path: Path, schedule: str, epochs: int
    ) -> None:
        recipe = replace(PLAIN, patience=1, learning_rate=1e-12, schedule=schedule)
        assert len(run(tmp_path, recipe=recipe).history) == epochs

    def test_divergence_is_an_error(self, run: Fit, tmp_path: Path) -> None:
        recipe = Recipe(epochs=3, batch=20, learning_rate=1e38, augmentation=0)
        with pytest.raises(DivergenceError, match=r"epoch 1 is nan. Choose a learning rate below"):
            run(tmp_path, recipe=recipe)
        assert not (tmp_path / "state.json").exists()

    def test_auto_precision_is_single_on_a_cpu(self, trained: tuple[Fitted, Path]) -> None:
        if count_gpus():
            pytest.skip("there is a GPU here")
        assert trained[0].precision == "float32"
        assert describe_device() == f"CPU, {keras.backend.backend()}"


def build_normalised(size: int, outputs: int) -> keras.Model:
    """A network as pretrained ones are: its batch normalisation keeps what it came with."""
    scans = keras.layers.Input((size, size, 1))
    x = keras.layers.Conv2D(4, 5, 3, "same")(keras.layers.Rescaling(1 / 255)(scans))
    x = keras.layers.BatchNormalization(name="normalisation", trainable=False)(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    return keras.Model(scans, keras.layers.Dense(outputs, "softmax", dtype="float32")(x))


def build_lesion(size: int, outputs: int) -> keras.Model:
    """Such a network with a lesion map."""
    inner = build_normalised(size, outputs)
    features = inner.get_layer("normalisation").output
    lesion = keras.layers.Conv2D(1, 5, activation="sigmoid", dtype="float32")(features)
    lesion = keras.layers.Resizing(size // 4, size // 4)(lesion)
    outlined = keras.layers.Reshape((size // 4, size // 4))(lesion)
    return keras.Model(inner.input, {"lesion": outlined, "probabilities": inner.output})


NORMALISED = Architecture("normalised", "batch normalisation", "-", 32, build_normalised)
LESION = Architecture("outlined", "batch normalisation", "-", 32, build_lesion, lesion=True)


def load_normalisation(path: Path) -> keras.layers.BatchNormalization:
    """Load a run's state as a resumed run does, and give the layer."""
    model = keras.models.load_model(path)
    network = model.layers[-1] if isinstance(model, keras.Sequential) else model
    return network.get_layer("normalisation")


class TestNormalisation:
    @pytest.mark.parametrize("network", [NORMALISED, LESION], ids=["plain", "lesion"])
    @pytest.mark.parametrize(("pace", "momentum"), [("keras", 0.99), ("pytorch", 0.9)])
    def test_it_learns_at_a_pace_that_a_run_which_goes_on_keeps(
        self, run: Fit, tmp_path: Path, network: Architecture, pace: str, momentum: float
    ) -> None:
        recipe = Recipe(epochs=1, batch=8, augmentation=0, normalisation=pace)
        run(tmp_path, network, recipe=recipe)
        layer = load_normalisation(tmp_path / "state-1.keras")
        assert (layer.momentum, len(layer.trainable_variables)) == (momentum, 2)
        # Each of five updates leaves that share of the ones there at first; the rest is small.
        assert np.asarray(layer.moving_variance) == pytest.approx(momentum**5, abs=0.02)


class FullDeviceError(RuntimeError):
    """What JAX raises, by its message."""


def limit_memory(monkeypatch: pytest.MonkeyPatch, scans: int, *, after: int = 0) -> list[int]:
    """Let the device hold so many scans a step, from a draw on; gives the batches as they come."""
    drawn: list[int] = []
    whole = ScanBatches.__getitem__

    def draw(self: ScanBatches, index: int) -> tuple[NDArray[np.float32], ...]:
        batch = whole(self, index)
        if self.seed is not None:  # not the validation part
            drawn.append(len(batch[0]))
            if len(drawn) > after and len(batch[0]) > scans:
                raise FullDeviceError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")
        return batch

    monkeypatch.setattr(ScanBatches, "__getitem__", draw)
    return drawn


class TestOutOfMemory:
    def test_the_updates_stay_the_same(
        self,
        run: Fit,
        reference: Fitted,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        limit_memory(monkeypatch, 2)
        result = run(tmp_path, recipe=PLAIN, seed=1)
        assert [record.args for record in caplog.records] == [(8, 0, 4, 2), (4, 0, 2, 4)]
        assert caplog.messages[0] == (
            "The device ran out of memory with 8 scans a step. Training continues after epoch 0 "
            "with 4 a step; 2 steps make one update of the weights."
        )
        model = keras.models.load_model(tmp_path / "state-3.keras")
        assert int(model.optimizer.iterations) == 3 * 5  # updates, not steps
        for values, theirs in zip(result.history, reference.history, strict=True):
            assert values["loss"] == pytest.approx(theirs["loss"], abs=2e-3)
            assert values["learning_rate"] == theirs["learning_rate"]
            # The moving average is a little behind: it also counts the steps between updates.
            assert values["val_loss"] == pytest.approx(theirs["val_loss"], abs=1e-2)

    def test_it_goes_on_from_the_last_epoch_that_was_saved_and_remembers(
        self,
        run: Fit,
        reference: Fitted,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        save, saved = Checkpoint._save_best, []

        def fail_once(self: Checkpoint) -> None:
            saved.append(len(self.history))
            if len(saved) == 2:
                raise MemoryError
            save(self)

        monkeypatch.setattr(Checkpoint, "_save_best", fail_once)
        result = run(tmp_path, recipe=PLAIN, seed=1)
        assert len(caplog.records) == 1
        assert caplog.records[0].args[1] == saved[1] - 1 > 0  # it goes on after the epoch before
        assert result.history[0]["val_loss"] == reference.history[0]["val_loss"]
        assert len(result.history) == 3
        for values, theirs in zip(result.history, reference.history, strict=True):
            assert values["loss"] == pytest.approx(theirs["loss"], abs=2e-3)
        assert json.loads((tmp_path / "state.json").read_text())["batch"] == 4
        optimizer = keras.models.load_model(tmp_path / "state-3.keras").optimizer
        assert optimizer.gradient_accumulation_steps == 2
        assert optimizer.ema_momentum == pytest.approx(0.5**0.5)
        assert int(optimizer.iterations) == 3 * 5

    def test_mixed_precision_goes_on(
        self, run: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its optimizer is wrapped in one that scales the loss."""
        recipe = Recipe(epochs=2, batch=8, augmentation=0)
        with monkeypatch.context() as patch:
            limit_memory(patch, 4, after=8)
            run(tmp_path, recipe=recipe, precision="mixed_float16")
        keras.config.set_dtype_policy("mixed_float16")  # as when a run goes on
        try:
            optimizer = keras.models.load_model(tmp_path / "state-2.keras").optimizer
        finally:
            keras.config.set_dtype_policy("float32")
        assert optimizer.inner_optimizer.gradient_accumulation_steps == 2

    def test_no_memory_for_one_scan(
        self, run: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limit_memory(monkeypatch, 0)
        with pytest.raises(DeviceMemoryError, match=r"even one scan a step. Choose a smaller"):
            run(tmp_path, recipe=replace(PLAIN, batch=2))

    def test_other_errors_are_raised(
        self, run: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ScanBatches, "on_epoch_end", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(tmp_path, recipe=PLAIN)

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (MemoryError(), True),
            (KeyError(3), False),
            (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), True),
            (RuntimeError("shapes do not match"), False),
            (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory."), True),
            (type("ResourceExhaustedError", (Exception,), {})("OOM when allocating"), True),
        ],
    )
    def test_which_errors_they_are(self, error: Exception, expected: bool) -> None:
        assert is_out_of_memory(error) == expected
