"""Pretrained weights into a backbone, and what is wrong with a file that does not fit."""

import io
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

import h5py
import keras

from training.models.registry import WeightsError

Shapes = list[tuple[int, ...]]


def load_backbone(
    backbone: keras.Model, application: Callable[..., keras.Model], weights: str | Path
) -> None:
    """Load weights into one of `keras.applications` without its top.

    Args:
        backbone: takes them.
        application: its constructor.
        weights: "imagenet" (Keras downloads them) or a file: `.weights.h5`, `.h5` or `.keras`.

    Raises:
        WeightsError: no network to download from, no such file, or one of another network.
    """
    if weights == "imagenet":
        backbone.set_weights(_download(application).get_weights())
        return
    path = Path(weights)
    try:
        with warnings.catch_warnings():
            # Weights that do not fit raise an error after a hundred of these.
            warnings.filterwarnings("ignore", "Skipping nested container")
            backbone.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise WeightsError(
            f"{path} does not hold weights of {application.__name__} without its top: "
            f"{_find_misfit(backbone, path) or str(error).partition(chr(10))[0]}"
        ) from error


def _download(application: Callable[..., keras.Model]) -> keras.Model:
    with explain_failed_download():
        return application(include_top=False, weights="imagenet", input_shape=(224, 224, 3))


@contextmanager
def explain_failed_download() -> Iterator[None]:
    """Turn what Keras raises without a network into a `WeightsError` that says what to do."""
    try:
        yield
    except Exception as error:  # a failed download is raised as the bare class
        if "URL fetch failure" not in str(error):
            raise
        raise WeightsError(
            f"{error}. Connect this machine, or bring the file that this address names and pass "
            "it with --weights FILE; --weights none starts from random ones."
        ) from error


def _find_misfit(model: keras.Model, path: Path) -> str | None:
    """Say which layer's weights are the first that a file holds in other shapes, if any."""
    try:
        with h5py.File(_open_weights(path)) as file:
            if "layers" in file:
                held = _list_by_path(model, file)
            else:
                held = _list_by_order(file.get("model_weights", file))
            wanted = [(one.name, [w.shape for w in one.weights]) for one in model.layers]
            wanted = [(name, shapes) for name, shapes in wanted if shapes]
            for want, have in zip_longest(wanted, held):
                if want is None:
                    return f"it goes on with layer {have[0]}, {_write(have[1])}."
                if have is None or want[1] != have[1]:
                    found = _write(have[1]) if have and have[1] else "nothing"
                    return f"layer {want[0]} takes {_write(want[1])}, and the file holds {found}."
    except (OSError, KeyError, zipfile.BadZipFile):
        pass  # not an HDF5 file, or not of Keras's making: what Keras said will do
    return None


def _open_weights(path: Path) -> Path | io.BytesIO:
    """Give the HDF5 file of weights: the file itself, or the one inside a `.keras` archive."""
    if path.suffix != ".keras":
        return path
    with zipfile.ZipFile(path) as archive:
        return io.BytesIO(archive.read("model.weights.h5"))


def _list_by_path(model: keras.Model, file: h5py.File) -> Iterator[tuple[str, Shapes]]:
    """Give the shapes that a `.weights.h5` file has for each layer with weights of a model."""
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "own.weights.h5"
        model.save_weights(own)  # which tells the path of each layer in such files
        with h5py.File(own) as ours:
            groups = ours["layers"].items()
            paths = {group["vars"].attrs.get("name"): path for path, group in groups}
    for layer in model.layers:
        if layer.weights:
            group = file.get(f"layers/{paths[layer.name]}/vars", {})
            yield layer.name, [group[key].shape for key in sorted(group, key=int)]


def _list_by_order(group: h5py.Group) -> Iterator[tuple[str, Shapes]]:
    """Give the shapes of each layer with weights in an `.h5` file of Keras's older format."""
    for name in group.attrs["layer_names"]:
        shapes = [group[name][weight].shape for weight in group[name].attrs["weight_names"]]
        if shapes:
            yield str(name), shapes


def _write(shapes: Shapes) -> str:
    return "weights of shape " + ", ".join(map(str, shapes))
