"""The Open Inference Protocol's tensors: JSON → prepared scans, a model's outputs → JSON.

A model takes one of two inputs: `scans`, arrays that are prepared already, or `image`, whole image
files in base64 that are decoded, cropped and resized here.
"""

import base64
import binascii
import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from brainscan import Examination, ImageFile, Model, Problem
from brainscan.bundle import Card
from brainscan.reading import Reading
from brainscan.scan import Box, PreparedScan
from tumorapp.uploads import refuse_number

SCANS, IMAGE = "scans", "image"
PROBABILITIES, LABEL, VERDICT = "probabilities", "label", "verdict"
TUMOR_PROBABILITY, UNCERTAIN = "tumor_probability", "uncertain"
HEATMAP, LESION = "heatmap", "lesion"
_BASE64 = {"content_type": "base64"}


def refuse(reason: str) -> Problem:
    """Say what is wrong with a request of the protocol."""
    return Problem("invalid-inference-request", reason=reason)


def describe_inputs(card: Card) -> list[dict[str, Any]]:
    """Describe the tensors of which a model takes one; -1 is any number of scans."""
    size = card.scan.size
    return [
        {"name": SCANS, "datatype": "UINT8", "shape": [-1, size, size, 1]},
        {"name": IMAGE, "datatype": "BYTES", "shape": [-1], "parameters": _BASE64},
    ]


def describe_outputs(card: Card) -> list[dict[str, Any]]:
    """Describe the tensors that a model gives."""
    outputs: list[dict[str, Any]] = [
        {"name": PROBABILITIES, "datatype": "FP32", "shape": [-1, len(card.classes)]},
        {"name": LABEL, "datatype": "BYTES", "shape": [-1]},
        {"name": VERDICT, "datatype": "BYTES", "shape": [-1]},
        {"name": TUMOR_PROBABILITY, "datatype": "FP32", "shape": [-1]},
        {"name": UNCERTAIN, "datatype": "BOOL", "shape": [-1]},
    ]
    if card.has_reliable_map:
        name = LESION if card.has_lesion_map else HEATMAP
        outputs.append({"name": name, "datatype": "FP32", "shape": [-1, -1, -1]})
    return outputs


def choose_outputs(card: Card, names: Sequence[str]) -> tuple[str, ...]:
    """Give the names of the outputs to answer with: those asked for, else what most ask for.

    Raises:
        Problem: the model gives no output of that name, or one is named twice.
    """
    known = [output["name"] for output in describe_outputs(card)]
    for name in names:
        if name not in known:
            raise refuse(
                f"There is no output named {name[:100]!r}. {card.name} gives: {', '.join(known)}."
            )
        if names.count(name) > 1:
            raise refuse(f"The output {name} is asked for more than once. Name it once.")
    return tuple(names) or (PROBABILITIES, LABEL, VERDICT)


def read_batch(
    tensor: dict[str, Any], model: Model, max_images: int, max_pixels: int
) -> list[Reading]:
    """Read the one input tensor of a request.

    Args:
        tensor: name, shape, datatype, data and perhaps parameters, as the protocol has them; its
            data is taken from it.
        model: the one that is asked.
        max_images: how many scans are accepted.
        max_pixels: how many pixels one image may have.

    Raises:
        Problem: the tensor is not one that the model takes, its data does not fit its shape, there
            are more scans than accepted, or an image is not a scan.
    """
    name, shape = tensor["name"], tensor["shape"]
    _check_tensor(tensor, model.card)
    if shape[0] > max_images:
        raise refuse_number(shape[0], max_images)
    values = tensor.pop("data")
    if values and isinstance(values[0], list):  # nested as the shape says
        values = np.array(values, object).ravel().tolist()
    if len(values) != math.prod(shape):
        raise refuse(
            f"The data does not fit its shape {shape}: it has {len(values)} values where "
            f"{math.prod(shape)} are expected. Give them flat, row by row, or nested."
        )
    if name == SCANS:
        return _read_scans(values, shape)
    files = [
        # Each text goes as it is decoded: it takes more memory than its file.
        ImageFile(f"image {number}", _decode(f"image {number}", values.pop(0)))
        for number in range(1, len(values) + 1)
    ]
    return [model.read(file, max_pixels=max_pixels) for file in files]


def write_outputs(found: Sequence[Examination], names: Sequence[str]) -> list[dict[str, Any]]:
    """Write the outputs of those names, their data flat and row by row."""
    return [_write_output(found, name) for name in names]


def _write_output(found: Sequence[Examination], name: str) -> dict[str, Any]:
    datatype, read = _OUTPUTS[name]
    rows = [read(one) for one in found]
    shape = [len(rows)]
    if datatype == "FP32":
        values = np.asarray(rows, np.float32)
        rows, shape = values.ravel().tolist(), list(values.shape)
    return {"name": name, "shape": shape, "datatype": datatype, "data": rows}


_OUTPUTS: dict[str, tuple[str, Callable[[Examination], Any]]] = {
    PROBABILITIES: ("FP32", lambda one: [*one.probabilities.values()]),
    LABEL: ("BYTES", lambda one: one.label),
    VERDICT: ("BYTES", lambda one: one.verdict),
    TUMOR_PROBABILITY: ("FP32", lambda one: one.tumor_probability),
    UNCERTAIN: ("BOOL", lambda one: one.uncertain),
    HEATMAP: ("FP32", lambda one: one.heat),
    LESION: ("FP32", lambda one: one.lesion_map),
}


def _check_tensor(tensor: dict[str, Any], card: Card) -> None:
    inputs = {one["name"]: (one["datatype"], one["shape"]) for one in describe_inputs(card)}
    name = tensor["name"]
    if name not in inputs:
        raise refuse(
            f"There is no input named {name[:100]!r}. {card.name} takes {SCANS} (UINT8, prepared "
            f"arrays) or {IMAGE} (BYTES, image files in base64)."
        )
    datatype, shape = inputs[name]
    if (tensor["datatype"], tensor["shape"][1:]) != (datatype, shape[1:]):
        raise refuse(
            f"The input {name} has the datatype {tensor['datatype'][:100]!r} and the shape "
            f"{tensor['shape']}. Accepted: {datatype} and {shape}, where -1 is the number of scans."
        )


def _read_scans(values: list[Any], shape: Sequence[int]) -> list[Reading]:
    try:
        data = bytes(values)  # refuses what is not a whole number of 0 to 255
    except (TypeError, ValueError):
        raise refuse(
            f"The input {SCANS} has a value that is not a whole number from 0 to 255."
        ) from None
    pixels = np.frombuffer(data, np.uint8).reshape(shape)
    whole = shape[2], shape[1]
    return [
        Reading(
            f"scan {number}",
            PreparedScan(scan, Box(0, 0, *whole), whole),
            sha256=hashlib.sha256(scan.tobytes()).hexdigest(),
        )
        for number, scan in enumerate(pixels, start=1)
    ]


def _decode(name: str, text: object) -> bytes:
    try:
        if isinstance(text, str):
            return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise refuse(
        f"{name}: it is not base64. Send the bytes of an image file in standard base64 (A–Z, a–z, "
        "0–9, + and /, padded with =), without line breaks and without a data: prefix."
    )
