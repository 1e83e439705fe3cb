"""What runs a bundle's graph, on OpenVINO or TensorFlow."""

from brainscan.engine.base import (
    Engine,
    EngineError,
    EngineUnavailableError,
    OpenBundle,
    Outputs,
    choose_engine,
)

__all__ = [
    "Engine",
    "EngineError",
    "EngineUnavailableError",
    "OpenBundle",
    "Outputs",
    "choose_engine",
]
