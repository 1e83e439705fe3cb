"""The default engine: a bundle's graph on the processor, with OpenVINO."""

from pathlib import Path
from queue import LifoQueue
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from brainscan.bundle import Card
from brainscan.bundle.store import GRAPH_FILE, INT8_GRAPH_FILE
from brainscan.engine.base import EngineError, OpenBundle, Outputs, predict_in_steps

# A request for 16 scans would hold the activations of all 16; smaller steps are as fast on a
# processor and keep a worker's memory small.
LARGEST_BATCH = 4

# One computes on all cores while the next is filled. More would only hold more memory.
_REQUESTS = 2

# Of the test scans, above which int8 is not the default: an accuracy can hide changed answers.
MOST_OTHER_ANSWERS = 0.01

_FILES = {"fp16": GRAPH_FILE, "int8": INT8_GRAPH_FILE}
_PROCESSOR = Path("/proc/cpuinfo")
# Without one of these a processor adds products of bytes in 16 bits, which may overflow.
_INT8_INSTRUCTIONS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})


def choose_precision(card: Card, wanted: str) -> str:
    """Give the precision of the graph that is to be served: "fp16" or "int8".

    Args:
        card: the bundle's. It lists an int8 graph only where that was measured to be as accurate
            and faster.
        wanted: "fp16"; "int8", where the bundle has one; or "auto", which is int8 where the
            processor has instructions for it and the two graphs seldom disagree.
    """
    if wanted == "fp16" or card.graphs is None:
        return "fp16"
    seldom = card.graphs.int8.other_answers <= MOST_OTHER_ANSWERS
    return "int8" if wanted == "int8" or (seldom and _has_int8_instructions()) else "fp16"


def _has_int8_instructions() -> bool:
    try:
        text = _PROCESSOR.read_text(encoding="utf-8")
    except OSError:  # not Linux
        return False
    return not _INT8_INSTRUCTIONS.isdisjoint(text.split())


def use_openvino(threads: int, graph: str) -> OpenBundle:
    """Give the function that opens a bundle; see `choose_engine`."""
    return lambda folder, card: OpenVINOEngine(folder, threads, choose_precision(card, graph))


class OpenVINOEngine:
    """A compiled graph and the requests that run it.

    Args:
        folder: the bundle's.
        threads: processor threads for one inference; 0 for one for each core.
        precision: "fp16", or "int8" for the quantized graph of a bundle that has one.

    Raises:
        EngineError: OpenVINO cannot read or compile the graph, or it has no probabilities.
    """

    def __init__(self, folder: Path, threads: int = 0, precision: str = "fp16") -> None:
        self.precision = precision
        file = _FILES[precision]
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            # A thread that is bound to a core waits for it while another core is free.
            "ENABLE_CPU_PINNING": False,
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            self.compiled = openvino.Core().compile_model(folder / file, "CPU", settings)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot run {file}: {error}") from error
        names = {name for output in self.compiled.outputs for name in output.names}
        if "probabilities" not in names:
            raise EngineError(f"{file} has no output named probabilities.")
        self._names = names
        # Those that no thread is using; None stands for one that has not been needed yet.
        self._requests: LifoQueue[Any] = LifoQueue()
        for _ in range(_REQUESTS):
            self._requests.put(None)

    def predict(self, pixels: NDArray[np.uint8]) -> Outputs:
        """Run the graph; see `Engine`."""
        return predict_in_steps(self._infer, pixels, LARGEST_BATCH)

    def _infer(self, pixels: NDArray[np.uint8]) -> Outputs:
        request = self._requests.get()
        try:
            request = request or self.compiled.create_infer_request()
            # Started rather than called: OpenVINO then computes in a thread of its own. Called from
            # one request thread after another, it sets up its workers again for each.
            request.start_async(pixels, share_inputs=True)
            request.wait()
            found = request.results  # in its own memory, which the next inference overwrites
            maps, lesions, features = (
                found[name].copy() if name in self._names else None
                for name in ("heatmap", "lesion", "features")
            )
            return Outputs(found["probabilities"].copy(), maps, lesions, features)
        finally:
            self._requests.put(request)
