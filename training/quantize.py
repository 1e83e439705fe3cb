"""An int8 graph next to a bundle's own, kept only where it is as accurate and faster."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import numpy as np
import openvino

from brainscan.bundle import Card, Graphs, publish_bundle, read_bundle
from brainscan.bundle.protocols import Protocol
from brainscan.bundle.store import CARD_FILE, GRAPH_FILE, INT8_GRAPH_FILE, INT8_WEIGHTS_FILE
from brainscan.engine import Outputs
from brainscan.engine.openvino import OpenVINOEngine
from brainscan.familiarity import Familiarity
from training.data.dataset import load_dataset
from training.data.split import Split, split_scans
from training.data.task import BINARY_CLASSES
from training.graph_comparison import compare_engines, measure_accuracy
from training.int8_graph import list_convolutions, quantize

ACCEPTED_LOSS = 0.002  # of accuracy, 0.2 points, on the test part
# On the validation part, where a few scans decide on accuracy and all of them on this.
ACCEPTED_DIFFERENCE = 0.005  # of a scan's probabilities, on average
ACCEPTED_MAP_DIFFERENCE = 0.03  # of the lesion map's pixels, on average where there is a lesion
ACCEPTED_STRANGERS = 0.005  # of scans: so many more that are not recognised
_LESION_FROM = 0.1  # in the map of the bundle's own graph
CALIBRATION_SCANS = 300
_SECTION = "## The int8 graph"
# How many of the first convolutions stay in floating point, the fastest choice first. The early
# ones of a network of depthwise convolutions have channels of very different ranges.
_FIRST_KEPT = (0, 2, 5, 8, 11, 14)

Tell = Callable[[str], None]


class QuantizationError(ValueError):
    """No int8 graph was published; the message says why."""


def quantize_bundle(
    bundle: Path,
    data: tuple[Path, ...],
    cache: Path,
    exclude: tuple[str, ...] = (),
    tell: Tell = lambda _line: None,
) -> Path:
    """Publish the next version of a bundle: the same files, and an int8 graph next to its own.

    Args:
        bundle: folder of the version to start from.
        data: the folders it was trained on, in the same order.
        cache: folder that keeps prepared arrays.
        exclude: patterns of scans that were left out of its training.
        tell: takes lines about the progress.

    Returns:
        The folder of the new version; its card's `graphs` holds what was measured of both.

    Raises:
        BundleError: a file of the bundle is missing or was changed.
        DataError, SplitError: the data cannot be read or divided.
        QuantizationError: it is not the data of the training, or the int8 graph is not good enough.
        PublishError: the new version could not be written.
    """
    card = read_bundle(bundle)
    if card.measurement is None or card.training is None:
        raise QuantizationError(
            f"The card of {card.name}/{card.version} names no training data: it was imported. Only "
            "a model that was trained here can be quantized, on the scans of its training."
        )
    binary = card.classes == BINARY_CLASSES
    dataset = load_dataset(data, card.scan, cache, binary=binary, exclude=exclude)
    split = split_scans(dataset, cast(Protocol, card.measurement.protocol), card.training.seed)
    _check_data(card, split)
    with tempfile.TemporaryDirectory(prefix="tumorapp-") as name:
        made = Path(name)
        before = OpenVINOEngine(bundle, threads=1)
        after = quantize_graph(bundle, made, split, tell)
        tell("Measuring both graphs on the test part.")
        graphs = compare_engines(before, after, split.take(split.test))
        check_gain(card, graphs)
        if card.training.refit:  # it has been trained on these scans since
            graphs = Graphs(
                replace(graphs.fp16, accuracy=None), replace(graphs.int8, accuracy=None)
            )

        def write_files(folder: Path, numbered: Card) -> None:
            left_out = shutil.ignore_patterns(CARD_FILE, INT8_GRAPH_FILE, INT8_WEIGHTS_FILE)
            shutil.copytree(bundle, folder, dirs_exist_ok=True, ignore=left_out)
            shutil.copytree(made, folder, dirs_exist_ok=True)
            _amend_report(folder / "report" / "README.md", card.version, numbered)

        return publish_bundle(bundle.parent.parent, replace(card, graphs=graphs), write_files)


def _amend_report(path: Path, before: int, card: Card) -> None:
    """Give a report its new version, and a section on the two graphs."""
    if card.graphs is None or not path.is_file():
        return
    text = path.read_text(encoding="utf-8").split(_SECTION, maxsplit=1)[0].rstrip()
    text = text.replace(f"{card.name}, version {before}", f"{card.name}, version {card.version}", 1)
    fp16, int8 = card.graphs.fp16, card.graphs.int8
    rows = "".join(
        f"| {name} | {'–' if one.accuracy is None else f'{one.accuracy:.4f}'} | "
        f"{one.milliseconds:.2f} |\n"
        for name, one in (("fp16", fp16), ("int8", int8))
    )
    path.write_text(
        f"{text}\n\n{_SECTION}\n\nThe other figures are those of the graph in half precision; the "
        "int8 one next to it was compared with it on the same test scans.\n\n"
        f"| graph | accuracy | ms of processor time a scan |\n|---|---|---|\n{rows}\n"
        f"Another class on {int8.other_answers:.1%} of the scans; the probabilities of a scan "
        f"differ by {int8.mean_difference:.3f} on average and "
        f"{int8.largest_difference:.2f} at most.\n",
        encoding="utf-8",
    )


def _check_data(card: Card, split: Split) -> None:
    """Refuse other scans than those of the training: they would calibrate and measure wrongly."""
    training, parts = card.training, card.measurement and asdict(card.measurement.parts)
    if training and (split.dataset.manifest, split.sizes) != (training.manifest, parts):
        raise QuantizationError(
            f"These are not the scans that {card.name}/{card.version} was trained on, or not "
            f"divided as they were: {split.sizes} here, {parts} then. Give --data and --exclude "
            f"as its training had them: {training.command}"
        )


def check_gain(card: Card, graphs: Graphs) -> None:
    """Refuse an int8 graph that loses more than 0.2 points or is not faster."""
    fp16, int8 = graphs.fp16, graphs.int8
    before, after = fp16.accuracy or 0.0, int8.accuracy or 0.0
    as_good = before - after <= ACCEPTED_LOSS  # false for NaN
    if not as_good or int8.milliseconds >= fp16.milliseconds:
        raise QuantizationError(
            f"The int8 graph of {card.name}/{card.version} is not good enough: accuracy "
            f"{after:.4f} and {int8.milliseconds:.2f} ms a scan, against "
            f"{before:.4f} and {fp16.milliseconds:.2f} ms. Nothing was published."
        )


def quantize_graph(bundle: Path, folder: Path, split: Split, tell: Tell) -> OpenVINOEngine:
    """Make an int8 graph that answers as a bundle's own does on the validation part.

    Args:
        bundle: holds the graph that was published.
        folder: takes the int8 graph.
        split: scans of its training part show the ranges of the activations; its validation part
            decides how many of the first convolutions stay in floating point.
        tell: takes lines about the progress.

    Returns:
        What runs the int8 graph, on one thread.

    Raises:
        QuantizationError: it has no convolution, or answers otherwise however many of them are
            kept.
    """
    core = openvino.Core()
    validation = split.take(split.validation)
    outputs = OpenVINOEngine(bundle, threads=1).predict(validation.inputs)
    before = outputs.probabilities
    expected = measure_accuracy(before, validation)
    count = len(list_convolutions(core.read_model(bundle / GRAPH_FILE)))
    rows = np.random.default_rng(0).permutation(split.train)[:CALIBRATION_SCANS]
    samples = list(split.take(np.sort(rows)).inputs[:, np.newaxis])
    tried: list[tuple[float, float]] = []
    for kept in (number for number in _FIRST_KEPT if number < count):
        quantized = quantize(core.read_model(bundle / GRAPH_FILE), samples, kept)
        for file in (INT8_GRAPH_FILE, INT8_WEIGHTS_FILE):  # which OpenVINO may have mapped
            (folder / file).unlink(missing_ok=True)
        openvino.save_model(quantized, folder / INT8_GRAPH_FILE, compress_to_fp16=True)
        engine = OpenVINOEngine(folder, threads=1, precision="int8")
        quantized_outputs = engine.predict(validation.inputs)
        after = quantized_outputs.probabilities
        found = measure_accuracy(after, validation)
        lost, difference = expected - found, float(np.abs(after - before).max(axis=1).mean())
        tell(
            f"{count - kept} of {count} convolutions in int8: accuracy {found:.4f} on the "
            f"validation part, {expected:.4f} before; probabilities differ by {difference:.4f}."
        )
        held = _keeps_map(outputs, quantized_outputs, tell) and _keeps_recognising(
            bundle, outputs, quantized_outputs, tell
        )
        if held and lost <= ACCEPTED_LOSS and difference <= ACCEPTED_DIFFERENCE:
            return engine
        tried.append((difference, lost))
    if not tried:
        raise QuantizationError(
            "It has no convolution, so int8 would win nothing. Nothing was published."
        )
    difference, lost = min(tried)
    raise QuantizationError(
        f"No int8 graph is good enough. The nearest loses {lost:.4f} of accuracy, and its "
        f"probabilities differ by {difference:.4f} on average; at most {ACCEPTED_LOSS} and "
        f"{ACCEPTED_DIFFERENCE} are accepted, a lesion map that differs by at most "
        f"{ACCEPTED_MAP_DIFFERENCE}, and as many scans recognised. Nothing was published."
    )


def _keeps_map(before: Outputs, after: Outputs, tell: Tell) -> bool:
    """Tell whether lesions are mapped as before; True for a network without a lesion map."""
    if before.lesions is None or after.lesions is None:
        return True
    lesion = before.lesions >= _LESION_FROM
    if not lesion.any():
        return True
    difference = float(np.abs(after.lesions - before.lesions)[lesion].mean())
    tell(f"The lesion map differs by {difference:.4f} where there is a lesion.")
    return difference <= ACCEPTED_MAP_DIFFERENCE


def _keeps_recognising(bundle: Path, before: Outputs, after: Outputs, tell: Tell) -> bool:
    """Tell whether as many scans are recognised as before; True where all are."""
    refusal = read_bundle(bundle).refusal
    if refusal is None or before.features is None or after.features is None:
        return True
    measure = Familiarity.read(bundle).measure
    first, second = (
        float((measure(features) > refusal.distance_above).mean())
        for features in (before.features, after.features)
    )
    tell(f"Not recognised: {second:.4f} of the scans, {first:.4f} before.")
    return second - first <= ACCEPTED_STRANGERS
