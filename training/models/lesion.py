"""Networks that say what a scan shows and where: a class and a lesion map from one graph.

A backbone's feature maps of strides 32, 16, 8 and 4 are joined from the coarsest to the finest (Lin
et al., 2017) into a map of where a tumour is. The class is read from the features of the whole scan
and from those under the map.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras
from keras import layers, ops

from training.models.blocks import colour_scans
from training.models.efficientnet_lite import extract_levels, load_weights
from training.models.registry import Architecture, Recipe, register
from training.models.transfer import read_application

STRIDE = 4  # of the lesion map
_CHANNELS = 64
_LITTLE = 1e-3  # under an empty map, the mean is nearly zero


def build_lesion_network(
    size: int,
    outputs: int,
    *,
    name: str,
    extract: Callable[..., dict[int, keras.KerasTensor]],
    scaling: str,
) -> keras.Model:
    """A backbone, a lesion branch, and a softmax over the classes.

    Args:
        size: width and height of the scans, a multiple of 32.
        outputs: how many classes.
        name: of the network.
        extract: colours (batch, size, size, 3) → feature maps by their stride: 4, 8, 16, 32.
        scaling: of the colours, as `colour_scans` takes it.

    Returns:
        A model of scans to `probabilities` (batch, outputs) and `lesion` (batch, size / 4,
        size / 4), 0 to 1.

    Raises:
        ValueError: the size is not a multiple of 32.
    """
    if size % 32:
        raise ValueError(f"A lesion map takes a size that is a multiple of 32, not {size}")
    scans = layers.Input((size, size, 1), name="scans")
    levels = extract(colour_scans(scans, scaling))
    joined = _join(levels)
    lesion = layers.Conv2D(1, 1, activation="sigmoid", dtype="float32", name="lesion_map")(joined)
    deepest = levels[32]
    coarse = layers.AveragePooling2D(32 // STRIDE, name="lesion_coarse")(lesion)
    features = layers.Concatenate(name="pool")(
        [
            layers.GlobalAveragePooling2D(name="pool_whole")(deepest),
            _pool_under(coarse, deepest),
            _pool_under(lesion, joined),
            layers.GlobalMaxPooling2D(name="lesion_peak")(lesion),
            layers.GlobalAveragePooling2D(name="lesion_mean")(lesion),
        ]
    )
    x = layers.Dropout(0.4)(features)
    classes = layers.Dense(outputs, activation="softmax", dtype="float32", name="classes")(x)
    rows = lesion.shape[1]
    outlined = layers.Reshape((rows, rows), dtype="float32", name="lesion")(lesion)
    return keras.Model(scans, {"lesion": outlined, "probabilities": classes}, name=name)


def _join(levels: dict[int, keras.KerasTensor]) -> keras.KerasTensor:
    """Join feature maps by their stride from the coarsest to the finest: (…, size / 4, 64)."""
    x = None
    for stride in sorted(levels, reverse=True):
        side = layers.Conv2D(_CHANNELS, 1, name=f"lesion_side_{stride}")(levels[stride])
        if x is not None:
            x = layers.UpSampling2D(2, interpolation="bilinear", name=f"lesion_up_{stride}")(x)
            x = layers.Add(name=f"lesion_add_{stride}")([x, side])
            x = layers.DepthwiseConv2D(3, padding="same", name=f"lesion_smooth_{stride}")(x)
            side = layers.Conv2D(_CHANNELS, 1, name=f"lesion_mix_{stride}")(x)
        x = layers.ReLU(6.0, name=f"lesion_relu_{stride}")(side)
    return x


def _pool_under(weights: keras.KerasTensor, features: keras.KerasTensor) -> keras.KerasTensor:
    """Give the mean of features (batch, rows, columns, width) where weights are: (batch, width)."""
    summed = ops.sum(weights * features, axis=(1, 2))
    return summed / (ops.sum(weights, axis=(1, 2)) + _LITTLE)


def extract_mobilenet(colours: keras.KerasTensor) -> dict[int, keras.KerasTensor]:
    """Give MobileNetV2's feature maps by their stride: 4, 8, 16 and 32."""
    inner = keras.applications.MobileNetV2(input_tensor=colours, include_top=False, weights=None)
    names = {4: "block_2_add", 8: "block_5_add", 16: "block_12_add", 32: "out_relu"}
    return {stride: inner.get_layer(name).output for stride, name in names.items()}


def load_mobilenet(model: keras.Model, weights: str | Path) -> int:
    """Fill the backbone with weights of MobileNetV2 without its top; gives how many tensors."""
    source = read_application(keras.applications.MobileNetV2, weights)
    for layer in source.layers[1:]:
        model.get_layer(layer.name).set_weights(layer.get_weights())
    return len(source.weights)


def load_frozen(
    model: keras.Model,
    weights: str | Path,
    *,
    load: Callable[[keras.Model, str | Path], int],
    last: str,
) -> int:
    """Fill the backbone, and keep its beginning, up to the layer `last`, as it was loaded.

    These layers see edges and textures, and hold most of the time that training takes.
    """
    tensors = load(model, weights)
    for layer in model.layers:
        layer.trainable = False
        if layer.name == last:
            break
    return tensors


# Chosen on validation patients; see docs/decisions.md.
_RECIPE = Recipe(
    epochs=12,
    learning_rate=4e-4,
    weight_decay=0.02,
    schedule="cosine",
    drawn=6400,
)

for _name, _title, _extract, _load, _last, _scaling in (
    (
        "lesion-lite0",
        "EfficientNet-Lite0",
        extract_levels,
        load_weights,
        "blocks_2_project_conv",
        "torch",
    ),
    (
        "lesion-mobilenet-v2",
        "MobileNetV2",
        extract_mobilenet,
        load_mobilenet,
        "block_2_add",
        "-1 to 1",
    ),
):
    register(
        Architecture(
            name=_name,
            summary=f"{_title}, lesion map of stride {STRIDE}, softmax",
            document="beyond",
            size=192,
            make=partial(build_lesion_network, name=_name, extract=_extract, scaling=_scaling),
            load=partial(load_frozen, load=_load, last=_last),
            recipe=_RECIPE,
            lesion=True,
        )
    )
