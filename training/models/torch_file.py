"""Tensors by their names from a file of PyTorch before 1.6, without PyTorch."""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.models.registry import WeightsError

_DAMAGE = (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError)


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
