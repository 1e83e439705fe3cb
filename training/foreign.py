"""Keras models that were made elsewhere: read without running any code of theirs, and copied."""

import zipfile
from pathlib import Path
from typing import Any

import keras


class ImportModelError(ValueError):
    """A file cannot be made a bundle; the message says why and what is accepted."""


def load_safely(file: Path) -> keras.Model:
    """Load a Keras model that consists of Keras's own layers; no code of the file is run.

    Raises:
        ImportModelError: the file is not such a model, or holds code.
    """
    try:
        model = keras.saving.load_model(file, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        # Keras goes on with how to run the code all the same.
        reason = " ".join(str(error).split()).partition(" If you trust")[0]
        raise ImportModelError(
            f"Keras cannot load {file.name}: {reason or type(error).__name__} Accepted: a whole "
            "model of Keras's own layers, saved as .keras, .h5 or .hdf5."
        ) from error
    if isinstance(model, keras.Sequential) and model.built:
        model = keras.Model(model.inputs[0], model.outputs[0])
    if not hasattr(model, "inputs") or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ImportModelError(f"{file.name} is not a model of one input and one output.")
    return model


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
