"""A Keras model → an OpenVINO graph. Runs as a process of its own, on TensorFlow.

    python -m training.export MODEL.keras FOLDER

Whatever backend trained the model, the conversion goes through TensorFlow, which OpenVINO reads.
"""

import json
import os
import subprocess
import sys
from pathlib import Path


class ExportError(RuntimeError):
    """A model could not be converted; the message says why, a note all that was said."""


def export_graph(model: Path, folder: Path) -> str | None:
    """Convert a saved model into `graph.xml` and `graph.bin`, in a process of its own.

    Args:
        model: a `.keras` file of scans (batch, size, size, 1) to probabilities.
        folder: takes the graph. Its input is uint8 (batch, size, size, 1); its outputs are
            `probabilities` (batch, classes) and, where there are convolutions, `heatmap`
            (batch, rows, columns), 0 to 1; all float32, their weights stored in half precision.

    Returns:
        The layer that the heat map weighs, or None without convolutions.

    Raises:
        ExportError: the conversion failed.
    """
    told = run_apart("training.export", model.resolve(), folder.resolve())
    layer: str | None = json.loads(told.splitlines()[-1])["feature_layer"]
    return layer


def run_apart(module: str, *arguments: object) -> str:
    """Run a module in a process of its own, in which Keras is on TensorFlow and on the processor.

    Returns:
        What it has printed.

    Raises:
        ExportError: it failed; the message ends in the last line of its standard error.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env={
            **os.environ,
            "KERAS_BACKEND": "tensorflow",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "",
        },
        cwd=Path(__file__).resolve().parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reason = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        error = ExportError(f"The model could not be converted: {reason}")
        error.add_note(done.stderr)  # shown with a traceback, not to who runs a command
        raise error
    return done.stdout


def convert(model: Path, folder: Path) -> str | None:
    """Convert as `export_graph` does, but in this process, where Keras runs on TensorFlow."""
    import keras
    import openvino
    import tensorflow as tf
    from openvino.preprocess import PrePostProcessor

    from brainscan.engine.gradcam import ServedModel

    if sys.version_info >= (3, 13):
        # OpenVINO 2026.4 asks for TensorFlow's version with an exec that fails there (PEP 667).
        from openvino.frontend.tensorflow import utils

        utils.get_environment_setup = lambda _framework: {"tensorflow": tf.__version__}
    served = ServedModel(keras.models.load_model(model, compile=False))
    traced = tf.function(served.__call__).get_concrete_function(served.signature)
    adapted = PrePostProcessor(openvino.convert_model(traced))
    adapted.input().tensor().set_element_type(openvino.Type.u8)
    openvino.save_model(adapted.build(), folder / "graph.xml", compress_to_fp16=True)
    return served.feature_layer


if __name__ == "__main__":
    found = convert(Path(sys.argv[1]), Path(sys.argv[2]))
    print(json.dumps({"feature_layer": found}))  # noqa: T201  export_graph reads it
