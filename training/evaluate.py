"""What a model is worth, measured once on scans that had no part in making it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from brainscan.bundle import (
    HEALTHY_CLASSES,
    ClassFigures,
    Decision,
    DecisionFigures,
    Intervals,
    Leaks,
    Measurement,
    Mistake,
    Parts,
    SourceFigures,
    UnnamedFigures,
)
from training.decide import decide_labels

BOOTSTRAP_ROUNDS = 1000
_RELIABILITY_BINS = 10


@dataclass(frozen=True, eq=False)
class TestResults:
    """What the model said of the test part.

    Attributes:
        names: of the scans.
        probabilities: float32, shape (scans, classes).
        labels: int64, shape (scans,).
        answers: int64, shape (scans,): the classes that it names.
    """

    __test__ = False  # not a test case, whatever its name begins with

    names: Sequence[str]
    probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]
    answers: NDArray[np.int64]


def evaluate(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    classes: tuple[str, ...],
    *,
    protocol: str,
    parts: Parts,
    leaked: NDArray[np.bool_],
    answers: NDArray[np.int64] | None = None,
    seconds_per_epoch: float | None = None,
) -> Measurement:
    """Measure accuracy, loss, precision, recall, F1, confusion, ROC AUC and calibration.

    Of scans of one class only, the ROC AUC is NaN.

    Args:
        probabilities: float32, shape (scans, classes).
        labels: int64, shape (scans,).
        groups: int64, shape (scans,): near-duplicate groups. The bootstrap draws whole groups,
            since copies of a scan are not independent evidence.
        classes: their names, in the order of the columns.
        protocol: how the scans were divided.
        parts: the sizes of the parts.
        leaked: bool, shape (scans,): which have a near-duplicate in another part.
        answers: int64, shape (scans,): the classes that are named; by default the most probable.
        seconds_per_epoch: the median of the training.
    """
    guesses = probabilities.argmax(axis=1) if answers is None else answers
    known = range(len(classes))
    figures = metrics.precision_recall_fscore_support(
        labels, guesses, labels=known, zero_division=0
    )
    right = guesses == labels
    headline, intervals = _measure_headline(probabilities, labels, guesses, groups)
    # scikit-learn's loss insists on rows that sum to one in double precision.
    doubles = probabilities / probabilities.sum(axis=1, keepdims=True, dtype=np.float64)
    return Measurement(
        protocol=protocol,
        scans=len(labels),
        groups=len(np.unique(groups)),
        accuracy=headline["accuracy"],
        balanced_accuracy=headline["balanced_accuracy"],
        f1_macro=headline["f1_macro"],
        roc_auc=headline["roc_auc"],
        loss=float(metrics.log_loss(labels, doubles, labels=known)),
        calibration_error=calibration_error(probabilities, labels),
        intervals=intervals,
        bootstrap_rounds=BOOTSTRAP_ROUNDS,
        by_class={
            name: ClassFigures(float(precision), float(recall), float(f1), int(scans))
            for name, precision, recall, f1, scans in zip(classes, *figures, strict=True)
        },
        confusion=tuple(
            map(tuple, metrics.confusion_matrix(labels, guesses, labels=known).tolist())
        ),
        mistakes=_list_mistakes(probabilities, labels, guesses, classes),
        parts=parts,
        leaks=Leaks(
            scans=int(leaked.sum()),
            accuracy_with=float(right[leaked].mean()) if leaked.any() else None,
            accuracy_without=float(right[~leaked].mean()) if not leaked.all() else None,
        ),
        seconds_per_epoch=seconds_per_epoch,
    )


def evaluate_each(
    answers: NDArray[np.int64], labels: NDArray[np.int64], names: Sequence[str]
) -> dict[str, SourceFigures]:
    """Measure the answers to the scans of each data set, or of each plane.

    Args:
        answers: int64, shape (scans,).
        labels: int64, shape (scans,).
        names: of each scan, the data set that it is from, or the plane.
    """
    found = {}
    for name in sorted(set(names)):
        here = np.array(names) == name
        right = float((answers[here] == labels[here]).mean())
        found[name] = SourceFigures(int(here.sum()), right)
    return found


def evaluate_decision(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    decision: Decision,
) -> DecisionFigures:
    """Measure what the thresholds of a decision are worth.

    Args:
        probabilities: float32, shape (scans, classes).
        labels: int64, shape (scans,).
        classes: their names, in the order of the columns.
        decision: chosen on other scans.
    """
    healthy = [number for number, name in enumerate(classes) if name in HEALTHY_CLASSES]
    kinds = np.setdiff1d(np.arange(len(classes)), healthy)
    tumor, truth = probabilities[:, kinds].sum(axis=1), np.isin(labels, kinds)
    answers, confidence = decide_labels(probabilities, healthy, decision.tumor_from)
    lowest, highest = decision.unclear
    unclear = (tumor > lowest) & (tumor < highest)
    seen = tumor >= decision.tumor_from
    least = np.array([decision.kind_from.get(classes[kind], 2.0) for kind in kinds])
    remain = probabilities[:, kinds] >= least
    named = kinds == answers[:, np.newaxis]  # which remains in any case
    open_kind = seen & ((remain | named).sum(axis=1) > 1)
    sure = (confidence >= decision.sure_from) & ~unclear & ~open_kind
    covered = left = None
    if decision.kind_from and truth.any():
        covered = float(remain[truth, np.searchsorted(kinds, labels[truth])].mean())
        left = float(remain[truth].sum(axis=1).mean())
    both = bool(truth.any() and not truth.all())
    return DecisionFigures(
        float(metrics.balanced_accuracy_score(truth, seen)) if both else None,
        float(metrics.roc_auc_score(truth, tumor)) if both else None,
        float(unclear.mean()),
        float(sure.mean()),
        float((answers == labels)[sure].mean()) if sure.any() else None,
        covered,
        left,
    )


def evaluate_unnamed(seen: NDArray[np.bool_], groups: NDArray[np.int64]) -> UnnamedFigures:
    """Measure how often a tumour whose kind is not named is taken for one.

    Args:
        seen: bool, shape (scans,): whether the answer is a tumour of any kind.
        groups: int64, shape (scans,): near-duplicate groups, for the bootstrap.
    """
    shares = [float(np.average(seen, weights=times)) for times in _draw_groups(groups)]
    return UnnamedFigures(
        scans=len(seen),
        groups=len(np.unique(groups)),
        recognized=float(seen.mean()),
        interval=_find_interval(shares),
    )


def _find_interval(values: list[float]) -> tuple[float, float]:
    return float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))


def _draw_groups(groups: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Give how often each scan is in a round of the bootstrap, which draws whole groups."""
    random = np.random.default_rng(0)
    known, group_of = np.unique(groups, return_inverse=True)
    for _ in range(BOOTSTRAP_ROUNDS):
        drawn = random.integers(0, len(known), len(known))
        yield np.bincount(drawn, minlength=len(known))[group_of]


