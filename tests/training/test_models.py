import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import training.models
from training.models import WeightsError, architecture, architectures, registry

# Each model's width of output beside it: a new family adds its line here.
OUTPUTS = {"binary-cnn": 1, "mobilenet-v2": 4}
SIZE = 64


def build(name: str, weights: str | None = None) -> keras.Model:
    entry = architecture(name)
    return entry.build(SIZE, 2 if entry.binary else 4, weights)


def test_every_architecture_is_tested() -> None:
    assert list(architectures()) == sorted(OUTPUTS)


@pytest.mark.parametrize("name", OUTPUTS)
class TestEveryArchitecture:
    def test_takes_scans_and_gives_probabilities(self, name: str) -> None:
        model = build(name)
        assert model.input_shape == (None, SIZE, SIZE, 1)
        assert model.output_shape == (None, OUTPUTS[name])
        scans = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 1), np.uint8)
        outputs = np.asarray(model(scans))
        assert outputs.dtype == np.float32
        assert ((outputs >= 0) & (outputs <= 1)).all()
        if OUTPUTS[name] > 1:
            assert outputs.sum(axis=1) == pytest.approx(np.ones(3), abs=1e-5)

    def test_ends_in_one_dense_layer_that_can_be_calibrated(self, name: str) -> None:
        last = build(name).layers[-1]
        assert isinstance(last, layers.Dense)
        assert last.activation.__name__ == ("sigmoid" if architecture(name).binary else "softmax")
        assert last.compute_dtype == "float32"  # also where the rest is in half precision

    def test_is_one_flat_network(self, name: str) -> None:
        """What reads layers one by one, to fold, export or explain, would pass over nested ones."""
        assert not [layer for layer in build(name).layers if isinstance(layer, keras.Model)]

    def test_scales_its_input_itself(self, name: str) -> None:
        kinds = [type(layer) for layer in build(name).layers]
        assert kinds.index(layers.Rescaling) < kinds.index(layers.Conv2D)

    def test_is_described(self, name: str) -> None:
        entry = architecture(name)
        assert entry.name == name
        assert entry.summary
        assert entry.document
        assert 16 <= entry.size <= 1024
        assert entry.binary == (OUTPUTS[name] == 1)


class TestBinaryCnn:
    def test_has_the_layers_of_document_004(self) -> None:
        model = build("binary-cnn")
        found = [type(layer) for layer in model.layers]
        assert found.count(layers.Conv2D) == 2
        assert found.count(layers.MaxPooling2D) == 2
        assert [layer.units for layer in model.layers if isinstance(layer, layers.Dense)] == [
            512,
            1,
        ]
        counted = {layers.Conv2D, layers.MaxPooling2D, layers.Dense}
        assert [kind for kind in found if kind in counted] == [
            layers.Conv2D,
            layers.MaxPooling2D,
            layers.Conv2D,
            layers.MaxPooling2D,
            layers.Dense,
            layers.Dense,
        ]
        assert model.layers[-1].activation is keras.activations.sigmoid

    @pytest.mark.parametrize("classes", [1, 4])
    def test_knows_two_classes_only(self, classes: int) -> None:
        with pytest.raises(ValueError, match=f"2 classes. Received: {classes}"):
            architecture("binary-cnn").build(SIZE, classes, None)


class TestMobileNet:
    def test_keeps_imagenets_batch_statistics(self) -> None:
        model = build("mobilenet-v2")
        norms = [x for x in model.layers if isinstance(x, layers.BatchNormalization)]
        assert len(norms) == 52
        assert not any(layer.trainable for layer in norms)
        assert all(x.trainable for x in model.layers if isinstance(x, layers.Conv2D))

    def test_starts_from_a_file_of_weights(self, tmp_path: Path) -> None:
        application = keras.applications.MobileNetV2(
            input_shape=(96, 96, 3), include_top=False, weights=None
        )
        path = tmp_path / "mobilenet.weights.h5"
        application.save_weights(path)
        model = build("mobilenet-v2", str(path))
        for ours, theirs in zip(model.weights, application.weights, strict=False):
            assert np.array_equal(ours, theirs)

    def test_says_that_a_file_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r"nowhere\.h5 does not hold weights of MobileNetV2"):
            build("mobilenet-v2", str(tmp_path / "nowhere.h5"))

    def test_says_that_a_file_is_of_another_network(self, tmp_path: Path) -> None:
        path = tmp_path / "other.weights.h5"
        build("binary-cnn").save_weights(path)
        with pytest.raises(WeightsError, match="does not hold weights of MobileNetV2"):
            build("mobilenet-v2", str(path))

    def test_says_what_to_do_without_a_network(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
        monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
        with pytest.raises(WeightsError, match="Connect this machine, or bring the file"):
            architecture("mobilenet-v2").build(96, 4, "imagenet")


class TestRegistry:
    def test_an_unknown_name_lists_the_known_ones(self) -> None:
        with pytest.raises(ValueError, match=r"'vgg'\. Known models: binary-cnn, mobilenet-v2"):
            architecture("vgg")

    def test_a_name_is_taken_once(self) -> None:
        with pytest.raises(ValueError, match="'binary-cnn' is registered already"):
            registry.register(architecture("binary-cnn"))

    def test_one_new_file_joins(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "tiny.py").write_text(
            "import keras\n"
            "from training.models.registry import Architecture, register\n"
            "def build(size, classes, weights):\n"
            "    layers = [keras.layers.Flatten(), keras.layers.Dense(classes, 'softmax')]\n"
            "    return keras.Sequential([keras.layers.Input((size, size, 1)), *layers])\n"
            "register(Architecture('tiny', 'one layer', '-', 16, build))\n"
        )
        known = list(architectures())
        monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
        monkeypatch.setattr(training.models, "__path__", [*training.models.__path__, str(tmp_path)])
        try:
            assert list(architectures()) == sorted([*known, "tiny"])
            assert architecture("tiny").build(16, 3, None).output_shape == (None, 3)
        finally:
            sys.modules.pop("training.models.tiny", None)
            vars(training.models).pop("tiny", None)
