import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from numpy.typing import NDArray

import training.models
from brainscan.engine.gradcam import find_feature_layer
from training.frozen import build_head
from training.half_precision import round_weights
from training.models import (
    WeightsError,
    architecture,
    architectures,
    list_architectures,
    registry,
)
from training.models.registry import build_without_weights, describe_architecture
from training.models.transfer import read_application

NODES = [f"{nodes}-nodes-{hidden}-dense" for nodes in (32, 64, 128) for hidden in (0, 1, 2)]
# Each model's width of output beside it: a new family adds its line here.
OUTPUTS = {
    "binary-cnn": 1,
    **{
        f"ann-{nodes}-nodes-{hidden}-dense{raw}": 4
        for nodes in (32, 64, 128)
        for hidden in (0, 1, 2, 3)
        for raw in ("", "-raw")
    },
    **{f"cnn-{blocks}-conv-{nodes}": 4 for blocks in (1, 2, 3) for nodes in NODES},
    **{
        f"cnn-{shape}-dense-raw": 4
        for shape in (
            "1-conv-32-nodes-0",
            "2-conv-64-nodes-0",
            "3-conv-128-nodes-1",
            "1-conv-32-nodes-1",
            "1-conv-64-nodes-1",
            "1-conv-32-nodes-2",
            "2-conv-32-nodes-2",
            "1-conv-64-nodes-2",
            "1-conv-128-nodes-2",
        )
    },
    **{f"sequential-{number}": 4 for number in (1, 2, 3, 4)},
    "convnext-tiny": 4,
    "densenet121": 4,
    **{f"efficientnet-b{number}": 4 for number in range(8)},
    **{f"efficientnet-lite{number}": 4 for number in range(3)},
    "efficientnetv2-b0": 4,
    "efficientnetv2-s": 4,
    "googlenet": 4,
    "inception-v3": 4,
    "lesion-lite0": 4,
    "lesion-mobilenet-v2": 4,
    "mobilenet-v2": 4,
    "resnet18": 4,
    "resnet50": 4,
    "shufflenet-v2": 4,
    "vgg16": 4,
    "vgg19": 4,
}
SIZE = 64
SIZES = {"inception-v3": 96}  # it takes no smaller ones


# One of each builder, and of each way that a transfer model is put together, at little cost;
# test_export.py has binary-cnn and mobilenet-v2.
BUILT = [
    "ann-32-nodes-0-dense",
    "cnn-1-conv-32-nodes-1-dense",
    "efficientnet-b0",
    "sequential-1",
    "shufflenet-v2",
]


MEANS = np.array([0.485, 0.456, 0.406])
DEVIATIONS = np.array([0.229, 0.224, 0.225])


