"""Two graphs of one network, side by side on labelled scans: how right, how fast, how alike."""

import time

import numpy as np
from numpy.typing import NDArray

from brainscan.bundle import GraphFigures, Graphs, Int8Figures
from brainscan.engine import Engine
from training.data.split import Part

_TURNS, _SCANS_A_TURN = 40, 10


def measure_accuracy(probabilities: NDArray[np.float32], scans: Part) -> float:
    """Give the share of scans whose most probable class is right, 0 to 1."""
    return float((probabilities.argmax(axis=1) == scans.labels).mean())


def compare_engines(fp16: Engine, int8: Engine, scans: Part) -> Graphs:
    """Measure a graph and its int8 form side by side."""
    engines = {"fp16": fp16, "int8": int8}
    before, after = (one.predict(scans.inputs).probabilities for one in engines.values())
    milliseconds = _time(engines, scans.inputs[:1])
    differences = np.abs(before - after).max(axis=1)
    others = before.argmax(axis=1) != after.argmax(axis=1)
    return Graphs(
        GraphFigures(measure_accuracy(before, scans), milliseconds["fp16"]),
        Int8Figures(
            measure_accuracy(after, scans),
            milliseconds["int8"],
            other_answers=float(others.mean()),
            largest_difference=float(differences.max()),
            mean_difference=float(differences.mean()),
        ),
    )


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
