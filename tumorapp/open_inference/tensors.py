"""The Open Inference Protocol's tensors: JSON → prepared scans, a model's outputs → JSON.

A model takes one of two inputs: `scans`, arrays that are prepared already, or `image`, whole image
files in base64 that are decoded, cropped and resized here.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from werkzeug.exceptions import BadRequest

from brainscan.bundle import Card
from brainscan.engine import Outputs
from tumorapp.errors import TooManyImagesError, at_most
from tumorapp.inference import NO_HEATMAP, Upload, prepare_upload

SCANS, IMAGE = "scans", "image"
PROBABILITIES, LABEL, HEATMAP = "probabilities", "label", "heatmap"
_BASE64 = {"content_type": "base64"}


@dataclass(frozen=True, eq=False)
class Batch:
    """The scans of one request.

    Attributes:
        pixels: uint8, shape (scans, size, size, 1), 0 to 255.
        warnings: what a reader of the predictions should know.
    """

    pixels: NDArray[np.uint8]
    warnings: tuple[str, ...] = ()


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
        BadRequest: the model gives no output of that name, or one is named twice.
    """
    for name in names:
        if name == HEATMAP and card.feature_layer is None:
            raise BadRequest(f"{NO_HEATMAP} Ask for {PROBABILITIES} or {LABEL}.")
        known = [output["name"] for output in describe_outputs(card)]
        if name not in known:
            raise BadRequest(
                f"There is no output named {name[:100]!r}. {card.name} gives: {', '.join(known)}."
            )
        if names.count(name) > 1:
            raise BadRequest(f"The output {name} is asked for more than once. Name it once.")
    return tuple(names) or (PROBABILITIES, LABEL)


def read_batch(tensor: dict[str, Any], card: Card, max_images: int, max_pixels: int) -> Batch:
    """Read the one input tensor of a request.

    Args:
        tensor: name, shape, datatype, data and perhaps parameters, as the protocol has them.
        card: the model's.
        max_images: how many scans are accepted.
        max_pixels: how many pixels one image may have.

    Raises:
        BadRequest: the tensor is none that the model takes, or its data does not fit its shape.
        TooManyImagesError: there are more scans than accepted.
        UnreadableScanError: an image is no scan; OversizedImageError: it has too many pixels.
    """
    name = _check_tensor(tensor, card)
    count = tensor["shape"][0]
    if count > max_images:
        raise TooManyImagesError(
            f"{count} scans were received; at most {max_images} can be answered at once. Send "
            "them in several requests.",
            [at_most(max_images, "image")],
        )
    values = _flatten(tensor["data"], tensor["shape"])
    if name == SCANS:
        return _read_scans(values, tensor["shape"])
    return _read_images(values, card, max_pixels)


def name_classes(card: Card, outputs: Outputs) -> list[str]:
    """Name the most probable class of each scan."""
    return [card.classes[index] for index in outputs.probabilities.argmax(axis=1)]


def write_outputs(card: Card, outputs: Outputs, names: Sequence[str]) -> list[dict[str, Any]]:
    """Write the outputs of those names, their data flat and row by row."""
    tensors = []
    for name in names:
        if name == LABEL:
            labels = name_classes(card, outputs)
            tensors.append(_write_tensor(LABEL, "BYTES", [len(labels)], labels))
            continue
        values = outputs.heatmaps if name == HEATMAP else outputs.probabilities
        if values is not None:  # choose_outputs() lets only those through that there are
            flat = values.astype(np.float32).ravel().tolist()
            tensors.append(_write_tensor(name, "FP32", list(values.shape), flat))
    return tensors


def _write_tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def _check_tensor(tensor: dict[str, Any], card: Card) -> str:
    inputs = {described["name"]: described for described in describe_inputs(card)}
    name: str = tensor["name"]
    if name not in inputs:
        raise BadRequest(
            f"There is no input named {name[:100]!r}. {card.name} takes {SCANS} (UINT8, prepared "
            f"arrays) or {IMAGE} (BYTES, image files in base64)."
        )
    datatype, shape = inputs[name]["datatype"], inputs[name]["shape"]
    if tensor["datatype"] != datatype:
        raise BadRequest(
            f"The input {name} has datatype {tensor['datatype'][:100]!r}. Accepted: {datatype}."
        )
    found = tensor["shape"]
    fits = found[1:] == shape[1:] or (name == IMAGE and found[1:] == [1])
    if not fits:
        raise BadRequest(
            f"The input {name} has shape {found[:8]}. Accepted: {shape}, where -1 is the number of "
            "scans."
        )
    content_type = (tensor.get("parameters") or {}).get("content_type", "base64")
    if name == IMAGE and content_type != "base64":
        raise BadRequest(
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
                    raise BadRequest(f"The data is not nested as its shape {shape} says.")
                _check_length(row, length, shape)
            values = list(chain.from_iterable(values))
    _check_length(values, int(np.prod(shape, dtype=object)), shape)
    return values


def _check_length(values: list[Any], expected: int, shape: Sequence[int]) -> None:
    if len(values) != expected:
        raise BadRequest(
            f"The data does not fit its shape {shape}: {len(values)} values where {expected} are "
            "expected. Give it flat, row by row, or nested as the shape says."
        )


def _read_scans(values: list[Any], shape: Sequence[int]) -> Batch:
    try:
        pixels = bytes(values)  # refuses whatever is no whole number of 0 to 255
    except (TypeError, ValueError):
        raise BadRequest(
            f"The input {SCANS} holds a value that is no whole number from 0 to 255."
        ) from None
    return Batch(np.frombuffer(pixels, np.uint8).reshape(shape))


def _read_images(values: list[Any], card: Card, max_pixels: int) -> Batch:
    scans, warnings = [], []
    for number, text in enumerate(values, start=1):
        name = f"image {number}"
        scan = prepare_upload(Upload(name, _decode(name, text)), card.scan, max_pixels)
        scans.append(scan.pixels)
        warnings += [f"{name}: {warning}" for warning in scan.warnings]
    return Batch(np.stack(scans), tuple(warnings))


def _decode(name: str, text: object) -> bytes:
    try:
        if isinstance(text, str):
            return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise BadRequest(
        f"{name}: it is not base64. Send the bytes of an image file in standard base64 (A–Z, a–z, "
        "0–9, + and /, padded with =), without line breaks and without a data: prefix."
    )
