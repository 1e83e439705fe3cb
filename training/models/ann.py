"""The fully connected networks of document 000: no convolutions, so no heat map either."""

from dataclasses import replace
from functools import partial

import keras
from keras import layers

from training.models.registry import DOCUMENTED, Architecture, register


def build_ann(size: int, outputs: int, *, nodes: int, hidden: int) -> keras.Model:
    """Flatten, dense layers with ReLU and dropout 0.3 after each, and a softmax (document 000).

    The document describes its best network, 128-nodes-0-dense, as "flatten, a fully connected
    dense layer, ReLU, dropout, classification layer" and calls it "1 layer of 128 nodes". So the
    name counts the dense layers beyond the first. It feeds the grey scan as three equal channels,
    here it is one; its losses near 200 suggest pixels of 0–255, here they are scaled to 0–1.

    Args:
        size: width and height of the input, in pixels; the document's is 224.
        outputs: the number of classes.
        nodes: of each dense layer: 32, 64 or 128 in the document.
        hidden: dense layers after the first: 0 to 2 in the document.
    """
    scans = layers.Input((size, size, 1), name="scans")
    x = layers.Flatten()(layers.Rescaling(1 / 255)(scans))
    for number in range(1, hidden + 2):
        x = layers.Dense(nodes, activation="relu", name=f"dense_{number}")(x)
        x = layers.Dropout(0.3)(x)
    x = layers.Dense(outputs, activation="softmax", dtype="float32", name="classes")(x)
    return keras.Model(scans, x, name=f"ann-{nodes}-nodes-{hidden}-dense")


for _nodes in (32, 64, 128):
    for _hidden in (0, 1, 2):
        register(
            Architecture(
                name=f"ann-{_nodes}-nodes-{_hidden}-dense",
                summary=f"Flatten, Dense {_nodes} × {_hidden + 1}, softmax",
                document="000",
                size=224,
                make=partial(build_ann, nodes=_nodes, hidden=_hidden),
                recipe=replace(DOCUMENTED, patience=5, variants=21),
            )
        )
