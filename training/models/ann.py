"""The fully connected networks of document 000: no convolutions, so no heat map either."""

from dataclasses import replace
from functools import partial
from itertools import product

import keras
from keras import layers

from training.models.registry import DOCUMENTED, Architecture, register


def build_ann(
    size: int, outputs: int, *, nodes: int, hidden: int, raw: bool = False
) -> keras.Model:
    """Flatten, dense layers with ReLU and dropout 0.3 after each, and a softmax (document 000).

    The names are those of the loop over numbers of layers and nodes in the tutorial that the
    document cites (its reference 10), where "0-dense" adds no hidden layer. A sentence of its text
    reads them otherwise: its best network, 128-nodes-0-dense, is "flatten, a fully connected dense
    layer, ReLU, dropout, classification layer". Every network of that reading is the one with a
    hidden layer more in the tutorial's, so both are here.

    Args:
        size: width and height of the input, in pixels; the document's is 224.
        outputs: the number of classes.
        nodes: of each dense layer: 32, 64 or 128 in the document.
        hidden: dense layers before the classes: 0 to 2 in the tutorial's reading, 1 to 3 in the
            text's.
        raw: leaves pixels at 0 to 255, instead of scaling them to 0 to 1.
    """
    scans = layers.Input((size, size, 1), name="scans")
    x = layers.Flatten()(layers.Rescaling(1.0 if raw else 1 / 255)(scans))
    for number in range(1, hidden + 1):
        x = layers.Dense(nodes, activation="relu", name=f"dense_{number}")(x)
        x = layers.Dropout(0.3)(x)
    x = layers.Dense(outputs, activation="softmax", dtype="float32", name="classes")(x)
    return keras.Model(scans, x, name=f"ann-{nodes}-nodes-{hidden}-dense{'-raw' * raw}")


for _nodes, _hidden, _raw in product((32, 64, 128), (0, 1, 2, 3), (False, True)):
    register(
        Architecture(
            name=f"ann-{_nodes}-nodes-{_hidden}-dense{'-raw' * _raw}",
            summary=("Pixels of 0–255, flatten, " if _raw else "Flatten, ")
            + (f"Dense {_nodes} × {_hidden}, " if _hidden else "")
            + "softmax",
            document="000",
            size=224,
            make=partial(build_ann, nodes=_nodes, hidden=_hidden, raw=_raw),
            recipe=replace(DOCUMENTED, patience=5, variants=21),
        )
    )
