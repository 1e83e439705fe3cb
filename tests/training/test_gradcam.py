"""The served graph's heat map beside a plain Grad-CAM, written here from the paper."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from keras.src.applications.convnext import ConvNeXt
from keras.src.applications.efficientnet import EfficientNet
from numpy.typing import NDArray

from brainscan.bundle import read_bundle
from brainscan.engine.gradcam import ServedModel
from tests.training.conftest import read_real_scans, run_graph
from training.export import convert
from training.half_precision import round_weights
from training.models import architecture
from training.models.transfer import build_transfer

MODELS = Path(__file__).parents[2] / "instance/models"
BUNDLES = sorted(
    path.parent for path in MODELS.glob("*/*/model.keras") if path.parts[-3] != "lesion-lite0"
)


def grad_cam(path: Path, layer: str, scans: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Follow Selvaraju et al. (2017) by ordinary differentiation, pools and ReLUs included."""
    model = keras.models.load_model(path, compile=False)
    last = model.layers[-1]
    sigmoid = last.activation is keras.activations.sigmoid
    last.activation = None
    both = keras.Model(model.inputs, [model.get_layer(layer).output, model.output])
    with tf.GradientTape() as tape:
        features, logits = both(tf.cast(scans, tf.float32), training=False)
        tape.watch(features)
        # What follows the features has to be recorded again, from them on.
        logits = follow(model, layer, features)
        score = tf.abs(logits[:, 0]) if sigmoid else tf.reduce_max(logits, axis=1)
    gradient = tape.gradient(score, features)
    weights = tf.reduce_mean(gradient, axis=(1, 2))
    return tf.nn.relu(tf.einsum("nrck,nk->nrc", features, weights)).numpy()


def follow(model: keras.Model, layer: str, features: tf.Tensor) -> tf.Tensor:
    names = [one.name for one in model.layers]
    for one in model.layers[names.index(layer) + 1 :]:
        features = one(features, training=False)
    return features


def assert_same_heat(served: NDArray[np.float32], plain: NDArray[np.float32]) -> None:
    assert served.shape == plain.shape
    warm = plain.max(axis=(1, 2)) > 0
    assert (served[~warm] == 0).all()
    assert warm.sum() >= len(warm) / 2
    for ours, theirs in zip(served[warm], plain[warm], strict=True):
        assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] >= 0.99
        assert ours == pytest.approx(theirs / theirs.max(), abs=0.02)


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: "/".join(path.parts[-2:]))
def test_the_heat_map_of_a_published_model_is_that_of_a_plain_grad_cam(
    bundle: Path, draw_phantoms: Callable[..., Any]
) -> None:
    card = read_bundle(bundle)
    size = card.scan.size
    scans = np.concatenate([draw_phantoms(4, size=size)[0], read_real_scans(size)])
    served = run_graph(bundle, scans)["heatmap"]
    assert card.feature_layer is not None
    assert_same_heat(served, grad_cam(bundle / "model.keras", card.feature_layer, scans))


def test_a_healthy_answer_is_explained_as_such() -> None:
    """One neuron: what speaks for healthy is what pulls its logit down."""
    scans = keras.layers.Input((16, 16, 1))
    maps = keras.layers.Conv2D(2, 1, use_bias=False, name="maps")(scans)
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    model = keras.Model(scans, keras.layers.Dense(1, "sigmoid", use_bias=False)(pooled))
    # The first map shows bright pixels, the second dark ones; they vote against each other.
    model.set_weights([np.array([[[[1.0, -1.0]]]]), np.array([[1.0], [1.2]])])
    bright_left = np.zeros((2, 16, 16, 1), np.float32)
    bright_left[0, :, :8] = 200
    bright_left[1, :, :8] = -200
    outputs = ServedModel(model)(tf.constant(bright_left))
    tumor = outputs["probabilities"].numpy()[:, 1]
    assert tumor[0] < 0.5 < tumor[1]
    heat = outputs["heatmap"].numpy()
    assert heat[:, :, :8] == pytest.approx(np.ones((2, 16, 8)))
    assert heat[:, :, 8:] == pytest.approx(np.zeros((2, 16, 8)))


def test_several_pools_and_hidden_layers_after_the_features(tmp_path: Path) -> None:
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [
            keras.layers.Input((32, 32, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(8, 3, activation="relu", name="maps"),
            keras.layers.MaxPooling2D(3, strides=2),  # its windows overlap
            keras.layers.AveragePooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(16, "relu"),
            keras.layers.Dense(12, "relu"),
            keras.layers.Dense(3, "softmax"),
        ]
    )
    model = keras.Model(model.inputs[0], model.outputs[0])
    model.save(tmp_path / "model.keras")
    scans = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 1), np.uint8)
    whole = np.asarray(model(scans))
    outputs = ServedModel(model)(tf.constant(scans, tf.float32))
    assert outputs["probabilities"].numpy() == pytest.approx(whole, abs=1e-6)
    plain = grad_cam(tmp_path / "model.keras", "maps", scans)
    peaks = plain.max(axis=(1, 2), keepdims=True)
    assert (peaks > 0).any()
    assert outputs["heatmap"].numpy() == pytest.approx(plain / np.maximum(peaks, 1e-12), abs=1e-4)


