"""What a run trains on; when its memory runs out: smaller steps, the same updates."""

import importlib

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


def choose_precision(wanted: str) -> str:
    """Give the Keras dtype policy that is meant; "auto" is mixed_float16 on a GPU only."""
    if wanted != "auto":
        return wanted
    # A CPU without matrix units trains slower in half precision (measured: docs/decisions.md).
    return "mixed_float16" if count_gpus() else "float32"


def count_gpus() -> int:
    """Count the GPUs that the Keras backend sees."""
    if keras.backend.backend() == "torch":  # which keras.distribution does not cover
        return int(importlib.import_module("torch").cuda.device_count())
    devices = keras.distribution.list_devices()  # the accelerators, or failing any, the CPUs
    return sum(device.lower().startswith(("gpu", "cuda", "rocm")) for device in devices)


def describe_device() -> str:
    """Say in a few words what a run trains on."""
    gpus = count_gpus()
    return f"{gpus} GPU, {keras.backend.backend()}" if gpus else f"CPU, {keras.backend.backend()}"
