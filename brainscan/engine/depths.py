"""Feature maps of middle depths, whose means tell a head from other pictures. Keras only."""

import math
from typing import Any

import keras
from keras import layers

_CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)
_POOLS = (layers.MaxPooling2D, layers.AveragePooling2D)
_NO_FEATURES = (*_POOLS, layers.Dropout, layers.InputLayer, layers.ZeroPadding2D)
_DEPTHS = 2
_DEEPEST = 16  # times smaller than the scan


def has_convolution(model: keras.Model) -> bool:
    """Tell whether a network has feature maps at all."""
    return any(isinstance(layer, _CONVOLUTIONS) for layer in model.layers)


def list_feature_layers(model: keras.Model) -> list[keras.Layer]:
    """Give the layers with spatial feature maps, in their order; none without a convolution."""
    if not has_convolution(model):
        return []
    return [
        layer
        for layer in model.layers
        if len(getattr(layer.output, "shape", ())) == 4 and not isinstance(layer, _NO_FEATURES)
    ]


def list_middle_maps(model: keras.Model) -> list[Any]:
    """Give the tensors of a network that a scan's features summarise; none without a convolution.

    They are the last feature maps that are 8 and 16 times smaller than the scan, where residual
    blocks are summed if there are such: what is between the sums is many times wider and tells no
    more. Of a network with fewer steps they are of its last two sizes. A branch that makes maps
    larger again comes after them and plays no part.
    """
    stages: dict[int, list[keras.Layer]] = {}  # halvings of the scan → its layers
    for layer in list_feature_layers(model):
        halvings = round(math.log2(model.input_shape[1] / layer.output.shape[1]))
        if stages and halvings < max(stages):
            break
        stages.setdefault(halvings, []).append(layer)
    middle = [found for halvings, found in stages.items() if 2**halvings <= _DEEPEST][-_DEPTHS:]
    return [_choose_last(found).output for found in middle]


def _choose_last(found: list[keras.Layer]) -> keras.Layer:
    sums = [layer for layer in found if isinstance(layer, layers.Add)]
    return (sums or found)[-1]


def summarise(middle: list[Any]) -> Any:
    """Give the features of scans, (batch, width): means and deviations of their middle maps."""
    summaries = (keras.ops.mean, keras.ops.std)
    return keras.ops.concatenate(
        [summary(maps, axis=(1, 2)) for maps in middle for summary in summaries], axis=1
    )
