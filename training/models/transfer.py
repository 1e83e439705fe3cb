"""Networks pretrained on ImageNet, as `keras.applications` has them."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from training.models.blocks import classify
from training.models.registry import FINE_TUNING, Architecture, register
from training.models.weights import load_backbone

# Of ImageNet's red, green and blue, 0–1 (as Caffe has them: 0–255).
_MEANS = np.array([0.485, 0.456, 0.406])
_DEVIATIONS = np.array([0.229, 0.224, 0.225])
_CAFFE_MEANS = [103.939, 116.779, 123.68]  # blue, green, red; the channels of a scan are equal

# What each kind of network expects its input to be scaled to, as arguments of a Rescaling layer.
_SCALINGS: dict[str, dict[str, Any] | None] = {
    "-1 to 1": {"scale": 1 / 127.5, "offset": -1.0},
    "caffe": {"scale": 1.0, "offset": [-mean for mean in _CAFFE_MEANS]},
    "torch": {
        "scale": (1 / (255 * _DEVIATIONS)).tolist(),
        "offset": (-_MEANS / _DEVIATIONS).tolist(),
    },
    "its own": None,  # a layer of the application does it
}


class _Backbone(NamedTuple):
    """A row of the table of transfer models."""

    name: str
    application: Callable[..., keras.Model]
    scaling: str
    document: str
    learning_rate: float = 2e-4
    size: int = 224


_apps = keras.applications
_BACKBONES = [
    # Without batch normalisation a high rate collapses a network into one answer.
    _Backbone("vgg16", _apps.VGG16, "caffe", "000, 002", 5e-5),
    _Backbone("vgg19", _apps.VGG19, "caffe", "000", 5e-5),
    _Backbone("inception-v3", _apps.InceptionV3, "-1 to 1", "000"),
    _Backbone("resnet50", _apps.ResNet50, "caffe", "000, 002", 1e-4),
    _Backbone("mobilenet-v2", _apps.MobileNetV2, "-1 to 1", "000, 002", size=176),
    _Backbone("densenet121", _apps.DenseNet121, "torch", "002"),
    *(
        _Backbone(f"efficientnet-b{n}", getattr(_apps, f"EfficientNetB{n}"), "its own", "001")
        for n in range(8)
    ),
    _Backbone("efficientnetv2-b0", _apps.EfficientNetV2B0, "its own", "beyond"),
    _Backbone("efficientnetv2-s", _apps.EfficientNetV2S, "its own", "beyond"),
    _Backbone("convnext-tiny", _apps.ConvNeXtTiny, "its own", "beyond", 5e-5),
]


def build_transfer(
    size: int, classes: int, weights: str | Path | None, *, backbone: _Backbone
) -> keras.Model:
    """A backbone, global average pooling, dropout and a softmax over the classes.

    Batch normalisation keeps ImageNet's statistics where there are weights to start from: those
    of a few thousand scans are worse. Without, it learns its own.

    Args:
        size: width and height of the input, in pixels.
        classes: width of the output.
        weights: "imagenet" (Keras downloads them), a file of weights for the application with
            `include_top=False`, or None for random ones.
        backbone: its row of the table.

    Returns:
        A flat model of scans (batch, size, size, 1), 0–255, to probabilities (batch, classes). The
        layer "pool" gives the features (batch, width).

    Raises:
        WeightsError: no network to download from, no such file, or one of another network.
    """
    scans = layers.Input((size, size, 1), name="scans")
    x = layers.Concatenate()([scans, scans, scans])  # the filters expect red, green and blue
    scaling = _SCALINGS[backbone.scaling]
    if scaling:
        x = layers.Rescaling(**scaling)(x)
    inner = backbone.application(input_tensor=x, include_top=False, weights=None)
    if weights:
        load_backbone(inner, backbone.application, weights)
    model = _flatten(keras.Model(scans, classify(inner.output, classes), name=backbone.name))
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = not weights
        elif isinstance(layer, layers.Normalization) and layer.weights:
            # EfficientNet: its weights hold other numbers in files than in memory.
            layer.set_weights([_MEANS, _DEVIATIONS**2, np.int32(0)])
            layer.finalize_state()
    return model


def _flatten(model: keras.Model) -> keras.Model:
    """Lay out the layers of models inside a model; ConvNeXt has some."""
    if not any(isinstance(layer, keras.Sequential) for layer in model.layers):
        return model

    def call(layer: keras.Operation, *inputs: Any, **options: Any) -> Any:
        if not isinstance(layer, keras.Sequential):
            return layer(*inputs, **options)
        [x] = inputs
        for inner in layer.layers:
            x = type(inner).from_config(inner.get_config())(x)
        return x

    flat = keras.models.clone_model(model, call_function=call)
    flat.set_weights(model.get_weights())
    return flat


for _backbone in _BACKBONES:
    register(
        Architecture(
            name=_backbone.name,
            summary=f"{_backbone.application.__name__} pretrained on ImageNet, "
            "global average pooling, softmax",
            document=_backbone.document,
            size=_backbone.size,
            build=partial(build_transfer, backbone=_backbone),
            recipe=replace(FINE_TUNING, learning_rate=_backbone.learning_rate),
            pretrained=True,
        )
    )
