"""The four sequential networks of document 001: two, each trained for 20 and for 60 epochs."""

from dataclasses import replace
from functools import partial

import keras
from keras import layers

from training.models.registry import DOCUMENTED, Architecture, register


def build_sequential(size: int, outputs: int, *, depth: int) -> keras.Model:
    """Convolutions and max-pools in turn, flatten, two dense layers and a softmax (document 001).

    The document says: 7 or 10 layers, kernel 3, ReLU, padding ("not enabling it can drop accuracy
    drastically"), a flatten layer, two hidden dense layers and four outputs. Ten layers are then
    three pairs of convolution and max-pool and those four; seven are convolution, max-pool,
    convolution and those four. It is silent on filters (here 32, 64, 128), the widths of the
    dense layers (128 and 64), the pools (2), the size of the scans, the rate and the batch.

    Args:
        size: width and height of the input, in pixels.
        outputs: the number of classes.
        depth: layers with flatten and output, without input and scaling: 7 or 10 in the document.
    """
    scans = layers.Input((size, size, 1), name="scans")
    x = layers.Rescaling(1 / 255)(scans)
    for number in range(depth - 4):
        if number % 2:
            x = layers.MaxPooling2D(2)(x)
        else:
            x = layers.Conv2D(32 * 2 ** (number // 2), 3, padding="same", activation="relu")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu", name="dense_1")(x)
    x = layers.Dense(64, activation="relu", name="dense_2")(x)
    x = layers.Dense(outputs, activation="softmax", dtype="float32", name="classes")(x)
    return keras.Model(scans, x)


for _number, _depth, _epochs in ((1, 7, 20), (2, 7, 60), (3, 10, 20), (4, 10, 60)):
    register(
        Architecture(
            name=f"sequential-{_number}",
            summary=f"{_depth} layers: convolutions, max-pools, Dense 128, Dense 64, softmax",
            document="001",
            size=128,
            make=partial(build_sequential, depth=_depth),
            recipe=replace(DOCUMENTED, epochs=_epochs),
        )
    )
