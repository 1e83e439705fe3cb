"""The default engine: a bundle's graph on the processor, with OpenVINO."""

from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from training.bundle.store import GRAPH_FILE
from tumorapp.engine import EngineError, Outputs, predict_in_steps

# A request for 16 scans would hold the activations of all 16; smaller steps are as fast on a
# processor and keep a worker's memory small.
LARGEST_BATCH = 4


class OpenVINOEngine:
    """A compiled graph and the requests that run it.

    Args:
        folder: the bundle's.
        threads: processor threads for one inference; 0 for one for each core.

    Raises:
        EngineError: OpenVINO cannot read or compile the graph, or it has no probabilities.
    """

    def __init__(self, folder: Path, threads: int = 0) -> None:
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            # A thread that is bound to a core waits for it while another core is free.
            "ENABLE_CPU_PINNING": False,
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            self.compiled = openvino.Core().compile_model(folder / GRAPH_FILE, "CPU", settings)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot run {GRAPH_FILE}: {error}") from error
        names = {name for output in self.compiled.outputs for name in output.names}
        if "probabilities" not in names:
            raise EngineError(f"{GRAPH_FILE} has no output named probabilities.")
        self._has_heatmap = "heatmap" in names
        # Requests that no thread is using: a request serves one thread at a time. There are as
        # many as there ever were inferences at once.
        self._idle: deque[Any] = deque()

    def predict(self, pixels: NDArray[np.uint8]) -> Outputs:
        """Run the graph; see `Engine`."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self.compiled.create_infer_request()
        try:
            return predict_in_steps(partial(self._infer, request), pixels, LARGEST_BATCH)
        finally:
            self._idle.append(request)

    def _infer(self, request: Any, pixels: NDArray[np.uint8]) -> Outputs:
        # Started rather than called: OpenVINO then computes in a thread of its own. Called from one
        # request thread after another, it sets up its workers anew for each.
        request.start_async(pixels, share_inputs=True)
        request.wait()
        found = request.results  # in the request's own memory, which its next inference overwrites
        return Outputs(
            found["probabilities"].copy(), found["heatmap"].copy() if self._has_heatmap else None
        )
