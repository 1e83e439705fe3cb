"""The default engine: a bundle's graph on the processor, with OpenVINO."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from queue import LifoQueue
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from brainscan.bundle import Card
from brainscan.bundle.store import GRAPH_FILE, INT8_GRAPH_FILE
from brainscan.engine.base import EngineError, OpenBundle, Outputs, join

# Each of four takes a fifth less time than alone; more would only hold more memory.
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


class _Graph:
    """A graph that is compiled for batches of one size, and the requests that run it.

    OpenVINO would set up again one that takes any size, whenever the size changes.
    """

    def __init__(self, graph: Any, batch: int, threads: int, at_once: int) -> None:
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": at_once,
            # A thread that is bound to a core waits for it while another core is free.
            "ENABLE_CPU_PINNING": False,
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        graph = graph.clone()
        graph.reshape([batch, *list(graph.inputs[0].partial_shape)[1:]])
        self.compiled = openvino.compile_model(graph, "CPU", settings)
        self.names = {name for output in self.compiled.outputs for name in output.names}
        # Those that no thread is using; None stands for one that has not been needed yet.
        self._requests: LifoQueue[Any] = LifoQueue()
        for _ in range(at_once):
            self._requests.put(None)

    def infer(self, pixels: NDArray[np.uint8]) -> Outputs:
        request = self._requests.get()
        try:
            request = request or self.compiled.create_infer_request()
            # Started rather than called: OpenVINO then computes in a thread of its own. Called from
            # one request thread after another, it sets up its workers again for each.
            request.start_async(pixels, share_inputs=True)
            request.wait()
            found = request.results  # in its own memory, which the next inference overwrites
            maps, lesions, features = (
                found[name].copy() if name in self.names else None
                for name in ("heatmap", "lesion", "features")
            )
            return Outputs(found["probabilities"].copy(), maps, lesions, features)
        finally:
            self._requests.put(request)


class OpenVINOEngine:
    """A bundle's graph, compiled for what it has to do.

    A scan that comes alone has all processor threads. Scans that come together have one each, which
    takes less processor time in all.

    Args:
        folder: the bundle's.
        threads: processor threads; 0 for one for each core.
        precision: "fp16", or "int8" for the quantized graph of a bundle that has one.

    Raises:
        EngineError: OpenVINO cannot read or compile the graph, or it has no probabilities.
    """

    def __init__(self, folder: Path, threads: int = 0, precision: str = "fp16") -> None:
        self.precision = precision
        file = folder / _FILES[precision]
        try:
            self._graph = openvino.Core().read_model(file)
            self._alone = _Graph(self._graph, 1, threads, 1)
            self.threads: int = self._alone.compiled.get_property("INFERENCE_NUM_THREADS")
            self._each = self._compile(1) if self.threads > 1 else self._alone
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot run {file.name}: {error}") from error
        if "probabilities" not in self._alone.names:
            raise EngineError(f"{file.name} has no output named probabilities.")
        self._workers = ThreadPoolExecutor(self.threads, "inference")
        self._callers, self._lock = 0, threading.Lock()

    def _compile(self, batch: int) -> _Graph:
        return _Graph(self._graph, batch, self.threads, self.threads)

    @cached_property
    def _batches(self) -> _Graph:  # not needed by a service that gets single scans
        return self._compile(BATCH)

    def predict(self, pixels: NDArray[np.uint8]) -> Outputs:
        """Run the graph; see `Engine`."""
        with self._lock:
            self._callers += 1
            is_alone = self._callers == 1
        try:
            if len(pixels) == 1:
                return (self._alone if is_alone else self._each).infer(pixels)
            return self._infer_many(pixels)
        finally:
            with self._lock:
                self._callers -= 1

    def _infer_many(self, pixels: NDArray[np.uint8]) -> Outputs:
        """Run the graph on batches and, one by one, on what remains; all threads take part."""
        whole = len(pixels) - len(pixels) % BATCH
        parts = [pixels[start : start + BATCH] for start in range(0, whole, BATCH)]
        parts += [pixels[start : start + 1] for start in range(whole, len(pixels))]
        graphs = [self._batches if len(part) == BATCH else self._each for part in parts]
        return join(list(self._workers.map(_Graph.infer, graphs, parts)))
