"""What runs a bundle's graph, on the runtime that the settings name."""

from collections.abc import Callable
from pathlib import Path

from training.bundle import Card
from tumorapp.engine.base import Engine, EngineError, Outputs
from tumorapp.errors import ConfigurationError

__all__ = ["Engine", "EngineError", "Outputs", "choose_engine"]


def choose_engine(name: str, threads: int, graph: str = "auto") -> Callable[[Path, Card], Engine]:
    """Give the function that opens a bundle's folder on the engine of that name.

    The engine's runtime is imported here, so that nothing else waits for it.

    Args:
        name: openvino or tensorflow.
        threads: processor threads for one inference; 0 for one for each core.
        graph: auto, fp16 or int8; see `tumorapp.engine.openvino.choose_precision`.

    Raises:
        ConfigurationError: the engine's packages are not installed.
    """
    if name == "tensorflow":
        try:
            from tumorapp.engine.tensorflow import TensorFlowEngine, use_threads
        except ImportError as error:
            raise ConfigurationError(
                f"The engine tensorflow cannot be used: {error}. Install requirements.txt, or set "
                "TUMORAPP_ENGINE=openvino."
            ) from error
        use_threads(threads)
        return TensorFlowEngine
    from tumorapp.engine.openvino import OpenVINOEngine, choose_precision

    return lambda folder, card: OpenVINOEngine(folder, threads, choose_precision(card, graph))
