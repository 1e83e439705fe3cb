"""The engine that can use a GPU: a bundle's `model.keras` with TensorFlow.

It needs a training framework, as `brainscan.engine.gradcam` does; nothing else of `brainscan` does.
It is imported only where this engine is asked for.
"""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Both are read when the packages below are imported; a worker shares its GPU with others.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

import keras
import tensorflow as tf

from brainscan.bundle import Card
from brainscan.bundle.manifest import read_manifest
from brainscan.engine.base import EngineError, OpenBundle, Outputs, predict_in_steps
from brainscan.engine.gradcam import ServedModel

# A newer GPU would round every product to 10 bits, and answer otherwise than the other engines.
tf.config.experimental.enable_tensor_float_32_execution(False)

MODEL_FILE = "model.keras"
LARGEST_BATCH = 64  # keeps a GPU busy


def use_tensorflow(threads: int, _graph: str) -> OpenBundle:
    """Give the function that opens a bundle; 0 threads leave the choice to TensorFlow."""
    if threads != tf.config.threading.get_intra_op_parallelism_threads():
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    return TensorFlowEngine


class TensorFlowEngine:
    """A Keras model, traced once.

    Args:
        folder: the bundle's.
        card: the bundle's.

    Raises:
        EngineError: the bundle holds no Keras model, or one that cannot be loaded.
    """

    precision = "keras"

    def __init__(self, folder: Path, card: Card) -> None:
        if MODEL_FILE not in read_manifest(folder):
            raise EngineError(f"It holds no {MODEL_FILE}; the engine openvino can serve it.")
        try:
            model = keras.models.load_model(folder / MODEL_FILE, compile=False, safe_mode=True)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise EngineError(f"Keras cannot load {MODEL_FILE}: {error}") from error
        served = ServedModel(model)
        self._run = tf.function(served.__call__, input_signature=[served.signature])

    def predict(self, pixels: NDArray[np.uint8]) -> Outputs:
        """Run the model; see `Engine`."""
        return predict_in_steps(self._infer, pixels, LARGEST_BATCH)

    def _infer(self, pixels: NDArray[np.uint8]) -> Outputs:
        found = self._run(tf.constant(pixels, tf.float32))
        maps, lesions, features = (
            found[name].numpy() if name in found else None
            for name in ("heatmap", "lesion", "features")
        )
        return Outputs(found["probabilities"].numpy(), maps, lesions, features)
