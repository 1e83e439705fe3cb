"""An int8 graph beside a bundle's own: made by NNCF, kept only where it is as accurate and faster.

The convolutions compute in int8. What follows the last of them, the classifier and the heat map,
stays in floating point: it costs next to nothing, and the probabilities were calibrated there.
"""

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import openvino

from brainscan.bundle import Card, Graphs, publish_bundle, read_bundle
from brainscan.bundle.store import CARD_FILE, GRAPH_FILE, INT8_GRAPH_FILE, INT8_WEIGHTS_FILE
from training.data.dataset import Dataset, load_dataset
from training.data.split import Protocol, Split, split_scans
from training.graph_comparison import LabelledScans, compare_graphs, compile_graph, run_graph

ACCEPTED_LOSS = 0.002  # of accuracy, 0.2 points, on the test part
# On the validation part, where a few scans decide on accuracy and all of them on this.
ACCEPTED_DIFFERENCE = 0.005  # of a scan's probabilities, on average
CALIBRATION_SCANS = 300
_SECTION = "## The int8 graph"
# How many of the first convolutions stay in floating point, the fastest choice first. The early
# ones of a network of depthwise convolutions have channels of very different ranges.
_FIRST_KEPT = (0, 2, 5, 8, 11, 14)
_CONVOLUTIONS = frozenset({"Convolution", "GroupConvolution"})
_FUSED = frozenset({"Add", "Clamp", "Relu"})  # with the convolution before them

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
    """Publish the next version of a bundle: the same files, and an int8 graph beside its own.

    Args:
        bundle: folder of the version to start from.
        data: the folders it was trained on, in the same order.
        cache: folder that keeps prepared arrays.
        exclude: patterns of scans that were left out of its training.
        tell: takes lines for whoever waits.

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
    dataset = load_dataset(
        data,
        card.scan,
        cache,
        binary=set(card.classes) == {"healthy", "tumor"},
        exclude=exclude,
    )
    split = split_scans(
        cast(Protocol, card.measurement.protocol),
        dataset.labels,
        dataset.groups,
        dataset.parts,
        card.training.seed,
    )
    _check_data(card, dataset, split)
    training, validation, test = (
        LabelledScans(dataset.pixels[rows], dataset.labels[rows])
        for rows in (split.train, split.validation, split.test)
    )
    graph = quantize_graph(bundle / GRAPH_FILE, training, validation, tell)
    tell("Measuring both graphs on the test part.")
    graphs = compare_graphs(bundle / GRAPH_FILE, graph, test)
    check_gain(card, graphs)

    def write_files(folder: Path, numbered: Card) -> None:
        left_out = shutil.ignore_patterns(CARD_FILE, INT8_GRAPH_FILE, INT8_WEIGHTS_FILE)
        shutil.copytree(bundle, folder, dirs_exist_ok=True, ignore=left_out)
        openvino.save_model(graph, folder / INT8_GRAPH_FILE, compress_to_fp16=True)
        _amend_report(folder / "report" / "README.md", card.version, numbered)

    return publish_bundle(bundle.parent.parent, replace(card, graphs=graphs), write_files)


def _amend_report(path: Path, before: int, card: Card) -> None:
    """Give a report its new version, and a section on the two graphs."""
    if card.graphs is None or not path.is_file():
        return
    text = path.read_text(encoding="utf-8").split(_SECTION, maxsplit=1)[0].rstrip()
    text = text.replace(f"{card.name}, version {before}", f"{card.name}, version {card.version}", 1)
    fp16, int8 = card.graphs.fp16, card.graphs.int8
    path.write_text(
        f"{text}\n\n{_SECTION}\n\nThe other figures are those of the graph in half precision; the "
        "int8 one beside it was measured on the same test scans.\n\n"
        "| graph | accuracy | ms of processor time a scan |\n|---|---|---|\n"
        f"| fp16 | {fp16.accuracy:.4f} | {fp16.milliseconds:.2f} |\n"
        f"| int8 | {int8.accuracy:.4f} | {int8.milliseconds:.2f} |\n\n"
        f"Another class on {int8.other_answers:.1%} of the scans; the probabilities of a scan "
        f"differ by {int8.mean_difference:.3f} on average and "
        f"{int8.largest_difference:.2f} at most.\n",
        encoding="utf-8",
    )


def _check_data(card: Card, dataset: Dataset, split: Split) -> None:
    """Refuse other scans than those of the training: they would calibrate and measure wrongly."""
    training, parts = card.training, card.measurement and asdict(card.measurement.parts)
    if training is None or (dataset.manifest, split.sizes) != (training.manifest, parts):
        raise QuantizationError(
            f"These are not the scans that {card.name}/{card.version} was trained on, or not "
            f"divided as they were: {split.sizes} here, {parts} then. Give "
            f"--data and --exclude as its training had them: {training and training.command}"
        )


def check_gain(card: Card, graphs: Graphs) -> None:
    """Refuse an int8 graph that loses more than 0.2 points or is not faster."""
    fp16, int8 = graphs.fp16, graphs.int8
    lost = fp16.accuracy - int8.accuracy
    as_good = lost <= ACCEPTED_LOSS  # false for NaN
    if not as_good or int8.milliseconds >= fp16.milliseconds:
        raise QuantizationError(
            f"The int8 graph of {card.name}/{card.version} is not good enough: accuracy "
            f"{int8.accuracy:.4f} and {int8.milliseconds:.2f} ms a scan, against "
            f"{fp16.accuracy:.4f} and {fp16.milliseconds:.2f} ms. Nothing was published."
        )


def quantize_graph(
    path: Path, training: LabelledScans, validation: LabelledScans, tell: Tell
) -> Any:
    """Make an int8 graph that answers as the given one does on the validation part.

    Args:
        path: the graph that was published.
        training: scans to find the ranges of the activations on.
        validation: scans that decide how many of the first convolutions stay in floating point.
        tell: takes lines for whoever waits.

    Returns:
        An OpenVINO model with the inputs and outputs of the given one.

    Raises:
        QuantizationError: it has no convolution, or answers otherwise however many of them are
            kept.
    """
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(30)  # logging.WARNING
    chosen = np.random.default_rng(0).permutation(len(training.pixels))[:CALIBRATION_SCANS]
    samples = nncf.Dataset([training.pixels[row : row + 1] for row in np.sort(chosen)])
    ranges = nncf.AdvancedQuantizationParameters(
        # Means over the scans, NNCF's own choice, cut off what the brightest scans reach.
        activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
    )
    core = openvino.Core()
    before = run_graph(compile_graph(path), validation.pixels)[0]
    expected = validation.measure(before)
    count = len(_list_convolutions(core.read_model(path)))
    tried: list[tuple[float, float]] = []
    for kept in (number for number in _FIRST_KEPT if number < count):
        model = core.read_model(path)
        quantized = nncf.quantize(
            model,
            samples,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(chosen),
            fast_bias_correction=False,
            ignored_scope=nncf.IgnoredScope(names=_list_kept(model, kept)),
            advanced_parameters=ranges,
        )
        after = run_graph(compile_graph(quantized), validation.pixels)[0]
        found = validation.measure(after)
        lost, difference = expected - found, float(np.abs(after - before).max(axis=1).mean())
        tell(
            f"{count - kept} of {count} convolutions in int8: accuracy {found:.4f} on the "
            f"validation part, {expected:.4f} before; probabilities differ by {difference:.4f}."
        )
        if lost <= ACCEPTED_LOSS and difference <= ACCEPTED_DIFFERENCE:
            return quantized
        tried.append((difference, lost))
    raise QuantizationError(
        f"{_explain_refusal(*min(tried))} Nothing was published."
        if tried
        else "It has no convolution, so int8 would win nothing. Nothing was published."
    )


def _explain_refusal(difference: float, lost: float) -> str:
    """Say what the int8 graph that differs least lacks on the validation part."""
    reasons = []
    if not lost <= ACCEPTED_LOSS:  # nor NaN
        reasons.append(f"it loses {lost:.4f} of accuracy, and at most {ACCEPTED_LOSS} is accepted")
    if not difference <= ACCEPTED_DIFFERENCE:
        reasons.append(
            f"a scan's probabilities differ by {difference:.4f} on average, and at most "
            f"{ACCEPTED_DIFFERENCE} is accepted"
        )
    return f"No int8 graph is good enough. Of the nearest, {'; '.join(reasons)}."


def _list_convolutions(model: Any) -> list[Any]:
    return [node for node in model.get_ordered_ops() if node.get_type_name() in _CONVOLUTIONS]


def _list_kept(model: Any, first: int) -> list[str]:
    """Name what stays in floating point: the first convolutions, and all after the last one."""
    convolutions = _list_convolutions(model)
    names = [node.get_friendly_name() for node in convolutions[:first]]
    last = convolutions[-1]
    while len(after := _list_followers(last)) == 1 and after[0].get_type_name() in _FUSED:
        last = after[0]
    found, waiting = {}, [last]
    while waiting:
        for node in _list_followers(waiting.pop()):
            name = node.get_friendly_name()
            if name not in found and node.get_type_name() != "Result":
                found[name] = node
                waiting.append(node)
    return sorted([*names, *found])


def _list_followers(node: Any) -> list[Any]:
    return [target.get_node() for out in node.outputs() for target in out.get_target_inputs()]
