"""The Open Inference Protocol's tensors: JSON → prepared scans, a model's outputs → JSON.

A model takes one of two inputs: `scans`, arrays that are prepared already, or `image`, whole image
files in base64 that are decoded, cropped and resized here.
"""

import base64
import binascii
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from brainscan import Examination, ImageFile, Model, Problem
from brainscan.bundle import Card
from brainscan.examine import Reading
from brainscan.messages import KINDS
from brainscan.scan import Box, PreparedScan
from tumorapp.uploads import refuse_number

SCANS, IMAGE = "scans", "image"
PROBABILITIES, LABEL, HEATMAP = "probabilities", "label", "heatmap"
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
    ]
    if card.feature_layer is not None:
        outputs.append({"name": HEATMAP, "datatype": "FP32", "shape": [-1, -1, -1]})
    return outputs


def choose_outputs(card: Card, names: Sequence[str]) -> tuple[str, ...]:
    """Give the names of the outputs to answer with: those asked for, else all but the heat map.

    Raises:
        Problem: the model gives no output of that name, or one is named twice.
    """
    for name in names:
        if name == HEATMAP and card.feature_layer is None:
            raise refuse(f"{KINDS['no-heatmap'].text} Ask for {PROBABILITIES} or {LABEL}.")
        known = [output["name"] for output in describe_outputs(card)]
        if name not in known:
            raise refuse(
                f"There is no output named {name[:100]!r}. {card.name} gives: {', '.join(known)}."
            )
        if names.count(name) > 1:
            raise refuse(f"The output {name} is asked for more than once. Name it once.")
    return tuple(names) or (PROBABILITIES, LABEL)


def read_batch(
    tensor: dict[str, Any], model: Model, max_images: int, max_pixels: int
) -> list[Reading]:
    """Read the one input tensor of a request.

    Args:
        tensor: name, shape, datatype, data and perhaps parameters, as the protocol has them.
        model: the one that is asked.
        max_images: how many scans are accepted.
        max_pixels: how many pixels one image may have.

    Raises:
        Problem: the tensor is not one that the model takes, its data does not fit its shape, there
            are more scans than accepted, or an image is not a scan.
    """
    name = _check_tensor(tensor, model.card)
    count = tensor["shape"][0]
    if count > max_images:
        raise refuse_number(count, max_images)
    values = _flatten(tensor["data"], tensor["shape"])
    if name == SCANS:
        return _read_scans(values, tensor["shape"])
    files = [
        ImageFile(name, _decode(name, text))
        for name, text in zip(_name_all("image", len(values)), values, strict=True)
    ]
    return [model.read(file, max_pixels=max_pixels) for file in files]


def write_outputs(found: Sequence[Examination], names: Sequence[str]) -> list[dict[str, Any]]:
    """Write the outputs of those names, their data flat and row by row."""
    tensors = []
    for name in names:
        if name == LABEL:
            labels = [one.label for one in found]
            tensors.append(_write_tensor(LABEL, "BYTES", [len(labels)], labels))
            continue
        rows = [one.heat if name == HEATMAP else list(one.probabilities.values()) for one in found]
        values = np.stack([np.asarray(row, np.float32) for row in rows])
        tensors.append(_write_tensor(name, "FP32", list(values.shape), values.ravel().tolist()))
    return tensors


def _write_tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def _check_tensor(tensor: dict[str, Any], card: Card) -> str:
    inputs = {described["name"]: described for described in describe_inputs(card)}
    name: str = tensor["name"]
    if name not in inputs:
        raise refuse(
            f"There is no input named {name[:100]!r}. {card.name} takes {SCANS} (UINT8, prepared "
            f"arrays) or {IMAGE} (BYTES, image files in base64)."
        )
    datatype, shape = inputs[name]["datatype"], inputs[name]["shape"]
    if tensor["datatype"] != datatype:
        raise refuse(
            f"The input {name} has datatype {tensor['datatype'][:100]!r}. Accepted: {datatype}."
        )
    found = tensor["shape"]
    fits = found[1:] == shape[1:] or (name == IMAGE and found[1:] == [1])
    if not fits:
        raise refuse(
            f"The input {name} has shape {found[:8]}. Accepted: {shape}, where -1 is the number of "
            "scans."
        )
    content_type = (tensor.get("parameters") or {}).get("content_type", "base64")
    if name == IMAGE and content_type != "base64":
        raise refuse(
            f"The input {IMAGE} has content_type {str(content_type)[:100]!r}. Accepted: base64."
        )
    return name


def _flatten(data: list[Any], shape: Sequence[int]) -> list[Any]:
    """Give a tensor's values row by row; data may be nested as its shape says, or flat already."""
    values = data
    if data and isinstance(data[0], list):
        _check_length(data, shape[0], shape)
        for length in shape[1:]:
            for row in values:
                if not isinstance(row, list):
                    raise refuse(f"The data is not nested as its shape {shape} says.")
                _check_length(row, length, shape)
            values = list(chain.from_iterable(values))
    _check_length(values, int(np.prod(shape, dtype=object)), shape)
    return values


def _check_length(values: list[Any], expected: int, shape: Sequence[int]) -> None:
    if len(values) != expected:
        raise refuse(
            f"The data does not fit its shape {shape}: {len(values)} values where {expected} are "
            "expected. Give it flat, row by row, or nested as the shape says."
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
        Reading(name, PreparedScan(scan, Box(0, 0, *whole), whole))
        for name, scan in zip(_name_all("scan", len(pixels)), pixels, strict=True)
    ]


def _name_all(kind: str, count: int) -> list[str]:
    return [f"{kind} {number}" for number in range(1, count + 1)]


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
