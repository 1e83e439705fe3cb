"""A published model → a file that other programs run, checked to answer as the served one does.

    python -m training.interchange MODEL.keras FORMAT TARGET

Runs as a process of its own, on TensorFlow.
"""

import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

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
        needs: the packages that write it, next to those of requirements.txt.
    """

    name: str
    ending: str
    needs: tuple[str, ...] = ()


FORMATS = {
    "onnx": Format("onnx", ".onnx", ("onnx", "tf2onnx")),
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
        ExportError: a package is missing, the target is there already, the conversion failed, or
            the answers differ by more than 1e-3. Nothing is left behind then.
        OSError: the folder cannot be written.
    """
    wanted = FORMATS[kind]
    if missing := [name for name in wanted.needs if importlib.util.find_spec(name) is None]:
        raise ExportError(
            f"The format {kind} needs the packages {' and '.join(wanted.needs)} (missing: "
            f"{', '.join(missing)}). Install them: python -m pip install {' '.join(missing)}. "
            f"Formats that need no more packages: "
            f"{', '.join(name for name, one in FORMATS.items() if not one.needs)}."
        )
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
    scans = np.random.default_rng(0).integers(0, 256, (_CHECKED, size, size, 1), np.uint8)
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
    named.export(str(target), format=FORMATS[kind].name, verbose=False)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
