"""Two graphs of one network, side by side on labelled scans: how right, how fast, how alike."""

import time

import numpy as np
from numpy.typing import NDArray

from brainscan.engine import Engine
from training.data.split import Part

_TURNS, _SCANS_A_TURN = 40, 10


def measure_accuracy(probabilities: NDArray[np.float32], scans: Part) -> float:
    """Give the share of scans whose most probable class is right, 0 to 1."""
    return float((probabilities.argmax(axis=1) == scans.labels).mean())


def compare_engines(fp16: Engine, int8: Engine, scans: Part) -> dict[str, dict[str, float]]:
    """Measure a graph and its int8 form side by side.

    Returns:
        For "fp16" and "int8" `accuracy` (0 to 1) and `milliseconds` of processor time a scan; for
        "int8" also `other_answers` (share of scans), and the `largest_difference` and
        `mean_difference` of a scan's probabilities.
    """
    engines = {"fp16": fp16, "int8": int8}
    found = {name: one.predict(scans.inputs).probabilities for name, one in engines.items()}
    milliseconds = _time(engines, scans.inputs[:1])
    differences = np.abs(found["fp16"] - found["int8"]).max(axis=1)
    others = found["fp16"].argmax(axis=1) != found["int8"].argmax(axis=1)
    graphs = {
        name: {
            "accuracy": measure_accuracy(found[name], scans),
            "milliseconds": milliseconds[name],
        }
        for name in engines
    }
    graphs["int8"] |= {
        "other_answers": float(others.mean()),
        "largest_difference": float(differences.max()),
        "mean_difference": float(differences.mean()),
    }
    return graphs


def _time(engines: dict[str, Engine], scan: NDArray[np.uint8]) -> dict[str, float]:
    """Milliseconds of processor time a scan, taken in turn; the fastest turn of each counts.

    What else the machine does only ever adds to a turn.
    """
    fastest = dict.fromkeys(engines, float("inf"))
    for _ in range(_TURNS):
        for name, engine in engines.items():
            start = time.process_time()
            for _ in range(_SCANS_A_TURN):
                engine.predict(scan)
            taken = (time.process_time() - start) * 1000 / _SCANS_A_TURN
            fastest[name] = min(fastest[name], taken)
    return fastest
