"""ShuffleNetV2 at its full width, × 1.0 (Ma et al., 2018), for torchvision's weights."""

import keras
from keras import layers

from training.models.blocks import convolve, pool_padded
from training.models.torchvision_weights import register_torchvision


def extract_features(colours: keras.KerasTensor) -> keras.KerasTensor:
    """Give the 1024 feature maps of colours (batch, size, size, 3): (batch, size / 32, …, 1024)."""
    x = convolve(colours, ("conv1.0", "conv1.1"), 24, 3, 2)
    x = pool_padded(x)
    for stage, units, width in ((2, 4, 116), (3, 8, 232), (4, 4, 464)):
        x = _add_reduction(x, f"stage{stage}.0", width // 2)
        for unit in range(1, units):
            x = _add_unit(x, f"stage{stage}.{unit}", width // 2)
    return convolve(x, ("conv5.0", "conv5.1"), 1024, 1)


def _add_reduction(x: keras.KerasTensor, name: str, filters: int) -> keras.KerasTensor:
    """Halve the feature maps: both branches see all channels, and their number doubles or more."""
    first = f"{name}.branch1"
    other = convolve(x, (f"{first}.0", f"{first}.1"), None, 3, 2, rectify=False)
    other = convolve(other, (f"{first}.2", f"{first}.3"), filters, 1)
    return _shuffle(other, _add_branch(x, f"{name}.branch2", filters, stride=2))


def _add_unit(x: keras.KerasTensor, name: str, filters: int) -> keras.KerasTensor:
    """Convolve one half of the channels; the other half passes."""
    passing, x = keras.ops.split(x, 2, axis=-1)
    return _shuffle(passing, _add_branch(x, f"{name}.branch2", filters))


def _add_branch(
    x: keras.KerasTensor, name: str, filters: int, stride: int = 1
) -> keras.KerasTensor:
    x = convolve(x, (f"{name}.0", f"{name}.1"), filters, 1)
    x = convolve(x, (f"{name}.3", f"{name}.4"), None, 3, stride, rectify=False)
    return convolve(x, (f"{name}.5", f"{name}.6"), filters, 1)


def _shuffle(one: keras.KerasTensor, other: keras.KerasTensor) -> keras.KerasTensor:
    """Join two branches, their channels by turns."""
    _, rows, columns, width = one.shape
    x = layers.Concatenate()([one, other])
    x = layers.Reshape((rows, columns, 2, width))(x)
    x = layers.Permute((1, 2, 4, 3))(x)  # (batch, rows, columns, width, 2)
    return layers.Reshape((rows, columns, 2 * width))(x)


register_torchvision(
    name="shufflenet-v2",
    title="ShuffleNetV2 × 1.0",
    extract=extract_features,
    published="shufflenetv2_x1-5666bf0f80.pth",
)
