"""Keras models that were made elsewhere: read without running any code of theirs, and copied."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras

_FILES = (".keras", ".h5", ".hdf5")
_WITH_CODE = frozenset({"Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer"})


class ImportModelError(ValueError):
    """A file cannot be made a bundle; the message says why and what is accepted."""


def load_safely(file: Path) -> keras.Model:
    """Load a Keras model that consists of Keras's own layers; no code of the file is run.

    Raises:
        ImportModelError: it is none, or holds code.
    """
    for one in _walk(_read_configuration(file)):
        kind, module = one.get("class_name"), one.get("module") or "keras"
        if kind in _WITH_CODE or not isinstance(module, str):
            raise ImportModelError(
                f"{file.name} holds a {kind} layer, which is code that would be run here. Replace "
                "it with Keras's own layers and save the model again."
            )
        if module != "builtins" and module.partition(".")[0] != "keras":
            raise ImportModelError(
                f"{file.name} needs {module}.{kind}, which is not part of Keras. Only Keras's own "
                "layers are accepted."
            )
    try:
        model = keras.saving.load_model(file, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ImportModelError(f"Keras cannot load {file.name}: {reason}") from error
    if isinstance(model, keras.Sequential) and model.built:
        model = keras.Model(model.inputs[0], model.outputs[0])
    if not hasattr(model, "inputs") or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ImportModelError(f"{file.name} is no model of one input and one output.")
    return model


def _read_configuration(file: Path) -> Any:
    """Read what a file says of its layers; raises ImportModelError where there is nothing."""
    accepted = f"Accepted: a whole model that Keras saved as {' or '.join(_FILES)}."
    if file.suffix not in _FILES:
        raise ImportModelError(f"{file.name} has another ending. {accepted}")
    try:
        if file.suffix == ".keras":
            with zipfile.ZipFile(file) as archive:
                return json.loads(archive.read("config.json"))
        with h5py.File(file, "r") as stored:
            if "model_config" not in stored.attrs:
                raise ImportModelError(f"{file.name} holds weights and no layers. {accepted}")
            return json.loads(stored.attrs["model_config"])
    except (OSError, KeyError, zipfile.BadZipFile, ValueError) as error:
        if isinstance(error, ImportModelError):
            raise
        raise ImportModelError(f"{file.name} cannot be read: {error}. {accepted}") from error


def _walk(configuration: Any) -> Iterator[dict[str, Any]]:
    """Give everything in a configuration that names a class."""
    waiting = [configuration]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if "class_name" in one:
                yield one
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def call_copies(model: keras.Model, tensor: Any) -> Any:
    """Call copies of a model's layers, and of those of models within it, on another input.

    So one level of layers remains, which is what rounding and heat maps work on; each has a name
    of its own.
    """
    copies: dict[int, keras.Layer] = {}
    names: set[str] = set()

    def copy(layer: keras.Layer) -> keras.Layer:
        configuration = layer.get_config()
        name = layer.name
        while name in names:
            name += "_"
        names.add(name)
        configuration["name"] = name
        if layer.compute_dtype in {"float16", "bfloat16"}:
            configuration["dtype"] = "float32"
        return type(layer).from_config(configuration)

    def call(operation: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(operation, keras.Model):
            return apply(operation, arguments[0])
        if not isinstance(operation, keras.Layer):
            return operation(*arguments, **options)
        if id(operation) in copies:
            return copies[id(operation)](*arguments, **options)
        copies[id(operation)] = one = copy(operation)
        result = one(*arguments, **options)
        one.set_weights(operation.get_weights())
        return result

    def apply(model: keras.Model, tensor: Any) -> Any:
        graph = keras.Model(model.inputs[0], model.outputs[0])  # of a Sequential too
        return graph._run_through_graph([tensor], lambda operation: operation, call)

    return apply(model, tensor)
