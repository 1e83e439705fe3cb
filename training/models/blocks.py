"""What pretrained networks share: their head, and the pieces of torchvision's, padded as there.

Keras's "same" padding of a strided layer puts the odd pixel after the picture, PyTorch's puts the
same number on every side: weights of the one give other feature maps with the other.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import layers

from training.models.registry import WeightsError

# Of ImageNet's red, green and blue, 0–1 (as Caffe has them: 0–255).
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406])
IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225])
_CAFFE_MEANS = (103.939, 116.779, 123.68)  # blue, green, red; the channels of a scan are equal

# What weights expect pixels of 0–255 to be scaled to, as arguments of a Rescaling layer.
SCALINGS: dict[str, dict[str, Any]] = {
    "-1 to 1": {"scale": 1 / 127.5, "offset": -1.0},
    "caffe": {"scale": 1.0, "offset": [-mean for mean in _CAFFE_MEANS]},
    "torch": {
        "scale": (1 / (255 * IMAGENET_DEVIATION)).tolist(),
        "offset": (-IMAGENET_MEAN / IMAGENET_DEVIATION).tolist(),
    },
}


def colour_scans(scans: keras.KerasTensor, scaling: str) -> keras.KerasTensor:
    """Give scans (batch, size, size, 1), 0–255, the three channels that filters expect.

    Args:
        scans: symbolic.
        scaling: "-1 to 1", "caffe" or "torch", or "its own" to leave it at 0–255.
    """
    colours = layers.Concatenate()([scans, scans, scans])
    return layers.Rescaling(**SCALINGS[scaling])(colours) if scaling in SCALINGS else colours


@contextmanager
def explain_failed_download() -> Iterator[None]:
    """Turn what Keras raises without a network into a `WeightsError` that says what to do."""
    try:
        yield
    except Exception as error:  # a failed download is raised as the bare class
        if "URL fetch failure" not in str(error):
            raise
        raise WeightsError(
            f"{error}. Connect this machine, or bring the file that this address names and pass "
            "it with --weights FILE; --weights none starts from random ones."
        ) from error


def convolve(
    x: keras.KerasTensor,
    names: tuple[str, str],
    filters: int | None,
    window: int,
    stride: int = 1,
    epsilon: float = 1e-5,
    *,
    rectify: bool = True,
) -> keras.KerasTensor:
    """Add a convolution without bias, a batch normalisation and, unless `rectify` is false, a ReLU.

    Args:
        x: symbolic, (batch, rows, columns, channels).
        names: of the convolution and of the normalisation, as torchvision has them.
        filters: channels of the output; None convolves each channel by itself.
        window: width and height of the kernel, odd.
        stride: pixels between two windows.
        epsilon: added to the variance.
        rectify: whether the ReLU follows.
    """
    convolution, normalisation = map(name_layer, names)
    padding = "same"
    if stride > 1:
        x = layers.ZeroPadding2D(window // 2)(x) if window > 1 else x
        padding = "valid"
    settings = {"strides": stride, "padding": padding, "use_bias": False, "name": convolution}
    if filters is None:
        x = layers.DepthwiseConv2D(window, **settings)(x)
    else:
        x = layers.Conv2D(filters, window, **settings)(x)
    x = layers.BatchNormalization(epsilon=epsilon, name=normalisation)(x)
    return layers.ReLU(name=f"{convolution}_relu")(x) if rectify else x


def name_layer(name: str) -> str:
    """Give the Keras name of a torchvision layer: without the dots, which not all backends take."""
    return name.replace(".", "_")


def pool_padded(x: keras.KerasTensor) -> keras.KerasTensor:
    """Halve feature maps by their maximum in windows of 3, padded by a pixel on every side.

    The padding is 0, which is PyTorch's minus infinity to feature maps that a ReLU made.
    """
    return layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))


def pool_to_the_end(x: keras.KerasTensor, window: int) -> keras.KerasTensor:
    """Halve feature maps by their maximum, windows past the end included: PyTorch's `ceil_mode`.

    Args:
        x: symbolic, (batch, side, side, channels).
        window: width and height of a window, 2 or 3.
    """
    # "same" adds the one pixel after the end that a last window lacks; where none is lacking it
    # would add two, one of them before the start.
    padding = "same" if (x.shape[1] - window) % 2 else "valid"
    return layers.MaxPooling2D(window, 2, padding=padding)(x)


def classify(features: keras.KerasTensor, outputs: int) -> keras.KerasTensor:
    """Give the probabilities (batch, outputs) of feature maps (batch, rows, columns, channels)."""
    x = layers.GlobalAveragePooling2D(name="pool")(features)
    x = layers.Dropout(0.3)(x)
    return layers.Dense(outputs, activation="softmax", dtype="float32", name="classes")(x)
