"""Models that were made elsewhere, as people save them."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from brainscan.bundle import read_bundle
from tests.training.conftest import run_graph
from training.import_model import (
    SCALES,
    ImportModelError,
    ImportRequest,
    _ask,
    _wrap,
    import_model,
    load_safely,
    name_classes,
)
from training.models.copies import call_copies


def build_sequential() -> keras.Model:
    """Colour, a batch normalisation after a convolution, softmax: a tutorial's network."""
    return keras.Sequential(
        [
            layers.Input((32, 32, 3)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dense(4, activation="softmax"),
        ]
    )


def build_nested() -> keras.Model:
    """A network within a network, which gives logits; both have a layer named `dense`."""
    inner = keras.Sequential(
        [layers.Input((32, 32, 3)), layers.Conv2D(8, 3), layers.ReLU(name="dense")]
    )
    colours = layers.Input((32, 32, 3))
    x = inner(layers.RandomFlip()(colours), training=False)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(colours, layers.Dense(3, name="dense")(x))


def build_odd() -> keras.Model:
    """A head that allows no heat map, and a softmax that is a layer of its own."""
    return keras.Sequential(
        [
            layers.Input((32, 32, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 3),
            layers.GlobalMaxPooling2D(),
            layers.Dense(2),
            layers.Softmax(),
        ]
    )


def build_sigmoid() -> keras.Model:
    return keras.Sequential(
        [
            layers.Input((32, 32, 1)),
            layers.Conv2D(4, 3),
            layers.GlobalAveragePooling2D(),
            layers.Dense(1, "sigmoid"),
        ]
    )


def save(model: keras.Model, file: Path) -> Path:
    model.save(file)
    return file


def request(file: Path, **changes: Any) -> ImportRequest:
    fields: dict[str, Any] = {
        "file": file,
        "name": "mine",
        "classes": ("no", "yes"),
        "scale": "0..1",
        "models": file.parent / "models",
    }
    return ImportRequest(**{**fields, **changes})


FOUR = ("Glioma", "meningioma", "No_Tumor", "pituitary")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize(
    ("build", "name", "options", "classes", "has_heatmap"),
    [
        (
            build_sequential,
            "m.h5",
            {"classes": FOUR, "scale": "-1..1"},
            ("glioma", "meningioma", "notumor", "pituitary"),
            True,
        ),
        (
            build_nested,
            "m.keras",
            {"classes": ("a", "b", "free"), "tumor_free": "free", "logits": True, "crop": True},
            ("a", "b", "notumor"),
            True,
        ),
        (build_odd, "m.keras", {"scale": "0..255"}, ("notumor", "tumor"), False),
        (build_sigmoid, "m.keras", {}, ("notumor", "tumor"), True),
    ],
)
def test_a_bundle_answers_as_the_file_did(
    tmp_path: Path, build: Any, name: str, options: Any, classes: Any, has_heatmap: bool
) -> None:
    keras.utils.set_random_seed(5)
    model = build()
    asked = request(save(model, tmp_path / name), **options)
    bundle = import_model(asked)
    card = read_bundle(bundle)
    assert (card.name, card.version, card.classes) == ("mine", 1, classes)
    assert card.scan.crop == asked.crop
    assert card.parameters == model.count_params()
    assert card.training is None
    assert card.measurement is None
    assert card.origin.file == name
    assert "neither its accuracy" in card.limits
    assert "nothing was measured" in (bundle / "report" / "README.md").read_text()
    scans = np.random.default_rng(2).integers(0, 256, (4, 32, 32, 1), np.uint8)
    found = run_graph(bundle, scans)
    low, high = {"0..1": (0, 1), "0..255": (0, 255), "-1..1": (-1, 1)}[asked.scale]
    pixels = low + scans / np.float32(255) * (high - low)
    colours = np.repeat(pixels, model.input_shape[3], axis=3)
    expected = np.asarray(model(colours, training=False))
    if asked.logits:
        expected = np.asarray(keras.ops.softmax(expected))
    if expected.shape[1] == 1:
        expected = np.hstack([1 - expected, expected])
    np.testing.assert_allclose(found["probabilities"], expected, atol=2e-3)
    assert ("heatmap" in found) == (card.feature_layer is not None) == has_heatmap


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_lambda_layers_are_refused(tmp_path: Path, name: str) -> None:
    scans = layers.Input((32, 32, 1))
    inner = keras.Sequential([layers.Input((32, 32, 1)), layers.Lambda(lambda x: x / 255)])
    file = save(keras.Model(scans, layers.Dense(2)(inner(scans))), tmp_path / name)
    with pytest.raises(
        ImportModelError,
        match=r"Keras cannot load .*(Lambda|lambda).* disallowed by default\. Accepted",
    ):
        load_safely(file)


class OwnLayer(layers.Layer):
    def call(self, inputs: Any) -> Any:
        return inputs


def test_layers_that_are_not_keras_own_are_refused(tmp_path: Path) -> None:
    file = save(
        keras.Sequential([layers.Input((8, 8, 1)), OwnLayer(), layers.Flatten()]),
        tmp_path / "m.keras",
    )
    with pytest.raises(
        ImportModelError,
        match=r"Could not locate class 'OwnLayer'.* Accepted: a whole model of Keras's own",
    ):
        load_safely(file)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["m.H5", "m.hdf", "m.model", "m"])
def test_hdf5_is_read_under_any_ending(tmp_path: Path, name: str) -> None:
    file = save(build_sigmoid(), tmp_path / "m.h5").rename(tmp_path / name)
    assert load_safely(file).input_shape == (None, 32, 32, 1)


def build_own() -> keras.Model:
    """A network with the names that Keras gives to the layers around it."""
    scans = layers.Input((32, 32, 3))
    x = layers.Rescaling(1 / 255, name="rescaling")(scans)
    x = layers.Concatenate(name="concatenate")([x, x])
    x = layers.GlobalAveragePooling2D()(layers.Activation("relu", name="activation")(x))
    return keras.Model(scans, layers.Dense(2)(x))


@pytest.mark.parametrize("scale", ["0..255", "imagenet"])  # without and with a layer for it
def test_its_layers_may_be_named_as_those_around_it(tmp_path: Path, scale: str) -> None:
    keras.utils.clear_session()
    model = build_own()
    asked = request(tmp_path / "m.keras", scale=scale, logits=True)
    scans = np.random.default_rng(2).integers(0, 256, (2, 32, 32, 1), np.uint8)
    found = _wrap(model, 32, asked).predict(scans, verbose=0)
    np.testing.assert_allclose(found, _ask(model, scans, asked), atol=1e-6)


def test_scales_of_colours_are_those_of_keras() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3)).astype(np.float32)
    for scale, mode in (("imagenet", "torch"), ("bgr-means", "caffe"), ("-1..1", "tf")):
        # A scan's channels are equal, so their order does not matter.
        grey = colours[..., :1].repeat(3, axis=-1)
        found = np.asarray(layers.Rescaling(**SCALES[scale])(grey))
        expected = keras.applications.imagenet_utils.preprocess_input(grey.copy(), mode=mode)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_weights_alone_are_refused(tmp_path: Path) -> None:
    build_sigmoid().save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(ImportModelError, match=r"No model config found .* Accepted: a whole model"):
        load_safely(tmp_path / "m.weights.h5")


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
@pytest.mark.parametrize("data", [b"", b"text", pickle.dumps({"model": 1})])
def test_other_files_are_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(
        ImportModelError, match=f"Keras cannot load {name}.* Accepted: a whole model"
    ):
        load_safely(tmp_path / name)


