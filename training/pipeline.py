"""The story of a training, top to bottom: data → split → fit → calibrate → evaluate → publish."""

import datetime
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from training.bundle import Card
from training.calibrate import apply_temperature, find_temperature, predict_probabilities
from training.compress import round_weights
from training.data.audit import find_leaks
from training.data.dataset import Dataset, load_dataset
from training.data.split import Protocol, Split, split_scans
from training.evaluate import evaluate
from training.fit import FitResult, FitSettings, describe_device, fit
from training.models import Architecture, Recipe, architecture
from training.publish import publish
from training.report import TestResults, write_report
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


class RunBusyError(RuntimeError):
    """Another process trains the same run."""


@dataclass(frozen=True)
class TrainingRequest:
    """What `flask train` was asked for.

    Attributes:
        model: name of an architecture.
        data: folder-per-class trees; their scans are merged.
        instance: holds the `runs` and the `cache`.
        models: folder of all bundles.
        protocol: how the scans are divided.
        recipe: how the model is fitted.
        size: width and height of the scans, in pixels.
        exclude: glob patterns of scans to leave out.
        seed: of the split, the weights, the order and the augmentation.
        weights: "imagenet", a file, or None.
        precision: a Keras dtype policy or "auto".
        publish: whether a bundle is published at the end, or only the report written.
        fresh: start anew even where a run can be resumed.
        command: the command line, for the report.
    """

    model: str
    data: tuple[Path, ...]
    instance: Path
    models: Path
    protocol: Protocol
    recipe: Recipe
    size: int
    exclude: tuple[str, ...] = ()
    seed: int = 0
    weights: str | None = None
    precision: str = "auto"
    publish: bool = True
    fresh: bool = False
    command: str = ""


@dataclass(frozen=True)
class TrainingOutcome:
    """Where a finished training lies: its run with the report, its bundle, and its card."""

    run: Path
    bundle: Path | None
    card: Card


def train(request: TrainingRequest) -> TrainingOutcome:
    """Train a model, measure it and publish it; a run that was cut off goes on where it stopped.

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
    run = request.instance / "runs" / f"{request.model}-{_identify(request, dataset)}"
    with _claim(run, request.fresh):
        _write_configuration(run, request, dataset, split)
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
            run,
        )
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
    run: Path,
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

    write_it(run / "report", card)
    (run / "metrics.json").write_text(json.dumps(card.metrics, indent=2), encoding="utf-8")
    if not request.publish:
        return TrainingOutcome(run, None, card)
    bundle = publish(
        fitted.model,
        card,
        pixels[:: max(1, len(pixels) // _CHECKED_SCANS)],
        request.models,
        write_it,
    )
    return TrainingOutcome(run, bundle, card)


def _measure(
    dataset: Dataset, split: Split, probabilities: NDArray[np.float32], fitted: FitResult
) -> dict[str, Any]:
    labels = dataset.labels[split.test]
    right = probabilities.argmax(axis=1) == labels
    leaked = np.isin(split.test, find_leaks(dataset.groups, split.train, split.test))
    return {
        "protocol": split.protocol,
        **evaluate(probabilities, labels, dataset.groups[split.test], dataset.classes),
        "parts": {name: len(getattr(split, name)) for name in ("train", "validation", "test")},
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
        "versions": _versions(),
        "manifest": dataset.manifest,
        "classes": {name: counts[index] for index, name in enumerate(dataset.classes)},
        "notes": list(dataset.notes),
        "contradictions": list(dataset.contradictions),
        "uncropped": list(dataset.uncropped),
        "skipped": [f"{name}: {reason}" for name, reason in dataset.skipped],
    }


def _versions() -> dict[str, str]:
    packages = ("keras", keras.backend.backend(), "numpy", "opencv-python-headless", "openvino")
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def _identify(request: TrainingRequest, dataset: Dataset) -> str:
    """Name a run by all that decides its result, so that the same command finds it again."""
    weights = request.weights
    if weights and Path(weights).is_file():
        weights = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    decisive = [
        request.protocol,
        asdict(request.recipe),
        request.size,
        request.seed,
        weights,
        request.precision,
        dataset.manifest,
        dataset.classes,
        dataset.names,
    ]
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:12]


@contextmanager
def _claim(run: Path, fresh: bool) -> Iterator[None]:
    """Hold a run for this process alone; a killed process holds nothing."""
    run.mkdir(parents=True, exist_ok=True)
    with (run / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunBusyError(
                f"Another process is training this very run in {run}. Wait for it, or stop it "
                "and run the command again: it goes on where the other stopped."
            ) from None
        if fresh:
            for entry in run.iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry)
                elif entry.name != "lock":
                    entry.unlink()
        yield


def _write_configuration(
    run: Path, request: TrainingRequest, dataset: Dataset, split: Split
) -> None:
    configuration = {
        **{key: value for key, value in asdict(request).items() if key != "fresh"},
        "manifest": dataset.manifest,
        "parts": {name: len(getattr(split, name)) for name in ("train", "validation", "test")},
        "backend": keras.backend.backend(),
        "cores": os.cpu_count(),
        "versions": _versions(),
    }
    text = json.dumps(configuration, indent=2, default=str) + "\n"
    (run / "configuration.json").write_text(text, encoding="utf-8")
