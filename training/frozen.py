"""A pretrained model whose backbone stays as it is: features computed once, heads trained on them.

The backbone is every layer up to "pool", whose output is the feature vector of a scan; the head is
the layers after it. Since the backbone never changes, nor do the features: an epoch passes vectors
through a head of one layer, and no scan through the backbone. So scans cannot be varied either.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray
from tqdm import tqdm

from training.fit import FitResult, FitSettings, Labelled, Scans, build_at_size, fit
from training.memory import DeviceMemoryError, is_out_of_memory
from training.models import Architecture

FEATURES = "pool"
NOTE = (
    "Only the head was trained, on features that the frozen backbone computed once: scans were "
    "neither augmented nor shown in variants, and seconds an epoch are of the head alone."
)
_BATCH = 64


def fit_head(
    architecture: Architecture,
    training: Labelled,
    validation: Scans,
    settings: FitSettings,
    folder: Path,
) -> FitResult:
    """Train the head of a pretrained model, or go on with the run that `folder` holds.

    Args:
        architecture: pretrained, with a layer named "pool".
        training: pixels, labels and groups, as `training.fit.fit` takes them.
        validation: pixels and labels.
        settings: how; its augmentation, variants, normalisation and precision are not used.
        folder: keeps the features, and what `training.fit.fit` keeps.

    Returns:
        The whole model, its backbone as it was.

    Raises:
        DivergenceError, DeviceMemoryError: as `training.fit.fit`.
    """
    network = build_network(architecture, settings)
    pixels, labels, groups = training
    vectors = compute_features(network, pixels, folder, "training")
    known = compute_features(network, validation[0], folder, "validation")
    recipe = replace(settings.recipe, augmentation=0.0, variants=0, normalisation="kept")
    fitted = fit(
        # To `fit`, the head is a network like any other.
        replace(architecture, build=lambda _size, _classes, _weights: build_head(network)),
        (vectors, labels, groups),
        (known, validation[1]),
        replace(settings, recipe=recipe, precision="float32"),
        folder,
    )
    for layer, trained in zip(_list_head(network), fitted.model.layers[1:], strict=True):
        layer.set_weights(trained.get_weights())
    return replace(fitted, model=network, batch=_BATCH, notes=(NOTE,))


def build_network(architecture: Architecture, settings: FitSettings) -> keras.Model:
    """Build the whole model in float32; random weights are the same for the same seed."""
    keras.utils.set_random_seed(settings.seed)
    return build_at_size(architecture, settings, settings.weights)


def build_head(network: keras.Model) -> keras.Model:
    """Copy the layers after "pool", with fresh weights, as a model of feature vectors."""
    vectors = outputs = layers.Input(network.get_layer(FEATURES).output.shape[1:])
    for layer in _list_head(network):
        outputs = type(layer).from_config(layer.get_config())(outputs)
    return keras.Model(vectors, outputs, name=network.name)


def _list_head(network: keras.Model) -> list[keras.Layer]:
    position = [layer.name for layer in network.layers].index(FEATURES)
    return list(network.layers[position + 1 :])


def compute_features(
    network: keras.Model, pixels: NDArray[np.uint8], folder: Path, part: str
) -> NDArray[np.float32]:
    """Give the feature vectors of scans; those that the run has computed before are read back.

    Args:
        network: with a layer named "pool".
        pixels: uint8, shape (scans, size, size, 1).
        folder: of the run, which is one of these very scans; keeps the vectors in a file whose
            name holds a digest of the backbone's weights.
        part: "training" or "validation", for the file's name and the progress bar.

    Returns:
        float32, shape (scans, width of "pool").

    Raises:
        DeviceMemoryError: the device has no memory for even one scan.
    """
    backbone = keras.Model(network.inputs, network.get_layer(FEATURES).output)
    path = folder / f"features-{part}-{_digest(backbone)}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        vectors = _pass_through(backbone, pixels, part)
        partial = path.with_name(path.name + ".partial")
        with partial.open("wb") as file:
            np.save(file, vectors)
        partial.replace(path)
    read: NDArray[np.float32] = np.load(path)
    return read


def _pass_through(
    backbone: keras.Model, pixels: NDArray[np.uint8], part: str
) -> NDArray[np.float32]:
    vectors = np.empty((len(pixels), backbone.output_shape[-1]), np.float32)
    batch, start = _BATCH, 0
    with tqdm(desc=f"Features, {part}", total=len(pixels), unit="scan") as bar:
        while start < len(pixels):
            scans = pixels[start : start + batch]
            try:
                vectors[start : start + batch] = backbone.predict_on_batch(scans)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if batch == 1:
                    raise DeviceMemoryError(
                        "The device has too little memory to pass even one scan through the "
                        "backbone. Choose a smaller --size or a smaller model."
                    ) from error
                batch //= 2
                continue
            start += len(scans)
            bar.update(len(scans))
    return vectors


def _digest(backbone: keras.Model) -> str:
    digest = hashlib.sha256()
    for weights in backbone.get_weights():
        digest.update(np.ascontiguousarray(weights).tobytes())
    return digest.hexdigest()[:12]