def test_a_pickle_by_its_own_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(1))
    with pytest.raises(ImportModelError, match=r"saved as .keras or HDF5"):
        load_safely(tmp_path / "m.pkl")


def test_a_configuration_that_makes_no_sense(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("config.json", '{"class_name": "Nothing", "config": {}}')
        archive.writestr("metadata.json", "{}")
    with pytest.raises(ImportModelError, match=r"Keras cannot load m\.keras"):
        load_safely(tmp_path / "m.keras")


@pytest.mark.parametrize(
    ("build", "options", "word"),
    [
        (build_odd, {"classes": FOUR}, r"Its output is \(2,\), and 4 classes were named"),
        (build_sigmoid, {"classes": FOUR}, "4 classes were named"),
        (build_nested, {"classes": ("a", "b", "c")}, "not probabilities.*--logits"),
        (build_odd, {"size": 64}, "the size asked for is 64"),
        (build_odd, {"classes": ("yes", "tumor")}, "different classes .* tumor, tumor"),
        (build_odd, {"tumor_free": "none"}, "'none' is not one of the classes no, yes"),
        (build_odd, {"scale": "imagenet"}, "has one channel, and --scale imagenet is for three"),
        (build_odd, {"name": "My Model"}, "No card can be made .*name"),
    ],
)
def test_what_does_not_fit_is_explained(
    tmp_path: Path, build: Any, options: Any, word: str
) -> None:
    file = save(build(), tmp_path / "m.keras")
    with pytest.raises(ImportModelError, match=word):
        import_model(request(file, **options))
    assert not (tmp_path / "models").exists()


def test_the_names_of_classes() -> None:
    assert name_classes(("No_Tumor", "glioma_tumor", "Other")) == ("notumor", "glioma", "Other")
    assert name_classes(("0", "1"), "0") == ("notumor", "1")
    assert name_classes(("x", "Healthy")) == ("x", "notumor")


def test_copies_share_nothing_with_the_model() -> None:
    model = build_nested()
    scans = layers.Input((32, 32, 3))
    copied = keras.Model(scans, call_copies(model, scans))
    pixels = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    before = np.asarray(model(pixels, training=False))
    np.testing.assert_allclose(copied(pixels, training=False), before, atol=1e-6)
    for layer in copied.layers:
        layer.set_weights([np.zeros_like(weight) for weight in layer.get_weights()])
    np.testing.assert_array_equal(model(pixels, training=False), before)
    assert not any(isinstance(layer, keras.Model) for layer in copied.layers)
