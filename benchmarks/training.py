"""Training's input pipeline and its frozen heads, each compared with a limit.

    python -m benchmarks.training --data instance/data/nickparvar

Input: scans per second when training on prepared arrays, drawn and shuffled as in a run, divided by
those of the same augmented step on random arrays that are in memory in order.
Frozen: seconds of an epoch through a frozen backbone, divided by those of one that trains the head
on computed features. Both are timed in turn, and the fastest turn of each counts, because other
work on the machine can only slow a turn down.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from brainscan.scan import ScanSpecification
from training.augment import build_augmentation
from training.batches import ScanBatches
from training.data.cache import prepare_arrays
from training.data.folders import find_scans
from training.data.split import Part
from training.data.task import BINARY_CLASSES, Task
from training.frozen import FEATURES, build_head, compute_features
from training.models import Recipe, architecture

_BATCH = 32
_RECIPE = Recipe(every_copy=True)


def time_turns(rounds: int, **tasks: Callable[[], Any]) -> dict[str, list[float]]:
    """Seconds of each task, in turn; a first turn does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(rounds + 1):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def compile_model(model: keras.Model) -> keras.Model:
    """Compile a model as a run does."""
    optimizer = keras.optimizers.AdamW(1e-4, use_ema=True)
    kind = "binary" if model.output_shape[1] == 1 else "categorical"
    model.compile(optimizer, f"{kind}_crossentropy", metrics=["accuracy"])
    return model


def train_epoch(model: keras.Model, *data: Any) -> None:
    """Train for one epoch without output."""
    model.fit(*data, epochs=1, shuffle=False, verbose=0)


def compare_input(name: str, pixels: NDArray[np.uint8], rounds: int) -> None:
    """Print the throughput on prepared arrays and on arrays in memory."""
    size = pixels.shape[1]
    task = Task(BINARY_CLASSES, binary=architecture(name).binary)
    network = architecture(name).build(size, task.outputs)
    augmentation = build_augmentation(1.0, 0)
    model = compile_model(keras.Sequential([network.input, *augmentation, network]))
    labels = np.arange(len(pixels)) % 2
    batches = ScanBatches(Part(pixels, labels, labels), task, _RECIPE, _BATCH, seed=0)
    random = np.random.default_rng(0)
    made_up = random.integers(0, 256, pixels.shape).astype(np.uint8)

    def train_in_memory() -> None:
        model.fit(
            made_up,
            batches.targets,
            sample_weight=batches.weights,
            batch_size=_BATCH,
            shuffle=False,
            verbose=0,
        )

    seconds = time_turns(
        rounds, memory=train_in_memory, prepared=partial(train_epoch, model, batches)
    )
    for kind, taken in seconds.items():
        print(f"{name} {size} px, {kind:8} {len(pixels) / min(taken):8.1f} scans a second")
    print(f"ratio        {min(seconds['memory']) / min(seconds['prepared']):6.2f}")


def compare_frozen(name: str, pixels: NDArray[np.uint8], rounds: int) -> None:
    """Print the seconds of an epoch through a frozen backbone and of one of its head."""
    task = Task(BINARY_CLASSES)
    network = architecture(name).build(pixels.shape[1], task.outputs)
    labels = np.arange(len(pixels)) % 2

    def draw(inputs: NDArray[Any]) -> ScanBatches:
        return ScanBatches(Part(inputs, labels, labels), task, _RECIPE, _BATCH, seed=0)

    vectors = compute_features(network, pixels, "training")
    head = compile_model(build_head(network))
    names = [layer.name for layer in network.layers]
    for layer in network.layers[: names.index(FEATURES)]:
        layer.trainable = False
    compile_model(network)
    seconds = time_turns(
        rounds,
        whole=partial(train_epoch, network, draw(pixels)),
        head=partial(train_epoch, head, draw(vectors)),
    )
    whole, head_alone = min(seconds["whole"]), min(seconds["head"])
    print(f"{name} {pixels.shape[1]} px, through the frozen backbone {whole:.3f} s")
    print(f"{name} {pixels.shape[1]} px, head on its features        {head_alone:.3f} s")
    print(f"ratio        {whole / head_alone:6.1f}")


def main() -> None:
    """Measure both on one set of scans."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder-per-class tree")
    parser.add_argument("--model", default="binary-cnn", help="whose step reads the input")
    parser.add_argument("--frozen", default="mobilenet-v2", help="whose backbone is frozen")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--scans", type=int, default=1024, help="maximum number used")
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    files = [scan.path for scan in find_scans(arguments.data)]
    files = files[:: max(1, len(files) // arguments.scans)][: arguments.scans]
    with tempfile.TemporaryDirectory() as cache:
        prepared = prepare_arrays(files, ScanSpecification(arguments.size), Path(cache))
        compare_input(arguments.model, prepared.pixels, arguments.rounds)
        compare_frozen(arguments.frozen, prepared.pixels, arguments.rounds)


if __name__ == "__main__":
    main()
