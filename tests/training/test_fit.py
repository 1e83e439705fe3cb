import csv
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from training.checkpoint import DivergenceError
from training.fit import FitResult, FitSettings, ScanBatches, count_gpus, describe_device, fit
from training.models import Architecture, Recipe, architecture

Scans = tuple[NDArray[np.uint8], NDArray[np.int64]]
RECIPE = Recipe(epochs=5, batch=8, learning_rate=1e-3, average=0.8)


def build_tiny(size: int, classes: int, weights: str | Path | None) -> keras.Model:
    """A network that trains in a second."""
    scans = keras.layers.Input((size, size, 1))
    x = keras.layers.Conv2D(4, 5, 3, "same", activation="relu")(scans)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(x))
    return keras.Model(scans, keras.layers.Dense(classes, "softmax", dtype="float32")(x))


TINY = Architecture("tiny", "one convolution", "-", 32, build_tiny)


def numbered(scans: int) -> NDArray[np.uint8]:
    """Scans that show their own row."""
    return np.arange(scans, dtype=np.uint8).reshape(-1, 1, 1, 1)


def shown(batches: ScanBatches) -> list[int]:
    return [int(row) for index in range(len(batches)) for row in batches[index][0].ravel()]


class TestScanBatches:
    LABELS = np.array([0] * 15 + [1] * 5)

    def test_an_epoch_holds_every_scan_once(self) -> None:
        batches = ScanBatches(numbered(20), self.LABELS, classes=2, batch=6, binary=False, seed=3)
        assert len(batches) == 4
        assert sorted(shown(batches)) == list(range(20))
        assert [len(batches[index][0]) for index in range(4)] == [6, 6, 6, 2]

    def test_seed_and_epoch_decide_the_order(self) -> None:
        def draw(seed: int, epoch: int) -> ScanBatches:
            settings = {"classes": 2, "batch": 6, "binary": False}
            return ScanBatches(numbered(20), self.LABELS, **settings, seed=seed, epoch=epoch)

        batches = draw(3, 0)
        epochs = []
        for _ in range(4):
            epochs.append(shown(batches))
            batches.on_epoch_end()
        assert len(set(map(tuple, epochs))) == 4
        assert shown(draw(3, 2)) == epochs[2]  # as a run that goes on with the third epoch
        assert shown(draw(4, 0)) != epochs[0]

    def test_without_a_seed_the_order_is_kept(self) -> None:
        batches = ScanBatches(numbered(20), self.LABELS, classes=2, batch=6, binary=False)
        for _ in range(2):
            assert shown(batches) == list(range(20))
            batches.on_epoch_end()

    def test_targets_follow_the_scans(self) -> None:
        labels = np.arange(20) % 4
        batches = ScanBatches(numbered(20), labels, classes=4, batch=20, binary=False, seed=1)
        pixels, targets, _ = batches[0]
        assert targets.shape == (20, 4)
        assert targets.argmax(axis=1).tolist() == (pixels.ravel() % 4).tolist()

    def test_a_binary_target_is_one_neurons(self) -> None:
        batches = ScanBatches(numbered(20), self.LABELS, classes=2, batch=20, binary=True, seed=1)
        pixels, targets, _ = batches[0]
        assert targets.shape == (20, 1)
        assert targets.ravel().tolist() == (pixels.ravel() >= 15).astype(int).tolist()

    def test_every_class_weighs_the_same(self) -> None:
        batches = ScanBatches(numbered(20), self.LABELS, classes=2, batch=20, binary=True, seed=1)
        _, targets, weights = batches[0]
        assert weights.mean() == pytest.approx(1)
        tumor = targets.ravel() == 1
        assert weights[tumor].sum() == pytest.approx(weights[~tumor].sum())

    def test_copies_of_a_scan_count_less(self) -> None:
        """A group of nine gives three scans to an epoch, new ones each time; a lone scan is in."""
        groups = np.array([7] * 9 + [8, 9, 4, 4, 4, 4, 1, 2, 3, 5, 6])
        settings = {"classes": 2, "batch": 4, "binary": True}
        batches = ScanBatches(numbered(20), self.LABELS, groups, **settings, seed=0)
        seen: set[int] = set()
        for _ in range(20):
            rows = shown(batches)
            assert len(rows) == len(set(rows)) == 3 + 2 + 2 + 5
            assert sum(row < 9 for row in rows) == 3
            assert sum(11 <= row < 15 for row in rows) == 2
            assert set(rows) >= {9, 10, 15, 16, 17, 18, 19}
            weights = np.concatenate([batches[index][2] for index in range(len(batches))])
            targets = np.concatenate([batches[index][1] for index in range(len(batches))])
            assert weights[targets[:, 0] == 1].sum() == pytest.approx(weights.sum() / 2)
            assert weights.mean() == pytest.approx(1)
            seen |= set(rows)
            batches.on_epoch_end()
        assert seen == set(range(20))