def _list_mistakes(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.int64],
    guesses: NDArray[np.int64],
    classes: tuple[str, ...],
) -> tuple[Mistake, ...]:
    """Give each pair of a label and a wrong answer, the one with the surest mistake first."""
    confidence = probabilities[np.arange(len(guesses)), guesses]
    wrong = guesses != labels
    found = []
    for label, answer in sorted(set(zip(labels[wrong], guesses[wrong], strict=True))):
        sure = confidence[(labels == label) & (guesses == answer)]
        found.append(Mistake(classes[label], classes[answer], len(sure), float(sure.max())))
    return tuple(sorted(found, key=lambda one: -one.confidence))


def _measure_headline(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.int64],
    guesses: NDArray[np.int64],
    groups: NDArray[np.int64],
) -> tuple[dict[str, float], Intervals]:
    """Give the figures that have an interval, and the intervals."""
    cells = labels * probabilities.shape[1] + guesses
    ranks = [np.unique(scores, return_inverse=True)[1] for scores in probabilities.T]

    def measure(times: NDArray[np.int64]) -> dict[str, float]:
        """Measure scans that count so many times each.

        By hand, as scikit-learn takes seconds for a thousand rounds.
        """
        confusion = np.bincount(cells, times, len(ranks) ** 2).reshape(len(ranks), -1)
        # A bootstrap draw may lack a class: the means are over those that it holds.
        (present,) = np.nonzero(confusion.sum(axis=1))
        right, held, guessed = (
            one[present]
            for one in (confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0))
        )
        areas = [_find_area(ranks[one], labels == one, times) for one in present]
        return {
            "accuracy": float(right.sum() / held.sum()),
            "balanced_accuracy": float((right / held).mean()),
            "f1_macro": float((2 * right / (held + guessed)).mean()),
            "roc_auc": float(np.mean(areas)),
        }

    several = len(np.unique(labels)) > 1
    rounds = [
        measure(times)
        for times in _draw_groups(groups)
        # Where all that were drawn are of one class, there is nothing to tell apart.
        if not several or len(np.unique(labels[times > 0])) > 1
    ]
    intervals = {name: _find_interval([one[name] for one in rounds]) for name in rounds[0]}
    return measure(np.ones_like(labels)), Intervals(**intervals)


def _find_area(
    ranks: NDArray[np.int64], positive: NDArray[np.bool_], times: NDArray[np.int64]
) -> float:
    """Give the area under the ROC curve: the pairs that are in order, ties counting a half."""
    ours, others = (np.bincount(ranks, times * one) for one in (positive, ~positive))
    below = np.cumsum(others) - others / 2
    pairs = ours.sum() * others.sum()
    return float(ours @ below / pairs) if pairs else math.nan


def calibration_error(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Give the expected calibration error: how far confidence and accuracy lie apart, 0 to 1."""
    bins = reliability(probabilities, labels)
    return sum(share * abs(confidence - accuracy) for confidence, accuracy, share in bins)


def reliability(
    probabilities: NDArray[np.float32], labels: NDArray[np.int64]
) -> list[tuple[float, float, float]]:
    """Give mean confidence, accuracy and share of the scans for each bin of confidence in use."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * _RELIABILITY_BINS).astype(int), _RELIABILITY_BINS - 1)
    return [
        (float(confidence[here].mean()), float(right[here].mean()), float(here.mean()))
        for here in (bins == number for number in np.unique(bins))
    ]
