"""Networks pretrained on ImageNet, fine-tuned whole with batch normalisation frozen."""

import warnings
from collections.abc import Callable
from pathlib import Path

import keras
from keras import layers

from training.models.registry import Architecture, Recipe, WeightsError, register


def build_mobilenet_v2(size: int, classes: int, weights: str | Path | None) -> keras.Model:
    """MobileNetV2, global average pooling, dropout and a softmax over the classes.

    Args:
        size: width and height of the input, in pixels.
        classes: width of the output.
        weights: "imagenet" (Keras downloads them), a file of weights for
            `keras.applications.MobileNetV2(include_top=False)`, or None for random ones.

    Returns:
        A model of scans (batch, size, size, 1), 0–255, to probabilities (batch, classes).
    """
    scans = layers.Input((size, size, 1), name="scans")
    x = layers.Rescaling(1 / 127.5, offset=-1)(scans)
    x = layers.Concatenate()([x, x, x])  # the pretrained filters expect red, green and blue
    backbone = build_backbone(keras.applications.MobileNetV2, x, weights)
    for layer in backbone.layers:
        # Batch statistics of a few thousand scans are worse than ImageNet's.
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
    x = layers.GlobalAveragePooling2D(name="pool")(backbone.output)
    x = layers.Dropout(0.3)(x)
    x = layers.Dense(classes, activation="softmax", dtype="float32", name="classes")(x)
    return keras.Model(scans, x, name="mobilenet-v2")


def build_backbone(
    application: Callable[..., keras.Model],
    colours: keras.KerasTensor,
    weights: str | Path | None,
) -> keras.Model:
    """Build one of `keras.applications` without its top on a symbolic input.

    Args:
        application: its constructor.
        colours: symbolic, (batch, size, size, 3), scaled as the network expects.
        weights: "imagenet" (Keras downloads them), a file, or None for random ones.

    Raises:
        WeightsError: no network to download from, no such file, or one of another network.
    """
    name = application.__name__
    try:
        with warnings.catch_warnings():
            # Without a top the size that weights were trained at does not matter, and weights
            # that do not fit raise an error after a hundred warnings.
            warnings.filterwarnings("ignore", "`input_shape` is|Skipping nested container")
            return application(
                input_tensor=colours, include_top=False, weights=weights and str(weights)
            )
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(
            f"{weights} does not hold weights of {name} without its top: {reason}"
        ) from error
    except Exception as error:  # a failed download is raised as the bare class
        if "URL fetch failure" not in str(error):
            raise
        raise WeightsError(
            f"{error}. Connect this machine, or bring the file that this address names and pass "
            "it with --weights FILE; --weights none starts from random ones."
        ) from error


register(
    Architecture(
        name="mobilenet-v2",
        summary="MobileNetV2 pretrained on ImageNet, global average pooling, softmax",
        document="000, 002",
        size=176,
        build=build_mobilenet_v2,
        recipe=Recipe(epochs=40, learning_rate=2e-4, label_smoothing=0.1),
        pretrained=True,
    )
)
