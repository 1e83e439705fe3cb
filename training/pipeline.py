"""The story of a training, top to bottom: data → split → fit → calibrate → evaluate → publish."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainscan.bundle import Card, read_bundle
from brainscan.scan import ScanSpecification
from training.calibrate import apply_temperature, find_temperature, predict_probabilities
from training.checkpoint import count_epochs
from training.compress import round_weights
from training.data.dataset import Dataset, UnnamedTumors, describe_problems, load_dataset
from training.data.split import Split, split_scans, split_unnamed
from training.describe import draw_up_card
from training.device import describe_device
from training.evaluate import evaluate_unnamed
from training.fit import FitResult, FitSettings, Labelled, Scans, fit
from training.frozen import fit_head
from training.heads import fit_vectors
from training.models import Architecture, architecture, architectures
from training.publish import publish
from training.report import TestResults, write_plots, write_report
from training.run import Run, TrainingRequest, find_run

_CHECKED_SCANS = 64


@dataclass(frozen=True)
class TrainingOutcome:
    """Where a finished training lies: its run with the report, its bundle, and its card."""

    run: Path
    bundle: Path | None
    card: Card


def train(
    request: TrainingRequest, tell: Callable[[str], None] = lambda _line: None
) -> TrainingOutcome:
    """Train a model, measure it and publish it; a run that was cut off goes on where it stopped.

    Args:
        request: what to train on what, and how.
        tell: takes lines for whoever waits: what the data holds, and what happens next.

    Raises:
        DataError, SplitError: the data cannot be used or divided.
        RunBusyError: the same run is being trained already.
        PublishError: nothing was published; the run and its report are kept.
        DeviceMemoryError: the device has too little memory for the model.
        ValueError: the model is not known, or cannot be trained by this method and head.
    """
    network = architecture(request.model)
    request = _settle(request, network)
    scan = ScanSpecification(request.size)
    dataset = load_dataset(
        request.data,
        scan,
        request.instance / "cache",
        binary=network.binary,
        exclude=request.exclude,
    )
    split = split_scans(
        request.protocol, dataset.labels, dataset.groups, dataset.parts, request.seed
    )
    run = find_run(request, dataset, split)
    for line in describe_problems(dataset):
        tell(line)
    sizes = ", ".join(f"{count:,} {name}" for name, count in split.sizes.items())
    tell(f"Protocol {request.protocol}: {sizes}. The run is kept in {run.folder}.")
    with run.claim(fresh=request.fresh):
        if request.publish and run.bundle:
            tell("This run has been published already; --fresh trains it anew.")
            return TrainingOutcome(run.folder, run.bundle, read_bundle(run.bundle))
        run.write_configuration(request, dataset, split)
        tell(f"Device: {describe_device()}.")
        if kept := count_epochs(run.folder):
            tell(f"Going on after epoch {kept}.")
        fitted = _fit(request, network, dataset, split, run)
        tell("Calibrating, measuring on the test part and writing the report.")
        temperature = 1.0
        if request.head != "knn":  # whose classifier is calibrated already, and has no weights
            temperature = _calibrate(fitted, *_take(dataset, split.validation))
            round_weights(fitted.model)
        return _measure_and_publish(request, network, dataset, split, fitted, temperature, run)


def _settle(request: TrainingRequest, network: Architecture) -> TrainingRequest:
    """Refuse what cannot be trained; leave out of a request what would have no effect."""
    if request.method != "frozen":
        if request.head != "softmax":
            raise ValueError(
                f"A head of the kind {request.head!r} takes the features of a frozen backbone: add "
                "--method frozen, or leave out --head."
            )
        return request
    if not network.pretrained:
        names = ", ".join(name for name, one in architectures().items() if one.pretrained)
        raise ValueError(
            f"{request.model} learns from nothing: it has no pretrained backbone to freeze. Pass "
            f"--method fine-tune, or one of the pretrained models: {names}."
        )
    return replace(
        request,
        recipe=replace(request.recipe, augmentation=0.0, variants=0, normalisation="kept"),
        publish=request.publish and request.head != "knn",
    )


def _fit(
    request: TrainingRequest, network: Architecture, dataset: Dataset, split: Split, run: Run
) -> FitResult:
    training: Labelled = (*_take(dataset, split.train), dataset.groups[split.train])
    unnamed = dataset.unnamed if request.head == "softmax" else None
    settings = FitSettings(
        request.recipe,
        request.size,
        len(dataset.classes),
        unnamed.healthy if unnamed else None,
        request.seed,
        request.weights,
        request.precision,
    )
    if unnamed:
        training = _add_unnamed(training, unnamed, len(dataset.classes), request.seed)
    validation: Scans = _take(dataset, split.validation)
    if request.head != "softmax":
        return fit_vectors(network, training, validation, settings, run.folder, request.head)
    train_it = fit_head if request.method == "frozen" else fit
    return train_it(network, training, validation, settings, run.folder)


def _add_unnamed(training: Labelled, unnamed: UnnamedTumors, label: int, seed: int) -> Labelled:
    rows, _ = split_unnamed(unnamed.groups, seed)
    pixels, labels, groups = training
    return (
        np.concatenate([pixels, unnamed.pixels[rows]]),
        np.concatenate([labels, np.full(len(rows), label)]),
        np.concatenate([groups, unnamed.groups[rows]]),
    )


def _take(dataset: Dataset, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    return dataset.pixels[rows], dataset.labels[rows]


def _measure_unnamed(card: Card, dataset: Dataset, fitted: FitResult, seed: int) -> Card:
    """Add how often the model recognises a tumour whose kind is not named."""
    unnamed = dataset.unnamed
    if unnamed is None or card.measurement is None:
        return card
    _, rows = split_unnamed(unnamed.groups, seed)
    if not len(rows):
        return card
    probabilities = predict_probabilities(fitted.model, unnamed.pixels[rows], fitted.batch)
    found = evaluate_unnamed(probabilities, unnamed.groups[rows], unnamed.healthy)
    return replace(card, measurement=replace(card.measurement, unnamed_tumors=found))


def _calibrate(fitted: FitResult, pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    probabilities = predict_probabilities(fitted.model, pixels, fitted.batch)
    temperature = find_temperature(probabilities, labels)
    apply_temperature(fitted.model, temperature)
    return temperature


def _measure_and_publish(
    request: TrainingRequest,
    network: Architecture,
    dataset: Dataset,
    split: Split,
    fitted: FitResult,
    temperature: float,
    run: Run,
) -> TrainingOutcome:
    pixels, labels = _take(dataset, split.test)
    probabilities = predict_probabilities(fitted.model, pixels, fitted.batch)
    card = draw_up_card(request, network, dataset, split, fitted, temperature, probabilities)
    card = _measure_unnamed(card, dataset, fitted, request.seed)
    results = TestResults([dataset.names[row] for row in split.test], probabilities, labels)

    def write_it(folder: Path, final: Card) -> None:
        write_report(folder, final, fitted.history, results)

    write_it(run.folder / "report", card)
    write_plots(run.folder / "plots.html", card, fitted.history, results)
    (run.folder / "card.json").write_text(card.to_json(), encoding="utf-8")
    if not request.publish:
        return TrainingOutcome(run.folder, None, card)
    bundle = publish(
        fitted.model,
        card,
        pixels[:: max(1, len(pixels) // _CHECKED_SCANS)],
        request.models,
        write_it,
    )
    run.mark_published(bundle)
    return TrainingOutcome(run.folder, bundle, read_bundle(bundle))
