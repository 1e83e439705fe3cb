"""What the tests of training share: phantoms drawn in great variety, and models exported once."""

import functools
import multiprocessing
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import openvino
import pytest
from keras import layers
from numpy.typing import NDArray

from brainscan.scan import ScanSpecification, read_scan
from tests.conversion import converting_here
from training.compress import round_weights
from training.export import convert
from training.models import architecture

SHARED = Path(__file__).parents[2] / "../shared"
WEIGHTS = {"mobilenet-v2": SHARED / "weights/mobilenetv2_1.0_224_notop.weights.h5"}

Scans = tuple[NDArray[np.uint8], NDArray[np.int64]]


def draw_phantom(random: np.random.Generator, side: int, *, tumor: bool) -> NDArray[np.uint8]:
    """Draw a head, no two alike, with a bright blob in it or without: uint8, (side, side)."""
    across, down = np.meshgrid(*[np.linspace(-1, 1, side)] * 2)
    turn = random.uniform(-0.4, 0.4)
    x = (across * np.cos(turn) + down * np.sin(turn) - random.uniform(-0.08, 0.08)) / (
        random.uniform(0.62, 0.8)
    )
    y = (down * np.cos(turn) - across * np.sin(turn) - random.uniform(-0.08, 0.08)) / (
        random.uniform(0.72, 0.9)
    )
    radius = np.hypot(x, y)
    tissue = cv2.resize(random.normal(size=(7, 7)), (side, side), interpolation=cv2.INTER_CUBIC)
    picture = np.where(radius < 1, 90 + 22 * tissue, 2)
    picture[(radius > 0.88) & (radius < 1)] = 170
    if tumor:
        angle, distance = random.uniform(0, 2 * np.pi), random.uniform(0.2, 0.55)
        blob = np.hypot(x - distance * np.cos(angle), y - distance * np.sin(angle))
        picture[blob < random.uniform(0.18, 0.28)] = 250
    return np.clip(picture, 0, 255).astype(np.uint8)


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
def draw_phantoms() -> Callable[..., Scans]:
    """Give scans and labels, healthy (0) and tumour (1) by turns: `draw_phantoms(24, size=32)`."""

    def draw(count: int, *, size: int = 32, seed: int = 0) -> Scans:
        random = np.random.default_rng(seed)
        labels = np.arange(count) % 2
        pictures = [draw_phantom(random, size, tumor=bool(label)) for label in labels]
        return np.stack(pictures)[..., np.newaxis], labels

    return draw


@pytest.fixture(scope="session")
def grow_tree() -> Callable[..., Path]:
    """Fill folders with phantoms: `grow_tree(root, {"yes": 20, "no": 20}, seed=0)`.

    Heads in a folder named `no…` or `Healthy` are healthy, those in any other have a blob.
    """

    def grow(root: Path, folders: dict[str, int], *, seed: int = 0) -> Path:
        random = np.random.default_rng(seed)
        for folder, count in folders.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            tumor = not Path(folder).name.lower().startswith(("no", "healthy"))
            for number in range(count):
                picture = draw_phantom(random, 64, tumor=tumor)
                cv2.imwrite(str(root / folder / f"{number}.png"), picture)
        return root

    return grow


@pytest.fixture(scope="session")
def phantom_tree(tmp_path_factory: pytest.TempPathFactory, grow_tree: Callable[..., Path]) -> Path:
    """Forty heads in `Healthy` and `Brain Tumor`, for tests that leave it as it is."""
    root = tmp_path_factory.mktemp("data") / "phantoms"
    return grow_tree(root, {"Healthy": 20, "Brain Tumor": 20})


@dataclass(frozen=True, eq=False)
class Exported:
    """A model with rounded weights, and what its graph says of some scans.

    Attributes:
        before: the model's outputs before its weights were rounded.
        after: its outputs since.
        model: the model.
        folder: holds `model.keras` and the graph.
        feature_layer: what the export named.
        scans: uint8, shape (scans, size, size, 1).
        outputs: `probabilities` and `heatmap` of the graph for these scans.
    """

    before: NDArray[np.float32]
    after: NDArray[np.float32]
    model: keras.Model
    folder: Path
    feature_layer: str | None
    scans: NDArray[np.uint8]
    outputs: dict[str, NDArray[np.float32]]


@pytest.fixture(scope="session")
def exported(
    tmp_path_factory: pytest.TempPathFactory, draw_phantoms: Callable[..., Scans]
) -> Callable[[str], Exported]:
    """Export an architecture, once for all tests: `exported("mobilenet-v2")`."""

    @functools.cache
    def export(name: str) -> Exported:
        entry = architecture(name)
        scans = np.concatenate([draw_phantoms(6, size=entry.size)[0], read_real_scans(entry.size)])
        model = build_model(name)
        before = np.asarray(model(scans))
        round_weights(model)
        folder = tmp_path_factory.mktemp(name)
        model.save(folder / "model.keras")
        layer = convert(folder / "model.keras", folder)
        after = np.asarray(model(scans))
        return Exported(before, after, model, folder, layer, scans, run_graph(folder, scans))

    return export


def build_model(name: str) -> keras.Model:
    """Build an architecture with pretrained weights where they are, else with random ones."""
    entry = architecture(name)
    keras.utils.set_random_seed(3)
    weights = WEIGHTS.get(name)
    pretrained = weights if weights and weights.exists() else None
    model = entry.build(entry.size, 1 if entry.binary else 4, pretrained)
    if pretrained is None:
        _disturb_statistics(model)
    return model


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


def _disturb_statistics(model: keras.Model) -> None:
    """Give fresh batch normalisations something to do."""
    random = np.random.default_rng(3)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            width = layer.gamma.shape
            layer.set_weights(
                [
                    random.uniform(0.8, 1.2, width),
                    random.normal(0, 0.1, width),
                    random.normal(0, 0.1, width),
                    random.uniform(0.5, 1.5, width),
                ]
            )


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
