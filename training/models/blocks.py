"""What pretrained networks share: their head, and the pieces of torchvision's, padded as there.

Keras's "same" padding of a strided layer puts the odd pixel after the picture, PyTorch's puts the
same number on every side: weights of the one give other feature maps with the other.
"""

from collections.abc import Sequence

import keras
from keras import layers

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def colour_scans(
    scans: keras.KerasTensor, mean: Sequence[float], deviation: Sequence[float]
) -> keras.KerasTensor:
    """Give scans (batch, size, size, 1), 0–255, three channels with ImageNet's statistics.

    Args:
        scans: symbolic.
        mean: of red, green and blue, of 0 to 1.
        deviation: of red, green and blue, of 0 to 1.
    """
    colours = layers.Concatenate()([scans, scans, scans])
    scale = [1 / (255 * one) for one in deviation]
    offset = [-one / spread for one, spread in zip(mean, deviation, strict=True)]
    return layers.Rescaling(scale, offset)(colours)


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
    """Add a convolution without bias, a batch normalisation and, unless told not to, a ReLU.

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


def classify(features: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Give the probabilities (batch, classes) of feature maps (batch, rows, columns, channels)."""
    x = layers.GlobalAveragePooling2D(name="pool")(features)
    x = layers.Dropout(0.3)(x)
    return layers.Dense(classes, activation="softmax", dtype="float32", name="classes")(x)