def standardise(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return (x / 255 - MEANS) / DEVIATIONS


# How the backbones of Keras expect their scans.
SCALED: dict[str, Callable[[Any], Any]] = {
    "mobilenet-v2": lambda x: x / 127.5 - 1,
    "inception-v3": lambda x: x / 127.5 - 1,
    "vgg16": lambda x: x - [103.939, 116.779, 123.68],
    "resnet50": lambda x: x - [103.939, 116.779, 123.68],
    "densenet121": standardise,
    "efficientnet-b0": standardise,
    "efficientnet-lite0": standardise,
    "efficientnetv2-b0": standardise,
    "convnext-tiny": standardise,
}


def build(name: str, weights: str | None = None) -> keras.Model:
    return architecture(name).build(SIZES.get(name, SIZE), OUTPUTS[name], weights)


def list_kinds(model: keras.Model) -> list[type[keras.Layer]]:
    return [type(layer) for layer in model.layers]


def test_every_architecture_is_tested() -> None:
    assert list(architectures()) == sorted(OUTPUTS)
    assert [one.name for one in list_architectures()] == sorted(OUTPUTS)


@pytest.fixture(scope="module", params=OUTPUTS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(name: str) -> keras.Model:
    entry = architecture(name)
    return build_without_weights(entry, entry.size)


class TestContract:
    """What `Architecture` promises to the rest of the code, for every name."""

    def test_takes_scans_and_gives_probabilities(self, name: str, model: keras.Model) -> None:
        size = architecture(name).size
        assert model.input_shape == (None, size, size, 1)
        assert model.input.name == "scans"
        if architecture(name).lesion:
            shapes = {key: one.shape for key, one in model.output.items()}
            assert shapes.pop("lesion") == (None, size // 4, size // 4)
            assert shapes == {"probabilities": (None, OUTPUTS[name])}
        else:
            assert model.output_shape == (None, OUTPUTS[name])

    def test_scales_its_input_itself(self, name: str, model: keras.Model) -> None:
        kinds = list_kinds(model)
        weighs = kinds.index(layers.Conv2D if layers.Conv2D in kinds else layers.Dense)
        assert {layers.Rescaling, layers.Normalization} & set(kinds[:weighs])

        if name in SCALED:
            greys = np.array([0, 51, 204, 255], np.float32).reshape(4, 1, 1, 1)
            x = np.repeat(greys, 3, axis=-1)
            wanted = SCALED[name](x)
            for layer in model.layers:
                if isinstance(layer, layers.Rescaling | layers.Normalization):
                    x = layer(x)
            assert np.asarray(x) == pytest.approx(wanted, abs=1e-5)

    def test_is_one_flat_network_of_kerass_own_layers(self, model: keras.Model) -> None:
        for layer in model.layers:
            assert not isinstance(layer, keras.Model)
            assert type(layer).__module__.partition(".")[0] == "keras"

    def test_ends_in_one_dense_layer_that_can_be_calibrated(
        self, name: str, model: keras.Model
    ) -> None:
        last = model.layers[-1]
        assert isinstance(last, layers.Dense)
        assert last.use_bias
        assert last.activation.__name__ == ("sigmoid" if architecture(name).binary else "softmax")
        assert last.compute_dtype == "float32"  # also where the rest is in half precision

    def test_allows_a_heat_map(self, name: str, model: keras.Model) -> None:
        if architecture(name).lesion:
            return  # it has a map of its own
        feature_layer = find_feature_layer(model)
        assert (feature_layer is None) == name.startswith("ann-")
        if feature_layer is None:
            return
        kinds = list_kinds(model)
        after = [layer.name for layer in model.layers].index(feature_layer) + 1
        first = next(i for i in range(after, len(kinds)) if kinds[i] is layers.Dense)
        pools = {layers.MaxPooling2D, layers.GlobalAveragePooling2D}
        assert set(kinds[after:first]) <= pools | {layers.Flatten, layers.Dropout}
        assert set(kinds[first:]) <= {layers.Dense, layers.Dropout}
        hidden = [one for one in model.layers[first:-1] if isinstance(one, layers.Dense)]
        assert {one.activation.__name__ for one in hidden} <= {"relu"}

    def test_a_pretrained_one_gives_features_before_its_head(
        self, name: str, model: keras.Model
    ) -> None:
        if not architecture(name).pretrained:
            assert "pool" not in [layer.name for layer in model.layers]
            return
        assert all(layer.trainable for layer in model.layers)  # no weights, no statistics to keep
        assert len(model.get_layer("pool").output.shape) == 2
        if architecture(name).lesion:
            return  # its branch would have nothing to learn from
        head = build_head(model)
        assert head.input_shape == model.get_layer("pool").output.shape
        assert head.output_shape == model.output_shape
        assert list_kinds(head)[1:] == [layers.Dropout, layers.Dense]

    def test_is_described(self, name: str, model: keras.Model) -> None:
        entry = architecture(name)
        # `python -m deploy.tables` writes the list.
        [listed] = [one for one in list_architectures() if one.name == name]
        assert listed == describe_architecture(entry, model)
        assert entry.name == name
        assert entry.summary
        assert entry.document
        assert 16 <= entry.size <= 1024
        assert entry.binary == (OUTPUTS[name] == 1)


@pytest.mark.parametrize("name", BUILT)
def test_answers_in_probabilities_which_rounding_keeps(name: str) -> None:
    """Its weights and its answers: with weights, so not for every name."""
    model = build(name)
    size = SIZES.get(name, SIZE)
    scans = np.random.default_rng(0).integers(0, 256, (3, size, size, 1), np.uint8)
    before = np.asarray(model(scans))
    assert before.dtype == np.float32
    assert ((before >= 0) & (before <= 1)).all()
    if OUTPUTS[name] > 1:
        assert before.sum(axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    round_weights(model)
    assert np.asarray(model(scans)) == pytest.approx(before, abs=0.02)


class TestDocument000:
    @pytest.mark.parametrize("hidden", [0, 1, 2, 3])
    def test_an_ann_has_the_dense_layers_that_its_name_says(self, hidden: int) -> None:
        model = build(f"ann-64-nodes-{hidden}-dense")
        dense = [layer.units for layer in model.layers if isinstance(layer, layers.Dense)]
        assert dense == [*[64] * hidden, 4]
        dropouts = [layer.rate for layer in model.layers if isinstance(layer, layers.Dropout)]
        assert dropouts == [0.3] * hidden

    @pytest.mark.parametrize("name", ["ann-32-nodes-0-dense", "cnn-1-conv-32-nodes-0-dense"])
    def test_a_raw_one_takes_pixels_as_they_are(self, name: str) -> None:
        (scaled,), (raw,) = (
            [layer.scale for layer in build(one).layers if isinstance(layer, layers.Rescaling)]
            for one in (name, f"{name}-raw")
        )
        assert (scaled, raw) == (1 / 255, 1)

    def test_a_cnn_has_the_maps_and_the_16_layers_of_its_figure(self) -> None:
        model = architecture("cnn-3-conv-128-nodes-1-dense").build(150, 4)
        assert model.get_layer("pool_3").output.shape == (None, 17, 17, 128)
        dense = [layer.units for layer in model.layers if isinstance(layer, layers.Dense)]
        assert dense == [128, 4]
        # The document counts activations as layers, and none that scales.
        activations = sum(getattr(layer, "activation", None) is not None for layer in model.layers)
        assert len(model.layers) - 1 + activations == 16

    @pytest.mark.parametrize("name", ["ann-32-nodes-0-dense", "cnn-1-conv-32-nodes-0-dense"])
    def test_is_trained_as_the_document_does(self, name: str) -> None:
        recipe = architecture(name).recipe
        assert (recipe.batch, recipe.variants, recipe.augmentation) == (32, 21, 0)
        assert (recipe.weight_decay, recipe.average, recipe.label_smoothing) == (0, 0, 0)
        assert recipe.every_copy
        assert not recipe.balanced


@pytest.mark.parametrize(
    ("number", "depth", "epochs"), [(1, 7, 20), (2, 7, 60), (3, 10, 20), (4, 10, 60)]
)
def test_a_sequential_network_has_the_layers_of_document_001(
    number: int, depth: int, epochs: int
) -> None:
    model = build(f"sequential-{number}")
    kinds = [x for x in list_kinds(model) if x not in {layers.InputLayer, layers.Rescaling}]
    assert len(kinds) == depth
    assert kinds[-4:] == [layers.Flatten, layers.Dense, layers.Dense, layers.Dense]
    convolutions = [layer for layer in model.layers if isinstance(layer, layers.Conv2D)]
    assert {(layer.kernel_size, layer.padding) for layer in convolutions} == {((3, 3), "same")}
    assert architecture(f"sequential-{number}").recipe.epochs == epochs


def test_binary_cnn_has_the_layers_of_document_004() -> None:
    model = build("binary-cnn")
    counted = (layers.Conv2D, layers.MaxPooling2D, layers.Dense)
    found = [layer for layer in model.layers if isinstance(layer, counted)]
    convolution, pool = layers.Conv2D, layers.MaxPooling2D
    assert [*map(type, found[:4])] == [convolution, pool, convolution, pool]
    assert [layer.units for layer in found[4:]] == [512, 1]
    assert model.layers[-1].activation is keras.activations.sigmoid


class TestTransfer:
    @pytest.mark.parametrize(
        ("name", "application", "ending"),
        [
            ("mobilenet-v2", keras.applications.MobileNetV2, ".weights.h5"),
            ("convnext-tiny", keras.applications.ConvNeXtTiny, ".h5"),
        ],
    )
    def test_starts_from_a_file_of_weights_and_keeps_imagenets_batch_statistics(
        self, name: str, application: Callable[..., Any], ending: str, tmp_path: Path
    ) -> None:
        source = application(input_shape=(96, 96, 3), include_top=False, weights=None)
        path = tmp_path / f"backbone{ending}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # absl's, on the older format
            source.save_weights(path) if "weights" in ending else source.save(path)
        model = build(name, str(path))
        assert model.tensors_loaded == len(source.weights) == len(model.weights) - 2
        for ours, theirs in zip(model.weights, source.weights, strict=False):
            assert np.array_equal(ours, theirs)
        norms = [x for x in model.layers if isinstance(x, layers.BatchNormalization)]
        assert len(norms) == (52 if name == "mobilenet-v2" else 0)
        assert not any(layer.trainable for layer in norms)
        assert all(x.trainable for x in model.layers if isinstance(x, layers.Conv2D))

    @pytest.mark.parametrize("ending", [".weights.h5", ".h5"])
    def test_says_that_a_file_is_of_another_network(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"other{ending}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # absl's, on the older format
            other = build("binary-cnn")
            other.save_weights(path) if "weights" in ending else other.save(path)
        with pytest.raises(WeightsError, match=r"does not hold weights of MobileNetV2 .*: .+"):
            read_application(keras.applications.MobileNetV2, path)

    def test_says_what_to_do_without_a_network(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
        monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
        with pytest.raises(WeightsError, match="Connect this machine, or bring the file"):
            architecture("mobilenet-v2").build(96, 4, "imagenet")


class TestRegistry:
    def test_an_unknown_name_lists_the_known_ones(self) -> None:
        with pytest.raises(ValueError, match=r"'vgg'\. Known models: ann-.*, binary-cnn, "):
            architecture("vgg")

    def test_a_name_is_taken_once(self) -> None:
        with pytest.raises(ValueError, match="'binary-cnn' is registered already"):
            registry.register(architecture("binary-cnn"))

    def test_one_new_file_joins(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "tiny.py").write_text(
            "import keras\n"
            "from training.models.registry import Architecture, register\n"
            "def build(size, outputs):\n"
            "    layers = [keras.layers.Flatten(), keras.layers.Dense(outputs, 'softmax')]\n"
            "    return keras.Sequential([keras.layers.Input((size, size, 1)), *layers])\n"
            "register(Architecture('tiny', 'one layer', '-', 16, build))\n"
        )
        known = list(architectures())
        monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
        monkeypatch.setattr(training.models, "__path__", [*training.models.__path__, str(tmp_path)])
        try:
            assert list(architectures()) == sorted([*known, "tiny"])
            assert architecture("tiny").build(16, 3).output_shape == (None, 3)
        finally:
            sys.modules.pop("training.models.tiny", None)
            vars(training.models).pop("tiny", None)
