"""What the tests of training share: phantoms drawn in great variety, and models exported once."""

import multiprocessing
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import keras
import numpy as np
import openvino
import pytest
from keras import layers
from numpy.typing import NDArray

from brainscan.scan import ScanSpecification, read_scan
from tests.conftest import draw_phantom
from tests.conversion import converting_here
from training.processes import Workers, work_here

SHARED = Path(__file__).parents[2] / "../shared"

Scans = tuple[NDArray[np.uint8], NDArray[np.int64]]


@pytest.fixture(scope="module", autouse=True)
def convert_in_this_process() -> Iterator[None]:
    """Spare each bundle a process that loads TensorFlow, which takes seconds."""
    with converting_here():
        yield


@pytest.fixture(scope="module")
def few_pictures() -> Iterator[None]:
    """Let trainings see an eighth of the pictures that they learn to refuse."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.refuse._DRAWN", 98)
        patch.setattr("training.refuse._MONTAGES", 10)
        yield


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Start processes that find TensorFlow loaded, which takes seconds otherwise."""
    # A shell that starts the tests in the background lets them ignore Ctrl-C, which is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training.pipeline"])
    return context


@pytest.fixture(scope="session")
def workers(processes: ForkServerContext) -> Workers[Any, Any]:
    """Make calls in such processes, one after another."""
    return partial(work_here, context=processes)


@pytest.fixture(scope="session")
def draw_phantoms() -> Callable[..., Scans]:
    """Give scans and labels, healthy (0) and tumour (1) by turns: `draw_phantoms(24, size=32)`."""

    def draw(count: int, *, size: int = 32, seed: int = 0) -> Scans:
        random = np.random.default_rng(seed)
        labels = np.arange(count) % 2
        pictures = [draw_phantom(random, size, tumor=bool(label)) for label in labels]
        return np.stack(pictures)[..., np.newaxis], labels

    return draw


@pytest.fixture(scope="session")
def build_lesion_network() -> Callable[[], keras.Model]:
    """Give a function that builds a small network with a lesion map, of scans of 32 pixels."""

    def build() -> keras.Model:
        keras.utils.set_random_seed(6)
        scans = layers.Input((32, 32, 1), name="scans")
        maps = layers.Rescaling(1 / 255)(scans)
        fine = layers.Conv2D(8, 3, 4, "same", activation="relu")(maps)
        deep = layers.Conv2D(16, 3, 2, "same", use_bias=False)(fine)
        deep = layers.ReLU(6.0)(layers.BatchNormalization()(deep))
        wide = layers.Conv2D(8, 1)(layers.UpSampling2D(2, interpolation="bilinear")(deep))
        lesion = layers.Conv2D(1, 1, activation="sigmoid")(layers.Add()([fine, wide]))
        pooled = layers.GlobalAveragePooling2D()(layers.Multiply()([fine, lesion]))
        whole = layers.GlobalAveragePooling2D()(deep)
        vector = layers.Concatenate()([whole, pooled])
        classes = layers.Dense(4, "softmax", name="classes")(vector)
        outputs = {"probabilities": classes, "lesion": layers.Reshape((8, 8))(lesion)}
        return keras.Model(scans, outputs)

    return build


@contextmanager
def full_disk(after: int) -> Iterator[None]:
    """Let no file of this process, or of those it starts, grow beyond that many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def read_real_scans(size: int) -> NDArray[np.uint8]:
    """Prepare a few real scans of each class, none where they are not at hand."""
    files = [
        path
        for folder in sorted(SHARED.glob("data/nickparvar/Testing/*"))
        for path in sorted(folder.glob("*.jpg"))[:4]
    ]
    prepared = [read_scan(path.read_bytes(), ScanSpecification(size)).pixels for path in files]
    return np.array(prepared, np.uint8).reshape(-1, size, size, 1)


def run_graph(folder: Path, scans: NDArray[np.uint8]) -> dict[str, Any]:
    """Run an exported graph in single precision."""
    graph = openvino.Core().compile_model(
        folder / "graph.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    results = graph(scans)
    return {output.any_name: results[output] for output in graph.outputs}
