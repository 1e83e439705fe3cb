"""The card of a finished training."""

import datetime
from collections import Counter
from dataclasses import asdict, replace
from statistics import median

import numpy as np

from brainscan.bundle import Card, Decision, Measurement, Parts, Source, Training
from brainscan.bundle.sentences import INTENDED_USE, LIMITS
from brainscan.scan import ScanSpecification
from training.data.duplicates import find_leaks
from training.data.split import Split
from training.decide import decide_labels
from training.device import describe_device
from training.evaluate import (
    TestResults,
    evaluate,
    evaluate_decision,
    evaluate_each,
    evaluate_unnamed,
)
from training.fit import Fitted
from training.models import architecture
from training.run import TrainingRequest, list_versions


def measure_test_part(
    split: Split, fitted: Fitted, decision: Decision
) -> tuple[Measurement, TestResults]:
    """Measure a model on the test part, on its data sets and on its planes.

    Args:
        split: the scans and their division.
        fitted: the model.
        decision: how its outputs become a verdict.

    Returns:
        The figures, and the answers that they are of.
    """
    dataset, test = split.dataset, split.test
    labels, healthy = dataset.labels[test], dataset.task.healthy
    probabilities = fitted.predict(split.take(test).inputs)
    without_tumor = [] if healthy is None else [healthy]
    answers, _ = decide_labels(probabilities, without_tumor, decision.tumor_from)
    # The validation part has a say in the model too.
    seen = np.concatenate([split.train, split.validation])
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
    names = [dataset.names[row] for row in test]
    sources = [name.partition("/")[0] for name in names]
    planes = [dataset.planes[row] for row in test]
    measurement = replace(
        measurement,
        by_source=evaluate_each(answers, labels, sources),
        by_plane=evaluate_each(answers, labels, planes),
        decision=evaluate_decision(probabilities, labels, dataset.classes, decision),
    )
    if len(split.unnamed_test) and healthy is not None:
        unnamed = split.take(split.unnamed_test)
        named, _ = decide_labels(fitted.predict(unnamed.inputs), without_tumor, decision.tumor_from)
        found = evaluate_unnamed(named != healthy, unnamed.groups)
        measurement = replace(measurement, unnamed_tumors=found)
    return measurement, TestResults(names, probabilities, labels, answers)


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
