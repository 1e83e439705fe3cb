"""Heads on the features of a frozen backbone, computed once."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from brainscan.bundle import read_bundle
from training.data.split import Part
from training.data.task import BINARY_CLASSES, Task
from training.fit import FitSettings, Fitted
from training.frozen import compute_features
from training.heads import HEADS, NeighboursModel, express_as_layer, find_scale, fit_frozen
from training.models import Architecture, Recipe, registry
from training.pipeline import TrainingOutcome, train
from training.run import TrainingRequest

Scans = tuple[NDArray[np.uint8], NDArray[np.int64]]
RECIPE = Recipe(epochs=12, batch=8, learning_rate=3e-2, average=0.5, label_smoothing=0.0)


def build_small(size: int, outputs: int) -> keras.Model:
    """A pretrained network in small: a backbone, the layer "pool", dropout and a softmax."""
    scans = keras.layers.Input((size, size, 1), name="scans")
    x = keras.layers.Rescaling(1 / 256)(scans)
    x = keras.layers.Conv2D(24, 5, 2, "same", activation="relu")(x)
    x = keras.layers.Conv2D(32, 3, 2, "same", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dropout(0.2)(x)
    x = keras.layers.Dense(outputs, "softmax", dtype="float32", name="classes")(x)
    return keras.Model(scans, x, name="small")


def load_nothing(_model: keras.Model, _weights: str | Path) -> None:
    """Leave the weights random."""


SMALL = Architecture("small", "small", "-", 32, build_small, load_nothing, recipe=RECIPE)
SETTINGS = FitSettings(SMALL, Task(BINARY_CLASSES), RECIPE, 32, Path(), seed=1)


Parts = tuple[Part, Part]


@pytest.fixture(scope="module")
def parts(draw_phantoms: Callable[..., Scans]) -> Parts:
    drawn = (draw_phantoms(64, seed=1), draw_phantoms(32, seed=2))
    training, validation = (Part(*one, np.arange(len(one[1]))) for one in drawn)
    return training, validation


@pytest.fixture(scope="module")
def fitted(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> tuple[Fitted, Path]:
    folder = tmp_path_factory.mktemp("frozen")
    return fit_frozen(*parts, replace(SETTINGS, folder=folder), HEADS["softmax"], folder), folder


class TestFrozen:
    def test_the_backbone_stays_and_the_head_learns(
        self, fitted: tuple[Fitted, Path], parts: Parts
    ) -> None:
        result = fitted[0]
        keras.utils.set_random_seed(SETTINGS.seed)
        before = SETTINGS.build(None)
        for layer, other in zip(result.model.layers, before.layers, strict=True):
            same = [
                np.array_equal(a, b)
                for a, b in zip(layer.get_weights(), other.get_weights(), strict=True)
            ]
            assert all(same) == (layer.name != "classes")
        losses = [values["loss"] for values in result.history]
        assert losses[-1] < losses[0]
        assert len(result.history) == RECIPE.epochs
        assert result.precision == "float32"

    def test_the_whole_model_answers_as_the_head_did(
        self, fitted: tuple[Fitted, Path], parts: Parts
    ) -> None:
        labels = parts[1].labels
        probabilities = fitted[0].predict(parts[1].inputs)
        loss = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
        best = min(values["val_loss"] for values in fitted[0].history)
        assert loss == pytest.approx(best, abs=1e-4)

    def test_memory_runs_out_in_the_backbone(
        self, parts: Parts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        network, pixels = SETTINGS.build(None), parts[0].inputs
        expected = compute_features(network, pixels, "training")
        whole = keras.Model.predict_on_batch

        def predict(self: keras.Model, scans: NDArray[np.uint8]) -> NDArray[np.float32]:
            if len(scans) > 20:
                raise MemoryError
            return whole(self, scans)

        monkeypatch.setattr(keras.Model, "predict_on_batch", predict)
        assert compute_features(network, pixels, "training") == pytest.approx(expected, abs=1e-5)


class TestHeads:
    @pytest.mark.parametrize("head", ["svm", "knn"])
    def test_they_tell_heads_apart(
        self,
        head: str,
        fitted: tuple[Fitted, Path],
        parts: Parts,
        draw_phantoms: Callable[..., Scans],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """And another run on the same scans computes no features."""
        monkeypatch.setattr("training.frozen.compute_features", None)
        settings = replace(SETTINGS, folder=tmp_path)
        result = fit_frozen(*parts, settings, HEADS[head], fitted[1])
        assert isinstance(result.model, NeighboursModel) == (head == "knn")
        assert result.history == ()
        pixels, labels = draw_phantoms(60, seed=3)
        probabilities = result.predict(pixels)
        assert probabilities.sum(axis=1) == pytest.approx(1)
        assert (probabilities.argmax(axis=1) == labels).mean() > 0.6
        assert "chosen on the validation part" in result.notes[0]

    def test_features_that_are_all_alike(
        self,
        parts: Parts,
        tmp_path: Path,
    ) -> None:
        """As of a deep backbone with random weights: the layer would need huge ones."""

        def build_faint(size: int, outputs: int) -> keras.Model:
            network = build_small(size, outputs)
            first = network.layers[2]
            first.set_weights([one * 1e-9 for one in first.get_weights()])
            return network

        settings = replace(SETTINGS, network=replace(SMALL, make=build_faint), folder=tmp_path)
        with pytest.raises(ValueError, match=r"Start from pretrained weights \(--weights imagenet"):
            fit_frozen(*parts, settings, HEADS["svm"], tmp_path)

    @pytest.mark.parametrize("classes", [2, 4])
    def test_a_layer_decides_as_the_machine_does(self, classes: int) -> None:
        random = np.random.default_rng(1)
        labels = np.arange(80) % classes
        vectors = random.normal(size=(80, 6)) * 3 + labels[:, None]
        machine = make_pipeline(StandardScaler(), LinearSVC(C=0.1)).fit(vectors, labels)
        kernel, bias = express_as_layer(machine)
        decisions = vectors @ kernel + bias
        assert decisions.shape == (80, classes)
        assert (decisions.argmax(axis=1) == machine.predict(vectors)).all()

    def test_the_scale_makes_decisions_as_sure_as_they_are_right(self) -> None:
        labels = np.array([0, 1] * 50)
        decisions = np.where(np.eye(2)[labels] == 1, 1.0, -1.0)
        wrong = decisions.copy()
        wrong[:20] *= -1
        share = 1 / (1 + np.exp(-2 * find_scale(wrong, labels)))
        assert share == pytest.approx(0.8, abs=0.01)
        assert find_scale(decisions, labels) < 5  # right every time, and still not certain


@pytest.fixture
def request_of(
    tmp_path: Path, phantom_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., TrainingRequest]:
    monkeypatch.setitem(registry._REGISTRY, "small", SMALL)

    def make(**changes: object) -> TrainingRequest:
        request = TrainingRequest(
            model="small",
            data=(phantom_tree,),
            instance=tmp_path,
            models=tmp_path / "models",
            protocol="random-80-20",
            recipe=replace(RECIPE, epochs=2, augmentation=1.0),
            size=32,
            method="frozen",
            command="flask train --model small",
        )
        return replace(request, **changes)

    return make


@pytest.mark.usefixtures("few_pictures")
class TestPipeline:
    @pytest.mark.parametrize("head", ["svm", "knn"])
    def test_a_run_ends_with_a_report(
        self, head: str, request_of: Callable[..., TrainingRequest]
    ) -> None:
        outcome: TrainingOutcome = train(request_of(head=head))
        assert (outcome.bundle is None) == (head == "knn")
        training_of = outcome.card.training
        assert (training_of.method, training_of.head) == ("frozen", head)
        assert training_of.epochs == 0
        assert training_of.recipe["augmentation"] == 0
        page = (outcome.run / "report/README.md").read_text(encoding="utf-8")
        assert "neither augmented nor shown in variants" in page
        if outcome.bundle:
            assert read_bundle(outcome.bundle).graph_difference <= 1e-3

    def test_it_needs_a_pretrained_model(self, request_of: Callable[..., TrainingRequest]) -> None:
        with pytest.raises(ValueError, match=r"binary-cnn is trained from scratch.*: .*small"):
            train(request_of(model="binary-cnn"))

    def test_other_heads_need_a_frozen_backbone(
        self, request_of: Callable[..., TrainingRequest]
    ) -> None:
        with pytest.raises(ValueError, match="add --method frozen"):
            train(request_of(method="fine-tune", head="svm"))
