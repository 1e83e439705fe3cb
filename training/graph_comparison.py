"""Two graphs of one network, side by side on labelled scans: how right, how fast, how alike."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from brainscan.bundle import GraphFigures, Graphs, Int8Figures

_TURNS, _SCANS_A_TURN = 40, 10

Scans = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class LabelledScans:
    """Scans as a model takes them: uint8, shape (scans, size, size, 1), and int64 labels."""

    pixels: Scans
    labels: NDArray[np.int64]

    def measure(self, probabilities: NDArray[np.float32]) -> float:
        """Give the share of these scans whose most probable class is right, 0 to 1."""
        return float((probabilities.argmax(axis=1) == self.labels).mean())


def compare_graphs(path: Path, int8: Any, scans: LabelledScans) -> Graphs:
    """Measure a graph and its int8 form side by side."""
    compiled = {"fp16": compile_graph(path), "int8": compile_graph(int8)}
    outputs = {name: run_graph(one, scans.pixels) for name, one in compiled.items()}
    milliseconds = _time_graphs(compiled, scans.pixels)
    (before, heat_before), (after, heat_after) = outputs["fp16"], outputs["int8"]
    differences = np.abs(before - after).max(axis=1)
    same = before.argmax(axis=1) == after.argmax(axis=1)
    correlation = None
    if heat_before is not None and heat_after is not None and same.any():
        correlation = _correlate(heat_before[same], heat_after[same])
    return Graphs(
        GraphFigures(scans.measure(before), milliseconds["fp16"]),
        Int8Figures(
            scans.measure(after),
            milliseconds["int8"],
            other_answers=float(1 - same.mean()),
            largest_difference=float(differences.max()),
            mean_difference=float(differences.mean()),
            heatmap_correlation=correlation,
        ),
    )


def _correlate(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Give the median over scans of the correlation of two heat maps."""
    pairs = [(a.ravel(), b.ravel()) for a, b in zip(first, second, strict=True)]
    varied = [(a, b) for a, b in pairs if a.std() > 0 and b.std() > 0]
    return float(np.median([np.corrcoef(a, b)[0, 1] for a, b in varied])) if varied else 0.0


def compile_graph(graph: Any) -> Any:
    """Compile a graph, or the file of one, as it is served, on one thread."""
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": 1,
    }
    return openvino.Core().compile_model(graph, "CPU", settings)


def run_graph(
    compiled: Any, pixels: Scans
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Give the probabilities and heat maps of scans, a few at once."""
    probabilities, heatmaps = [], []
    for start in range(0, len(pixels), 8):
        found = compiled(pixels[start : start + 8])
        probabilities.append(found["probabilities"])
        if len(compiled.outputs) > 1:
            heatmaps.append(found["heatmap"])
    return np.concatenate(probabilities), np.concatenate(heatmaps) if heatmaps else None


def _time_graphs(compiled: dict[str, Any], pixels: Scans) -> dict[str, float]:
    """Milliseconds of processor time a scan, taken in turn; the fastest turn of each counts.

    What else the machine does only ever adds to a turn.
    """
    requests = {name: one.create_infer_request() for name, one in compiled.items()}
    fastest = dict.fromkeys(compiled, float("inf"))
    for _ in range(_TURNS):
        for name, request in requests.items():
            start = time.process_time()
            for _ in range(_SCANS_A_TURN):
                request.infer(pixels[:1])
            taken = (time.process_time() - start) * 1000 / _SCANS_A_TURN
            fastest[name] = min(fastest[name], taken)
    return fastest
