"""The default engine: a bundle's graph on the processor, with OpenVINO."""

from functools import partial
from pathlib import Path
from queue import LifoQueue
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from brainscan.bundle import Card
from brainscan.bundle.store import GRAPH_FILE, INT8_GRAPH_FILE
from brainscan.engine.base import EngineError, OpenBundle, Outputs
from brainscan.engine.batcher import Batcher

# A scan of four takes a fifth less than one alone; more would only hold more memory.
BATCH = 4

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
    """A graph, compiled for one scan on all processor threads, and for batches on one each.

    The first is fastest; the second takes least processor time.

    Args:
        folder: the bundle's.
        threads: processor threads; 0 for one for each core.
        precision: "fp16", or "int8" for the quantized graph of a bundle that has one.

    Raises:
        EngineError: OpenVINO cannot read or compile the graph, or it has no probabilities.
    """

    def __init__(self, folder: Path, threads: int = 0, precision: str = "fp16") -> None:
        self.precision = precision
        file = _FILES[precision]
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",
            # A thread that is bound to a core waits for it while another core is free.
            "ENABLE_CPU_PINNING": False,
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            graph = openvino.Core().read_model(folder / file)
            _, *shape = graph.inputs[0].partial_shape
            # Each of one shape: where the size of its batches changes, a graph is set up again.
            graph.reshape([1, *shape])
            settings["PERFORMANCE_HINT"] = "LATENCY"
            self.compiled = openvino.compile_model(graph, "CPU", settings)
            threads = self.compiled.get_property("INFERENCE_NUM_THREADS")
            settings |= {"NUM_STREAMS": threads, "INFERENCE_NUM_THREADS": threads}
            graph.reshape([BATCH, *shape])
            self._many = openvino.compile_model(graph, "CPU", settings)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot run {file}: {error}") from error
        names = {name for output in self.compiled.outputs for name in output.names}
        if "probabilities" not in names:
            raise EngineError(f"{file} has no output named probabilities.")
        self._names = names
        # Those that no thread is using; None stands for one that has not been needed yet.
        self._requests: LifoQueue[Any] = LifoQueue()
        for _ in range(threads):
            self._requests.put(None)
        alone = self.compiled.create_infer_request()
        self._batcher = Batcher(partial(self._infer, alone), self._infer_batch, BATCH, threads)

    def predict(self, pixels: NDArray[np.uint8]) -> Outputs:
        """Run the graph; see `Engine`."""
        return self._batcher.predict(pixels)

    def _infer_batch(self, pixels: NDArray[np.uint8]) -> Outputs:
        request = self._requests.get()
        try:
            request = request or self._many.create_infer_request()
            return self._infer(request, pixels)
        finally:
            self._requests.put(request)

    def _infer(self, request: Any, pixels: NDArray[np.uint8]) -> Outputs:
        # Started rather than called: OpenVINO then computes in a thread of its own. Called from one
        # request thread after another, it sets up its workers again for each.
        request.start_async(pixels, share_inputs=True)
        request.wait()
        found = request.results  # in its own memory, which the next inference overwrites
        maps, lesions, features = (
            found[name].copy() if name in self._names else None
            for name in ("heatmap", "lesion", "features")
        )
        return Outputs(found["probabilities"].copy(), maps, lesions, features)
