"""Copies of a model's layers on one level: what rounding, heat maps and exporting work on."""

from typing import Any

import keras


def call_copies(model: keras.Model, tensor: Any, dtype: str | None = None) -> Any:
    """Call copies of a model's layers, and of those of models within it, on another input.

    One level of layers remains, and each has a name of its own.

    Args:
        model: of one input and one output.
        tensor: symbolic; what the copies are called on.
        dtype: policy of the copies; None keeps that of each layer.

    Returns:
        The symbolic output.
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
        if dtype:
            configuration["dtype"] = dtype
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
