"""The story of a training, top to bottom: data → split → fit → calibrate → evaluate → publish."""

import datetime
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from training.bundle import Card, read_bundle
from training.calibrate import apply_temperature, find_temperature, predict_probabilities
from training.compress import round_weights
from training.data.audit import find_leaks
from training.data.dataset import Dataset, describe_problems, load_dataset
from training.data.split import Split, split_scans
from training.evaluate import evaluate
from training.fit import FitResult, FitSettings, describe_device, fit
from training.models import Architecture, architecture
from training.publish import publish
from training.report import TestResults, write_report
from training.run import Run, TrainingRequest, find_run, list_versions
from training.scan import ScanSpecification

_CHECKED_SCANS = 64
_INTENDED_USE = (
    "Research and teaching: to study classifiers of brain MRI slices and to build software "
    "around them."
)
_LIMITS = (
    "Not a medical device and not for diagnosis. It knows only the classes and the public scans "
    "it was trained on: other scanners, sequences, ages and diseases are untested, a healthy "
    "answer rules nothing out, and an image that is no brain MRI gets an answer all the same."
)


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
    """
    network = architecture(request.model)
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
        settings = FitSettings(
            request.recipe,
            request.size,
            len(dataset.classes),
            request.seed,
            request.weights,
            request.precision,
        )
        fitted = fit(
            network,
            (*_take(dataset, split.train), dataset.groups[split.train]),
            _take(dataset, split.validation),
            settings,
            run.folder,
        )
        tell("Calibrating, measuring on the test part and writing the report.")
        temperature = _calibrate(fitted.model, *_take(dataset, split.validation))
        round_weights(fitted.model)
        return _judge_and_publish(request, network, scan, dataset, split, fitted, temperature, run)


def _take(dataset: Dataset, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    return dataset.pixels[rows], dataset.labels[rows]


def _calibrate(model: keras.Model, pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    temperature = find_temperature(predict_probabilities(model, pixels), labels)
    apply_temperature(model, temperature)
    return temperature


def _judge_and_publish(
    request: TrainingRequest,
    network: Architecture,
    scan: ScanSpecification,
    dataset: Dataset,
    split: Split,
    fitted: FitResult,
    temperature: float,
    run: Run,
) -> TrainingOutcome:
    pixels, labels = _take(dataset, split.test)
    probabilities = predict_probabilities(fitted.model, pixels)
    card = Card(
        name=request.model,
        version=1,  # publishing numbers it
        classes=dataset.classes,
        scan=scan,
        architecture=network.summary,
        parameters=fitted.model.count_params(),
        feature_layer=None,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        training=_describe_training(request, dataset, fitted, temperature),
        metrics=_measure(dataset, split, probabilities, fitted),
        intended_use=_INTENDED_USE,
        limits=_LIMITS,
        sources=tuple(
            {"title": s.title, "url": s.url, "licence": s.licence, "citation": s.citation}
            for s in dataset.sources
        ),
    )
    results = TestResults([dataset.names[row] for row in split.test], probabilities, labels)

    def write_it(folder: Path, final: Card) -> None:
        write_report(folder, final, fitted.history, results)

    write_it(run.folder / "report", card)
    (run.folder / "metrics.json").write_text(json.dumps(card.metrics, indent=2), encoding="utf-8")
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


def _measure(
    dataset: Dataset, split: Split, probabilities: NDArray[np.float32], fitted: FitResult
) -> dict[str, Any]:
    labels = dataset.labels[split.test]
    right = probabilities.argmax(axis=1) == labels
    # The validation part has a say in the model too.
    seen = np.concatenate([split.train, split.validation])
    leaked = np.isin(split.test, find_leaks(dataset.groups, seen, split.test))
    return {
        "protocol": split.protocol,
        **evaluate(probabilities, labels, dataset.groups[split.test], dataset.classes),
        "parts": split.sizes,
        "leaks": {
            "scans": int(leaked.sum()),
            "accuracy_with": float(right[leaked].mean()) if leaked.any() else None,
            "accuracy_without": float(right[~leaked].mean()) if not leaked.all() else None,
        },
        "seconds_per_epoch": median(values["seconds"] for values in fitted.history),
    }


def _describe_training(
    request: TrainingRequest, dataset: Dataset, fitted: FitResult, temperature: float
) -> dict[str, Any]:
    counts = Counter(dataset.labels.tolist())
    return {
        "command": request.command,
        "recipe": asdict(request.recipe),
        "seed": request.seed,
        "epochs": len(fitted.history),
        "best_epoch": fitted.best_epoch,
        "temperature": temperature,
        "precision": fitted.precision,
        "device": describe_device(),
        "versions": list_versions(),
        "manifest": dataset.manifest,
        "classes": {name: counts[index] for index, name in enumerate(dataset.classes)},
        "notes": list(dataset.notes),
        "contradictions": list(dataset.contradictions),
        "uncropped": list(dataset.uncropped),
        "skipped": [f"{name}: {reason}" for name, reason in dataset.skipped],
    }
