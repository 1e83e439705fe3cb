"""Convolutional networks trained from nothing."""

from pathlib import Path

import keras
from keras import layers

from training.models.registry import Architecture, Recipe, register


def build_binary_cnn(
    size: int,
    classes: int,
    weights: str | Path | None,  # noqa: ARG001  every builder takes them
) -> keras.Model:
    """Two convolutions, two max-pools, Dense 512 and one sigmoid neuron (document 004).

    Args:
        size: width and height of the input, in pixels.
        classes: 2, healthy and tumour; anything else raises ValueError.
        weights: not used; the network learns from nothing.

    Returns:
        A model of scans (batch, size, size, 1), 0–255, to the probability of a tumour (batch, 1).
    """
    if classes != 2:
        raise ValueError(f"binary-cnn tells healthy from tumour: 2 classes. Received: {classes}")
    scans = layers.Input((size, size, 1), name="scans")
    x = layers.Rescaling(1 / 255)(scans)
    x = layers.Conv2D(32, 7, padding="same", activation="relu", name="conv_1")(x)
    x = layers.MaxPooling2D(4, name="pool_1")(x)
    x = layers.Conv2D(64, 5, padding="same", activation="relu", name="conv_2")(x)
    x = layers.MaxPooling2D(3, name="pool_2")(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Dense(512, activation="relu", name="dense")(x)
    x = layers.Dropout(0.5)(x)
    tumor = layers.Dense(1, activation="sigmoid", dtype="float32", name="tumor")(x)
    return keras.Model(scans, tumor, name="binary-cnn")


register(
    Architecture(
        name="binary-cnn",
        summary="2 convolutions, 2 max-pools, Dense 512, 1 sigmoid neuron",
        document="004",
        size=96,
        build=build_binary_cnn,
        binary=True,
        recipe=Recipe(epochs=60, batch=64, learning_rate=1e-3, patience=12),
    )
)
