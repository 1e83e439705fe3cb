"""Networks whose pretrained weights torchvision publishes: their registration and their files.

A layer bears torchvision's name with "_" for ".", so its weights find themselves.
"""

import hashlib
import importlib
import pickle
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from training.models.blocks import classify, colour_scans, explain_failed_download
from training.models.registry import FINE_TUNING, Architecture, WeightsError, register

ADDRESS = "https://download.pytorch.org/models"
# The heads for ImageNet's classes, and counters that nothing reads.
_LEFT_OUT = ("fc.", "aux1.", "aux2.")
_COUNTER = ".num_batches_tracked"


def register_torchvision(
    *,
    name: str,
    title: str,
    extract: Callable[[keras.KerasTensor], keras.KerasTensor],
    published: str,
    scaling: str = "torch",
) -> None:
    """Register a network of a backbone, global average pooling, dropout and a softmax.

    Args:
        name: what the command line calls it.
        title: what people call it.
        extract: colours (batch, size, size, 3) → feature maps (batch, rows, columns, channels).
        published: torchvision's file of weights; its name ends in the start of its SHA-256.
        scaling: of the colours that the weights expect, as `colour_scans` takes it.
    """

    def make(size: int, outputs: int) -> keras.Model:
        scans = layers.Input((size, size, 1), name="scans")
        features = extract(colour_scans(scans, scaling))
        return keras.Model(scans, classify(features, outputs), name=name)

    register(
        Architecture(
            name=name,
            summary=f"{title}, global average pooling, softmax",
            document="002",
            size=224,
            make=make,
            load=partial(load_weights, published=published),
            recipe=FINE_TUNING,
        )
    )


def download_weights(published: str) -> Path:
    """Fetch a file that torchvision publishes, unless it was fetched before.

    Args:
        published: its name, which ends in the start of its SHA-256: `resnet18-f37072fd.pth`.

    Raises:
        WeightsError: nothing can be downloaded, or what came is not that file.
    """
    address = f"{ADDRESS}/{published}"
    with explain_failed_download():
        path = Path(keras.utils.get_file(published, address, cache_subdir="models"))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if not found.startswith(path.stem.rpartition("-")[2]):
        path.unlink()
        raise WeightsError(
            f"What was downloaded as {published} has the SHA-256 {found}, which does not start as "
            "its name ends. The file is removed: try again."
        )
    return path


def load_weights(model: keras.Model, weights: str | Path, *, published: str) -> int:
    """Fill a network with weights of torchvision's names and shapes; gives how many tensors.

    Args:
        model: its layers are named after torchvision's.
        weights: "imagenet", or a file: a PyTorch state dict (.pth, .pt), or its names and arrays
            as .npz.
        published: the file to download for "imagenet".

    Raises:
        WeightsError: no such file, or one of another network: its first wrong name or shape.
    """
    path = download_weights(published) if weights == "imagenet" else Path(weights)
    arrays = _read_arrays(path)
    mistake = f"{path} does not hold weights of {model.name}: "
    variables = list(_name_variables(model))
    for name, variable, order in variables:
        shape = tuple(variable.shape[axis] for axis in order)
        if name not in arrays:
            raise WeightsError(f"{mistake}{name}, of shape {shape}, is missing.")
        array = arrays.pop(name)
        if array.shape != shape:
            raise WeightsError(f"{mistake}{name} has the shape {array.shape} instead of {shape}.")
        variable.assign(array.transpose(np.argsort(order)))
    for name in arrays:
        if not name.startswith(_LEFT_OUT) and not name.endswith(_COUNTER):
            raise WeightsError(f"{mistake}{name} belongs to no layer of this network.")
    return len(variables)


def _name_variables(model: keras.Model) -> Iterator[tuple[str, Any, tuple[int, ...]]]:
    """Give each weight's name in torchvision, its variable, and PyTorch's order of its axes."""
    for layer in model.layers:
        name = layer.name.replace("_", ".")
        if isinstance(layer, layers.DepthwiseConv2D):
            yield f"{name}.weight", layer.kernel, (2, 3, 0, 1)
        elif isinstance(layer, layers.Conv2D):
            yield f"{name}.weight", layer.kernel, (3, 2, 0, 1)
        elif isinstance(layer, layers.BatchNormalization):
            yield f"{name}.weight", layer.gamma, (0,)
            yield f"{name}.bias", layer.beta, (0,)
            yield f"{name}.running_mean", layer.moving_mean, (0,)
            yield f"{name}.running_var", layer.moving_variance, (0,)


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read names and arrays from a file; no code that it may hold is run."""
    try:
        if path.suffix == ".npz":
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        if path.suffix in (".pt", ".pth"):
            return _read_pytorch(path)
        reason = "Accepted: .npz, .pt and .pth, with torchvision's names."
    except ModuleNotFoundError:
        reason = "run `pip install torch`, or bring the same names and arrays as .npz."
    except pickle.UnpicklingError:  # PyTorch's own advice is to run what the file holds
        reason = "it is damaged, or holds more than tensors."
    except (OSError, EOFError, RuntimeError, TypeError, ValueError, zipfile.BadZipFile) as error:
        reason = str(error).partition("\n")[0] or "it is empty, or cut short."
    raise WeightsError(f"{path} cannot be read as weights: {reason}")


def _read_pytorch(path: Path) -> dict[str, NDArray[Any]]:
    torch: Any = importlib.import_module("torch")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not all(map(torch.is_tensor, state.values())):
        raise ValueError("it holds something other than a state dict: names and their tensors.")
    return {name: tensor.float().numpy() for name, tensor in state.items()}
