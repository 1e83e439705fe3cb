"""Networks pretrained on ImageNet, as `keras.applications` has them."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from keras import layers

from training.models.blocks import (
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    classify,
    colour_scans,
    explain_failed_download,
)
from training.models.copies import call_copies
from training.models.registry import FINE_TUNING, Architecture, WeightsError, register


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


def build_transfer(size: int, outputs: int, *, backbone: _Backbone) -> keras.Model:
    """A backbone, global average pooling, dropout and a softmax over the classes."""
    scans = layers.Input((size, size, 1), name="scans")
    colours = colour_scans(scans, backbone.scaling)
    inner = backbone.application(input_tensor=colours, include_top=False, weights=None)
    model = keras.Model(scans, classify(inner.output, outputs), name=backbone.name)
    if any(isinstance(layer, keras.Sequential) for layer in model.layers):  # ConvNeXt has some
        flat = layers.Input((size, size, 1), name="scans")
        model = keras.Model(flat, call_copies(model, flat), name=backbone.name)
    _set_statistics(model)
    return model


def load_backbone(model: keras.Model, weights: str | Path, *, backbone: _Backbone) -> int:
    """Fill a network up to its head with weights of its application; gives how many tensors.

    Args:
        model: of `build_transfer`.
        weights: without the top: "imagenet" (Keras downloads them) or a file: `.weights.h5`, `.h5`
            or `.keras`.
        backbone: its row of the table.

    Raises:
        WeightsError: nothing can be downloaded, or the file is missing or of another network.
    """
    loaded = read_application(backbone.application, weights).get_weights()
    model.set_weights([*loaded, *model.layers[-1].get_weights()])
    _set_statistics(model)
    return len(loaded)


def read_application(application: Callable[..., keras.Model], weights: str | Path) -> keras.Model:
    """Give an application without its top, with weights.

    Args:
        application: of `keras.applications`.
        weights: "imagenet" (Keras downloads them) or a file: `.weights.h5`, `.h5` or `.keras`.

    Raises:
        WeightsError: nothing can be downloaded, or the file is missing or of another network.
    """
    make = partial(application, include_top=False, input_shape=(224, 224, 3))
    if weights == "imagenet":
        with explain_failed_download():
            source = make(weights="imagenet")
    else:
        source = make(weights=None)
        try:
            with warnings.catch_warnings():
                # Weights that do not fit raise an error after a hundred of these.
                warnings.filterwarnings("ignore", "Skipping nested container")
                source.load_weights(Path(weights))
        except (ValueError, OSError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise WeightsError(
                f"{weights} does not hold weights of {application.__name__} without its "
                f"top: {reason}"
            ) from error
    return source


def _set_statistics(model: keras.Model) -> None:
    """Set what EfficientNet normalises colours by, which files hold in other numbers."""
    for layer in model.layers:
        if isinstance(layer, layers.Normalization) and layer.weights:
            layer.set_weights([IMAGENET_MEAN, IMAGENET_DEVIATION**2, np.int32(0)])
            layer.finalize_state()


for _backbone in _BACKBONES:
    register(
        Architecture(
            name=_backbone.name,
            summary=f"{_backbone.application.__name__}, global average pooling, softmax",
            document=_backbone.document,
            size=_backbone.size,
            make=partial(build_transfer, backbone=_backbone),
            load=partial(load_backbone, backbone=_backbone),
            recipe=replace(FINE_TUNING, learning_rate=_backbone.learning_rate),
        )
    )
