"""Rounds a trained model to half precision without changing what it is when it is served."""

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray


def round_weights(model: keras.Model) -> None:
    """Round every weight, and what scales the input, to the nearest half-precision number.

    The published graph stores half precision. Rounding first makes the Keras model, the graph
    and the figures of the evaluation speak of the same network. A converter fuses a batch
    normalisation into the convolution before it and would round that product again; so the
    normalisation is folded into the convolution here, and what is left of it is the identity.

    Raises:
        ValueError: a weight has no finite half-precision neighbour: training has diverged.
    """
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            _fold(layer)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            *learnt, mean, variance = layer.get_weights()  # gamma and beta, where it has them
            layer.set_weights([*map(_round, learnt), mean, variance])
        elif isinstance(layer, layers.Rescaling):
            layer.scale, layer.offset = _round_number(layer.scale), _round_number(layer.offset)
        elif not isinstance(layer, layers.Normalization):  # which derives constants of its own
            layer.set_weights([_round(weight) for weight in layer.get_weights()])
    # What was traced before holds the old scale of the input as a constant.
    model.make_predict_function(force=True)


def _round(weight: NDArray[np.generic]) -> NDArray[np.generic]:
    if not np.issubdtype(weight.dtype, np.floating):
        return weight
    with np.errstate(over="ignore"):
        rounded = weight.astype(np.float16).astype(weight.dtype)
    if not np.isfinite(rounded).all():
        raise ValueError("A weight is beyond half precision (65504): training has diverged.")
    return rounded


def _round_number(number: float | list[float]) -> float | list[float]:
    rounded: float | list[float] = np.asarray(number, np.float16).astype(float).tolist()
    return rounded


def _fold(normalisation: layers.BatchNormalization) -> None:
    """Make mean 0 and variance + epsilon 1; move the scale into a convolution just before.

    One that has no beta to take the shift, or neither a gamma nor a convolution to take the scale,
    stays as it is.
    """
    before = normalisation.input._keras_history.operation
    foldable = (  # scaling its weights scales just what the normalisation gets
        isinstance(before, (layers.Conv2D, layers.DepthwiseConv2D))
        and before.activation is keras.activations.linear
        and len(before._outbound_nodes) == 1
    )
    if not normalisation.center or not (normalisation.scale or foldable):
        return
    *gamma, beta, mean, variance = normalisation.get_weights()
    epsilon = np.float32(normalisation.epsilon)
    scale = (gamma[0] if gamma else 1) / np.sqrt(variance + epsilon)
    shift = beta - mean * scale
    if foldable:
        kernel, *bias = before.get_weights()
        depthwise = isinstance(before, layers.DepthwiseConv2D)
        width = scale.reshape(kernel.shape[2:]) if depthwise else scale
        before.set_weights([kernel * width, *(one * scale for one in bias)])
        scale = np.ones_like(scale)
    identity = [shift, np.zeros_like(mean), np.full_like(variance, 1 - epsilon)]
    normalisation.set_weights([scale, *identity] if gamma else identity)
