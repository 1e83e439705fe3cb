"""A published model → a file that other programs run, checked to answer as the served one does.

    python -m training.interchange MODEL.keras FORMAT TARGET

Runs as a process of its own, on TensorFlow.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import openvino
from numpy.typing import NDArray

from brainscan.bundle import Card
from brainscan.engine.openvino import OpenVINOEngine
from training.export import ExportError, run_apart

AGREEMENT = 1e-3
_CHECKED = 8


class Format(NamedTuple):
    """How a model is written for other programs.

    Attributes:
        name: Keras's, for `keras.Model.export`.
        ending: of the file; empty for a folder.
    """

    name: str
    ending: str


FORMATS = {
    "onnx": Format("onnx", ".onnx"),
    "tflite": Format("litert", ".tflite"),
    "savedmodel": Format("tf_saved_model", ""),
    "openvino": Format("openvino", ".xml"),
}


def export_model(bundle: Path, card: Card, kind: str, folder: Path) -> tuple[Path, float]:
    """Write a published model in another format, and compare its answers with the served graph's.

    It takes `scans`, float32 (batch, size, size, 1), 0 to 255, and gives `probabilities` (batch,
    classes), of both classes where it has one neuron, and `lesion` (batch, rows, columns) where it
    has a lesion map.

    Args:
        bundle: the version's folder.
        card: its card.
        kind: a key of `FORMATS`.
        folder: takes `NAME-VERSION` with the format's ending; it is made where it is not there.

    Returns:
        The file or folder, and by how much its values differ from the served graph's at most.

    Raises:
        ExportError: the target is there already, the conversion failed, or the answers differ by
            more than 1e-3. Nothing is left behind then.
        OSError: the folder cannot be written.
    """
    wanted = FORMATS[kind]
    target = folder / f"{card.name}-{card.version}{wanted.ending}"
    if target.exists():
        raise ExportError(f"{target} is there already. Remove it, or choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tumorapp-") as name:
        made = Path(name, target.name)
        run_apart("training.interchange", (bundle / "model.keras").resolve(), kind, made)
        difference = _compare(bundle, made, card.scan.size)
        if not difference <= AGREEMENT:  # nor NaN
            raise ExportError(
                f"As {kind}, {card.name} answers otherwise by {difference:.2g}; at most "
                f"{AGREEMENT:g} is accepted. Nothing was written."
            )
        for one in sorted(Path(name).iterdir()):  # OpenVINO's weights lie next to its graph
            shutil.move(one, folder / one.name)
    return target, difference


def _compare(bundle: Path, made: Path, size: int) -> float:
    """Give the largest difference between what a file answers and what the served graph does.

    OpenVINO reads all formats. Not all keep the names of the outputs, but only probabilities have
    two axes and only a lesion map has three.
    """
    # Blurred spots: of plain noise a network is sure, and then an error shows less.
    spots = np.random.default_rng(0).integers(0, 256, (_CHECKED, 4, 4), np.uint8)
    side = (size, size)
    blurred = [cv2.resize(one, side, interpolation=cv2.INTER_CUBIC) for one in spots]
    scans = np.stack(blurred)[..., np.newaxis]
    served = OpenVINOEngine(bundle).predict(scans)
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    found: list[NDArray[np.float32]] = list(
        openvino.Core().compile_model(made, "CPU", exact)(scans.astype(np.float32)).values()
    )
    expected = [served.probabilities, *([] if served.lesions is None else [served.lesions])]
    pairs = zip(expected, sorted(found, key=np.ndim), strict=True)
    return float(np.max([np.abs(one - other).max() for one, other in pairs]))


def convert(model: Path, kind: str, target: Path) -> None:
    """Convert as `export_model` does, but in this process, where Keras runs on TensorFlow."""
    import keras

    network = keras.models.load_model(model, compile=False)
    outputs: dict[str, Any] = (
        dict(network.output)
        if isinstance(network.output, dict)
        else {"probabilities": network.output}
    )
    if outputs["probabilities"].shape[-1] == 1:
        tumor = outputs["probabilities"]
        outputs["probabilities"] = keras.ops.concatenate([1 - tumor, tumor], axis=-1)
    named = keras.Model(network.inputs[0], outputs)
    # Told what it takes, as Keras refuses to write ONNX of a network that has not been called.
    scans = keras.InputSpec(shape=named.inputs[0].shape, dtype="float32", name="scans")
    named.export(str(target), FORMATS[kind].name, verbose=False, input_signature=[scans])


if __name__ == "__main__":
    convert(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
