"""What a run trains on."""

import importlib

import keras


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
