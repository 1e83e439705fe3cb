"""The card of a finished training."""

import datetime
from collections import Counter
from dataclasses import asdict, replace
from statistics import median

import numpy as np
from numpy.typing import NDArray

from brainscan.bundle import Card, Measurement, Parts, Source, Training
from brainscan.bundle.sentences import INTENDED_USE, LIMITS
from brainscan.scan import ScanSpecification
from training.data.duplicates import find_leaks
from training.data.split import Split
from training.device import describe_device
from training.evaluate import evaluate, evaluate_each
from training.fit import Fitted
from training.models import architecture
from training.run import TrainingRequest, list_versions


def measure_test_part(
    split: Split, fitted: Fitted, probabilities: NDArray[np.float32], answers: NDArray[np.int64]
) -> Measurement:
    """Measure a model on the test part, on its data sets and on its planes.

    Args:
        split: the scans and their division.
        fitted: the model.
        probabilities: float32, shape (test scans, classes).
        answers: int64, shape (test scans,): the classes that it names.
    """
    dataset, test = split.dataset, split.test
    # The validation part has a say in the model too.
    seen = np.concatenate([split.train, split.validation])
    labels = dataset.labels[test]
    measurement = evaluate(
        probabilities,
        labels,
        split.groups[test],
        dataset.classes,
        protocol=split.protocol,
        parts=Parts(**split.sizes),
        answers=answers,
        leaked=np.isin(test, find_leaks(dataset.groups, seen, test)),
        seconds_per_epoch=(
            median(values["seconds"] for values in fitted.history) if fitted.history else None
        ),
    )
    sources = [dataset.names[row].partition("/")[0] for row in test]
    planes = [dataset.planes[row] for row in test]
    return replace(
        measurement,
        by_source=evaluate_each(answers, labels, sources),
        by_plane=evaluate_each(answers, labels, planes),
    )


def draw_up_card(
    request: TrainingRequest,
    split: Split,
    fitted: Fitted,
    temperature: float,
    measurement: Measurement,
) -> Card:
    """Draw up the card of a trained model; its probabilities were calibrated at the temperature.

    It lacks the version, the files, the feature layer and the graph's difference, which publishing
    adds.
    """
    dataset = split.dataset
    return Card(
        name=request.model,
        version=1,  # publishing numbers it
        classes=dataset.classes,
        scan=ScanSpecification(request.size),
        architecture=architecture(request.model).summary,
        parameters=fitted.model.count_params(),
        feature_layer=None,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        training=_describe_training(request, split, fitted, temperature),
        measurement=measurement,
        intended_use=INTENDED_USE,
        limits=LIMITS,
        sources=tuple(
            Source(one.title, one.url, one.licence, one.citation) for one in dataset.sources
        ),
    )


def _describe_training(
    request: TrainingRequest, split: Split, fitted: Fitted, temperature: float
) -> Training:
    dataset = split.dataset
    counts = Counter(dataset.labels.tolist())
    return Training(
        command=request.command,
        method=request.method,
        head=request.head,
        recipe=asdict(request.recipe),
        seed=request.seed,
        epochs=len(fitted.history),
        best_epoch=fitted.best_epoch,
        temperature=temperature,
        precision=fitted.precision,
        device=describe_device(),
        versions=list_versions(),
        manifest=dataset.manifest,
        classes={name: counts[index] for index, name in enumerate(dataset.classes)},
        notes=(*fitted.notes, *dataset.notes),
        contradictions=tuple(dataset.contradictions),
        uncropped=tuple(dataset.uncropped),
        weights=request.weights or "",
        tensors=fitted.tensors,
        validation_loss=(
            fitted.history[fitted.best_epoch - 1]["val_loss"] if fitted.best_epoch else None
        ),
        skipped=tuple(f"{name}: {reason}" for name, reason in dataset.skipped),
    )
