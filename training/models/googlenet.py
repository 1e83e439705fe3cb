"""GoogLeNet (Szegedy et al., 2015) with batch normalisation, for torchvision's weights.

Its auxiliary heads, which only training on ImageNet needed, are left out. The third branch of a
module convolves by 3 × 3 where the paper has 5 × 5: so does torchvision's, by an old mistake that
its weights made permanent.
"""

import keras
from keras import layers

from training.models.blocks import convolve, pool_to_the_end
from training.models.torchvision_weights import register_torchvision

# Filters of each module: 1 × 1, 3 × 3 reduced, 3 × 3, "5 × 5" reduced, "5 × 5", after the pool.
_MODULES = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}
_POOL_AFTER = {"inception3b": 3, "inception4e": 2}  # widths of the windows


def extract_features(colours: keras.KerasTensor) -> keras.KerasTensor:
    """Give the 1024 feature maps of colours (batch, size, size, 3): (batch, size / 32, …, 1024)."""
    x = _convolve(colours, "conv1", 64, 7, stride=2)
    x = pool_to_the_end(x, 3)
    x = _convolve(x, "conv2", 64, 1)
    x = _convolve(x, "conv3", 192, 3)
    x = pool_to_the_end(x, 3)
    for name, filters in _MODULES.items():
        x = _add_module(x, name, *filters)
        if name in _POOL_AFTER:
            x = pool_to_the_end(x, _POOL_AFTER[name])
    return x


def _add_module(x: keras.KerasTensor, name: str, *filters: int) -> keras.KerasTensor:
    alone, reduced_3, by_3, reduced_5, by_5, pooled = filters
    pool = layers.MaxPooling2D(3, 1, padding="same")(x)
    branches = [
        _convolve(x, f"{name}.branch1", alone, 1),
        _convolve(_convolve(x, f"{name}.branch2.0", reduced_3, 1), f"{name}.branch2.1", by_3, 3),
        _convolve(_convolve(x, f"{name}.branch3.0", reduced_5, 1), f"{name}.branch3.1", by_5, 3),
        _convolve(pool, f"{name}.branch4.1", pooled, 1),
    ]
    return layers.Concatenate(name=name)(branches)


def _convolve(
    x: keras.KerasTensor, name: str, filters: int, window: int, stride: int = 1
) -> keras.KerasTensor:
    return convolve(x, (f"{name}.conv", f"{name}.bn"), filters, window, stride, epsilon=1e-3)


register_torchvision(
    name="googlenet",
    title="GoogLeNet",
    extract=extract_features,
    published="googlenet-1378be20.pth",
    # The weights were ported from TensorFlow: torchvision turns its normalised colours back into
    # -1 to 1 before the first layer (`transform_input`), and the two steps are this one.
    scaling="-1 to 1",
)
