"""What to do when the device runs out of memory: smaller steps, and the same updates."""

import keras


class DeviceMemoryError(RuntimeError):
    """The device cannot hold even a single scan a step; the message says what to change."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error of TensorFlow, PyTorch, JAX or Python itself says: no memory left.

    It goes by the names of the classes, so that no framework is loaded to ask.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"MemoryError", "ResourceExhaustedError", "OutOfMemoryError"}:
        return True
    message = str(error)  # JAX's error has one class for everything, PyTorch's on a CPU too
    return "RESOURCE_EXHAUSTED" in message or "can't allocate memory" in message


def accumulate_gradients(model: keras.Model, steps: int) -> None:
    """Let a compiled model update its weights once in so many steps, by their mean gradient.

    The learning rate, the momenta, the moving average of the weights and the count of updates go
    on as they are. Keras moves that average on at every step, so its momentum becomes the root
    that makes `steps` of them one of before. Gradients of an update not yet made are dropped.

    Args:
        model: compiled with an optimizer, which may have been used or not.
        steps: 1 or more.
    """
    held = {one.path: keras.ops.convert_to_numpy(one) for one in model.optimizer.variables}
    configuration = model.get_compile_config()
    optimizer = configuration["optimizer"]["config"]
    if "inner_optimizer" in optimizer:  # mixed precision scales the loss around it
        optimizer = optimizer["inner_optimizer"]["config"]
    before = optimizer["gradient_accumulation_steps"] or 1
    if before == steps:
        return
    optimizer["gradient_accumulation_steps"] = steps
    optimizer["ema_momentum"] **= before / steps
    model.compile_from_config(configuration)
    for variable in model.optimizer.variables:
        if variable.path.endswith("/iteration"):  # counts steps, not updates
            variable.assign(held[variable.path] // before * steps)
        elif variable.path in held and not variable.path.endswith("gradient_accumulator"):
            variable.assign(held[variable.path])