@pytest.fixture(scope="module")
def parts(draw_phantoms: Callable[..., Scans]) -> tuple[Scans, Scans]:
    return draw_phantoms(40, seed=1), draw_phantoms(24, seed=2)


Fit = Callable[..., FitResult]


@pytest.fixture(scope="module")
def run(parts: tuple[Scans, Scans]) -> Fit:
    def run(folder: Path, entry: Architecture | None = None, **settings: object) -> FitResult:
        entry = entry or architecture("binary-cnn")
        (pixels, labels), validation = parts
        groups = np.arange(len(labels))
        chosen = FitSettings(**{"recipe": RECIPE, "size": 32, "classes": 2, **settings})
        return fit(entry, (pixels, labels, groups), validation, chosen, folder)

    return run


@pytest.fixture(scope="module")
def trained(run: Fit, tmp_path_factory: pytest.TempPathFactory) -> tuple[FitResult, Path]:
    folder = tmp_path_factory.mktemp("run")
    return run(folder, seed=1), folder


class TestFit:
    def test_it_learns(self, trained: tuple[FitResult, Path]) -> None:
        losses = [values["loss"] for values in trained[0].history]
        assert len(losses) == 5
        assert losses[-1] < losses[0]

    def test_the_history_is_a_table(self, trained: tuple[FitResult, Path]) -> None:
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

    def test_tensorboard_has_its_logs(self, trained: tuple[FitResult, Path]) -> None:
        for part in ("train", "validation"):
            (log,) = (trained[1] / "tensorboard" / part).glob("events.out.tfevents.*")
            assert log.stat().st_size > 0

    def test_the_network_of_the_best_epoch_comes_back(
        self, trained: tuple[FitResult, Path], parts: tuple[Scans, Scans]
    ) -> None:
        """Its validation loss is the lowest of the history, averaged weights and all."""
        result = trained[0]
        losses = [values["val_loss"] for values in result.history]
        assert result.best_epoch == losses.index(min(losses)) + 1
        assert result.model.name == "binary-cnn"  # without the augmentation before it
        pixels, labels = parts[1]
        predicted = np.asarray(result.model(pixels), np.float64).ravel()
        smooth = labels * 0.95 + 0.025
        loss = -(smooth * np.log(predicted) + (1 - smooth) * np.log(1 - predicted)).mean()
        assert loss == pytest.approx(min(losses), abs=1e-4)

    def test_a_finished_run_is_not_trained_again(
        self, run: Fit, trained: tuple[FitResult, Path]
    ) -> None:
        result, folder = trained
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        again = run(folder, seed=1)
        assert again.history == result.history
        assert again.best_epoch == result.best_epoch
        for one, other in zip(again.model.weights, result.model.weights, strict=True):
            assert np.array_equal(one, other)
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before

    def test_only_what_is_needed_stays_on_disk(self, trained: tuple[FitResult, Path]) -> None:
        result, folder = trained
        assert {path.name for path in folder.iterdir()} == {
            "state-5.keras", f"best-{result.best_epoch}.weights.h5", "state.json", "history.csv",
            "tensorboard",
        }  # fmt: skip

    def test_the_seed_decides(self, run: Fit, tmp_path: Path) -> None:
        recipe = Recipe(epochs=1, batch=20, augmentation=0.5)
        first, again, other = (
            run(tmp_path / name, TINY, recipe=recipe, seed=seed).history[0]["val_loss"]
            for name, seed in (("a", 1), ("b", 1), ("c", 2))
        )
        assert first == pytest.approx(again, rel=1e-4)
        assert first != pytest.approx(other, rel=1e-4)

    def test_several_classes_in_half_precision(self, run: Fit, tmp_path: Path) -> None:
        """Trained in bfloat16, the network that comes back computes in float32."""
        recipe = Recipe(epochs=2, batch=20, augmentation=0)
        result = run(tmp_path, TINY, recipe=recipe, precision="mixed_bfloat16")
        assert result.precision == "mixed_bfloat16"
        assert result.model.output_shape == (None, 2)
        assert {layer.compute_dtype for layer in result.model.layers} == {"float32"}
        assert keras.config.dtype_policy().name == "float32"

    def test_divergence_is_an_error(self, run: Fit, tmp_path: Path) -> None:
        recipe = Recipe(epochs=3, batch=20, learning_rate=1e38, augmentation=0)
        with pytest.raises(DivergenceError, match=r"epoch 1 is nan. Choose a learning rate below"):
            run(tmp_path, TINY, recipe=recipe)
        assert not (tmp_path / "state.json").exists()

    def test_auto_precision_is_single_on_a_cpu(self, trained: tuple[FitResult, Path]) -> None:
        if count_gpus():
            pytest.skip("there is a GPU here")
        assert trained[0].precision == "float32"
        assert describe_device() == f"CPU, {keras.backend.backend()}"