def build_inception(**options: Any) -> keras.Model:
    whole = keras.applications.InceptionV3(**options)
    return keras.Model(whole.input, whole.get_layer("mixed3").output)


# One of each way that the last maps become an answer, and its feature layer.
MEMBERS = {
    "cnn-2-conv-32-nodes-2-dense": "conv_2",
    "inception-v3": "mixed3",
    "efficientnet-b0": "top_activation",
    "convnext-tiny": "layer_normalization",
}
# The large ones have each block once: it takes a tenth of the time.
APPLICATIONS = {
    "inception-v3": build_inception,
    "efficientnet-b0": partial(EfficientNet, 1.0, 0.1, 224),
    "convnext-tiny": partial(ConvNeXt, [1, 1, 1, 1], [96, 192, 384, 768]),
}


def build_member(name: str, size: int) -> keras.Model:
    entry = architecture(name)
    if name not in APPLICATIONS:
        return entry.build(size, 4)
    backbone = entry.make.keywords["backbone"]
    return build_transfer(size, 4, backbone=backbone._replace(application=APPLICATIONS[name]))


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_of_a_family_is_served_as_it_is(
    name: str, tmp_path: Path, draw_phantoms: Callable[..., Any]
) -> None:
    """Its graph gives the model's probabilities and a plain Grad-CAM."""
    keras.utils.set_random_seed(2)
    keras.utils.clear_session()
    size = 96 if name == "inception-v3" else 64
    scans = draw_phantoms(4, size=size)[0]
    model = build_member(name, size)
    round_weights(model)
    expected = np.asarray(model(scans))
    model.save(tmp_path / "model.keras")
    assert convert(tmp_path / "model.keras", tmp_path) == MEMBERS[name]
    outputs = run_graph(tmp_path, scans)
    assert outputs["probabilities"] == pytest.approx(expected, abs=1e-3)
    plain = grad_cam(tmp_path / "model.keras", MEMBERS[name], scans)
    assert_same_heat(outputs["heatmap"], plain)


def test_a_head_that_cannot_be_explained_is_refused() -> None:
    model = keras.Sequential(
        [
            keras.layers.Input((16, 16, 1)),
            keras.layers.Conv2D(4, 3),
            keras.layers.Flatten(),
            keras.layers.LayerNormalization(name="odd"),
            keras.layers.Dense(3, "softmax"),
        ]
    )
    with pytest.raises(ValueError, match="No heat map can be made with odd between"):
        ServedModel(model)


def test_features_are_of_the_last_maps_before_the_scan_shrinks_further() -> None:
    """Of sizes 8 and 16 times smaller; what makes them larger again plays no part."""
    scans = layers.Input((64, 64, 1))
    maps = layers.Rescaling(1 / 255)(scans)
    for number in range(5):  # strides 2, 4, 8, 16 and 32
        maps = layers.Conv2D(number + 1, 3, 2, "same", name=f"down_{number}")(maps)
        maps = layers.Conv2D(number + 1, 3, padding="same", name=f"same_{number}")(maps)
    large = layers.Conv2D(7, 3, padding="same")(layers.UpSampling2D(4)(maps))
    pooled = layers.GlobalAveragePooling2D()(large)
    model = keras.Model(scans, layers.Dense(3, "softmax")(pooled))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 1)).astype(np.float32)
    wanted = keras.Model(scans, [model.get_layer(f"same_{number}").output for number in (2, 3)])
    expected = [
        summary(maps.numpy(), axis=(1, 2))
        for maps in wanted(pixels)
        for summary in (np.mean, np.std)
    ]
    outputs = ServedModel(model)(tf.constant(pixels))
    assert outputs["features"].shape == (2, 3 + 3 + 4 + 4)
    assert outputs["features"].numpy() == pytest.approx(np.hstack(expected), abs=1e-5)


def test_a_network_without_convolutions_has_no_heat_map() -> None:
    model = keras.Sequential(
        [
            keras.layers.Input((16, 16, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(8, "relu"),
            keras.layers.Dense(4, "softmax"),
        ]
    )
    scans = np.random.default_rng(0).uniform(0, 1, (3, 16, 16, 1)).astype(np.float32)
    expected = np.asarray(model(scans))
    served = ServedModel(model)
    outputs = served(tf.constant(scans))
    assert served.feature_layer is None
    assert set(outputs) == {"probabilities"}
    assert outputs["probabilities"].numpy() == pytest.approx(expected, abs=1e-6)
