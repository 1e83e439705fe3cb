"""Convolutional networks trained from scratch."""

from dataclasses import replace
from functools import partial
from itertools import product

import keras
from keras import layers

from training.models.registry import DOCUMENTED, Architecture, Recipe, register


def build_binary_cnn(size: int, outputs: int) -> keras.Model:
    """Two convolutions, two max-pools, Dense 512 and one sigmoid neuron (document 004)."""
    scans = layers.Input((size, size, 1), name="scans")
    x = layers.Rescaling(1 / 255)(scans)
    x = layers.Conv2D(32, 7, padding="same", activation="relu", name="conv_1")(x)
    x = layers.MaxPooling2D(4, name="pool_1")(x)
    x = layers.Conv2D(64, 5, padding="same", activation="relu", name="conv_2")(x)
    x = layers.MaxPooling2D(3, name="pool_2")(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Dense(512, activation="relu", name="dense")(x)
    x = layers.Dropout(0.5)(x)
    tumor = layers.Dense(outputs, activation="sigmoid", dtype="float32", name="tumor")(x)
    return keras.Model(scans, tumor, name="binary-cnn")


def build_cnn(
    size: int, outputs: int, *, blocks: int, nodes: int, hidden: int, raw: bool = False
) -> keras.Model:
    """Blocks of convolution, ReLU and max-pool, dropout, dense layers and a softmax (document 000).

    The document counts 16 layers in 3-conv-128-nodes-1-dense and ends its last pool with maps of
    17 × 17 × 128. That is: `nodes` filters in each convolution too, 3 × 3 without padding, pools
    of 2, one dropout after the last of them, then `hidden` dense layers with ReLU (none in
    0-dense) before the classes. Maps of 17 × 17 come of scans of 150 pixels, where its text says
    224; the default here is the text's. Dropout is 0.35, of its "30–35 %". It feeds the grey scan
    as three equal channels, here it is one.

    Args:
        size: width and height of the input, in pixels.
        outputs: the number of classes.
        blocks: 1 to 3 in the document.
        nodes: of each dense layer, and filters of each convolution: 32, 64 or 128 in the document.
        hidden: dense layers before the classes: 0 to 2 in the document.
        raw: leaves pixels at 0 to 255, instead of scaling them to 0 to 1.
    """
    scans = layers.Input((size, size, 1), name="scans")
    x = layers.Rescaling(1.0 if raw else 1 / 255)(scans)
    for number in range(1, blocks + 1):
        x = layers.Conv2D(nodes, 3, activation="relu", name=f"conv_{number}")(x)
        x = layers.MaxPooling2D(2, name=f"pool_{number}")(x)
    x = layers.Flatten()(layers.Dropout(0.35)(x))
    for number in range(1, hidden + 1):
        x = layers.Dense(nodes, activation="relu", name=f"dense_{number}")(x)
    x = layers.Dense(outputs, activation="softmax", dtype="float32", name="classes")(x)
    name = f"cnn-{blocks}-conv-{nodes}-nodes-{hidden}-dense{'-raw' * raw}"
    return keras.Model(scans, x, name=name)


# Blocks, nodes and dense layers of the document's best for each number of blocks, and of the six
# that answer the same for every scan there: only these are also trained on pixels of 0 to 255.
_RAW = {
    *((1, 32, 0), (2, 64, 0), (3, 128, 1)),
    *((1, 32, 1), (1, 64, 1), (1, 32, 2), (2, 32, 2), (1, 64, 2), (1, 128, 2)),
}

for _shape in product((1, 2, 3), (32, 64, 128), (0, 1, 2)):
    for _raw in (False, True) if _shape in _RAW else (False,):
        _blocks, _nodes, _hidden = _shape
        register(
            Architecture(
                name=f"cnn-{_blocks}-conv-{_nodes}-nodes-{_hidden}-dense{'-raw' * _raw}",
                summary=("Pixels of 0–255, " if _raw else "")
                + f"(Convolution {_nodes}, max-pool) × {_blocks}, "
                + (f"Dense {_nodes} × {_hidden}, " if _hidden else "")
                + "softmax",
                document="000",
                size=224,
                make=partial(build_cnn, blocks=_blocks, nodes=_nodes, hidden=_hidden, raw=_raw),
                recipe=replace(DOCUMENTED, patience=5, variants=21),
            )
        )

register(
    Architecture(
        name="binary-cnn",
        summary="2 convolutions, 2 max-pools, Dense 512, 1 sigmoid neuron",
        document="004",
        size=96,
        make=build_binary_cnn,
        binary=True,
        recipe=Recipe(epochs=24, batch=64, schedule="cosine"),
    )
)
