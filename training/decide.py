"""How outputs become a verdict: every threshold, chosen on the validation part."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from brainscan.bundle import HEALTHY_CLASSES, Decision, LesionMap

Floats = NDArray[np.floating]

# The threshold between tumour and none: logits of the probabilities it may have, 0.047 to 0.953.
_LOGITS = np.arange(-3, 3.01, 0.05)
_WINDOW = 10  # of these to either side, over which the balanced accuracy is averaged
_AS_GOOD = 0.001  # of balanced accuracy: what lies this near to the best is a plateau
_MOST_UNCLEAR = 0.03  # of the scans
_ERRORS_LEFT = 0.5  # of those on tumour or none, outside of what is left open
_ERROR_AMONG_SURE = 0.02
_SURE_AT_LEAST = 0.95  # of the answers, where no confidence keeps that error
_PROMISED = 0.95
_LEAST_POSSIBLE = 0.05
_MARKED_HEALTHY = 0.03  # of heads without a tumour
_LEVELS = np.arange(0.05, 0.96, 0.025)


class DecisionError(ValueError):
    """The validation part cannot tell where the thresholds lie; the message says why."""


def choose_decision(
    probabilities: Floats, labels: NDArray[np.int64], classes: Sequence[str]
) -> Decision:
    """Choose every threshold between the probabilities of a model and its verdict.

    Args:
        probabilities: shape (scans, classes), calibrated, of the validation part.
        labels: shape (scans,): what these scans show.
        classes: their names.

    Raises:
        DecisionError: no scan with a tumour, or none without one though a class means that; or no
            scan of a kind of tumour.
    """
    healthy = [number for number, name in enumerate(classes) if name in HEALTHY_CLASSES]
    counts = np.bincount(labels, minlength=len(classes))
    for name, count in zip(classes, counts.tolist(), strict=True):
        if not count:
            raise DecisionError(
                f"The validation part holds no scan of {name}: thresholds are chosen on scans of "
                "every class. Add scans of it, or leave its folder out with --exclude."
            )
    kinds = [number for number in range(len(classes)) if number not in healthy]
    tumor = probabilities[:, kinds].sum(axis=1)
    truth = np.isin(labels, kinds)
    tumor_from, unclear = 0.5, (0.5, 0.5)
    if healthy:
        tumor_from = choose_tumor_threshold(tumor, truth)
        unclear = choose_unclear(tumor, truth, tumor_from)
    answers, confidence = decide_labels(probabilities, healthy, tumor_from)
    return Decision(
        tumor_from,
        unclear,
        choose_sure_threshold(confidence, answers == labels),
        choose_kinds(probabilities, labels, {classes[kind]: kind for kind in kinds}),
        _PROMISED,
    )


def decide_labels(
    probabilities: Floats, healthy: Sequence[int], tumor_from: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Give the class that is named of each scan, and its probability: shape (scans,) each.

    The most probable kind of tumour where a tumour of any kind is probable enough, else the most
    probable class without one.
    """
    shares = np.asarray(probabilities, np.float64)
    without = np.isin(np.arange(shares.shape[1]), healthy)
    tumor = shares[:, ~without].sum(axis=1) >= tumor_from if without.any() else True
    possible = np.where(without, -1.0, shares), np.where(without, shares, -1.0)
    open_to = np.where(np.reshape(tumor, (-1, 1)), *possible)
    answers = open_to.argmax(axis=1)
    return answers, shares[np.arange(len(shares)), answers]


def choose_tumor_threshold(tumor: Floats, truth: NDArray[np.bool_]) -> float:
    """Find the probability of a tumour from which answers are right most often, 0.047 to 0.953.

    Right in the mean of scans with and without a tumour. That mean jumps with every scan, so it is
    smoothed, and the middle of the plateau around its highest point is taken.

    Args:
        tumor: shape (scans,): probability of a tumour of any kind.
        truth: shape (scans,): whether there is one; both cases are there.
    """
    logits = _to_logits(tumor)
    wide = np.pad(_LOGITS, _WINDOW, "reflect", reflect_type="odd")
    found = np.array([logits[truth] >= one for one in wide]).mean(axis=1)
    spared = np.array([logits[~truth] < one for one in wide]).mean(axis=1)
    window = np.hanning(2 * _WINDOW + 3)[1:-1]
    smooth = np.convolve((found + spared) / 2, window / window.sum(), "valid")
    best = int(smooth.argmax())
    others = np.nonzero(smooth < smooth[best] - _AS_GOOD)[0]
    first = max(others[others < best], default=-1) + 1
    last = min(others[others > best], default=len(smooth)) - 1
    return _to_share((_LOGITS[first] + _LOGITS[last]) / 2)


def choose_unclear(
    tumor: Floats, truth: NDArray[np.bool_], tumor_from: float
) -> tuple[float, float]:
    """Find between which probabilities of a tumour it is left open whether there is one.

    The narrowest interval around the threshold that holds half of the errors, and at most 3 % of
    the scans.

    Args:
        tumor: shape (scans,): probability of a tumour of any kind.
        truth: shape (scans,): whether there is one.
        tumor_from: the threshold.
    """
    away = np.abs(_to_logits(tumor) - _to_logits(tumor_from))
    wrong = (tumor >= tumor_from) != truth
    if not wrong.any():
        return tumor_from, tumor_from
    wanted = np.quantile(away[wrong], 1 - _ERRORS_LEFT, method="inverted_cdf")
    allowed = np.sort(away)[int(_MOST_UNCLEAR * len(away))]
    half = float(min(wanted, allowed)) + 1e-3  # so that what is on the edge is within
    middle = float(_to_logits(tumor_from))
    return _to_share(middle - half), _to_share(middle + half)


def choose_sure_threshold(confidence: Floats, right: NDArray[np.bool_]) -> float:
    """Find the smallest confidence from which at most 2 % of the answers are wrong.

    One more error is counted than was found, as among unseen scans there may be one. Where no
    confidence keeps to 2 %, as one patient with many slices may be mistaken with the highest, it is
    the confidence that 95 % of the answers reach.

    Args:
        confidence: shape (scans,): probability of the class that is named.
        right: shape (scans,): whether that class is the scan's.
    """
    order = np.argsort(-np.asarray(confidence, np.float64), kind="stable")
    errors = np.cumsum(~right[order])
    accepted = (errors + 1) / (np.arange(len(order)) + 2) <= _ERROR_AMONG_SURE
    if not accepted.any():
        return _round_down(float(np.quantile(confidence, 1 - _SURE_AT_LEAST)))
    return _round_down(confidence[order[np.nonzero(accepted)[0][-1]]])


def choose_kinds(
    probabilities: Floats, labels: NDArray[np.int64], kinds: dict[str, int]
) -> dict[str, float]:
    """Find the probability from which each kind of tumour remains possible.

    Class-conditional conformal prediction (Vovk, 2012): of the unseen scans of each kind, at least
    95 % keep that kind, if they are like these. It is never below 0.05: a single patient who is
    mistaken for sure would else leave that kind possible in nearly every scan. What is kept in
    truth is measured on the test part.

    Args:
        probabilities: shape (scans, classes).
        labels: shape (scans,).
        kinds: name → column. Of fewer than two there is nothing to choose.
    """
    if len(kinds) < 2:
        return {}
    return {
        name: max(
            _LEAST_POSSIBLE, _take_lower(probabilities[labels == column, column], 1 - _PROMISED)
        )
        for name, column in kinds.items()
    }


def _take_lower(shares: Floats, missed: float) -> float:
    """Give a number that unseen shares are below with at most such a probability."""
    rank = math.floor((len(shares) + 1) * missed)
    return _round_down(np.sort(shares)[rank - 1]) if rank else 0.0


def see_tumors(
    probabilities: Floats, classes: Sequence[str], decision: Decision
) -> NDArray[np.bool_]:
    """Tell which scans are not said to be free of a tumour: bool, shape (scans,).

    Only in these is a region marked, as only their verdict is not "no-tumor".
    """
    kinds = [number for number, name in enumerate(classes) if name not in HEALTHY_CLASSES]
    tumor = probabilities[:, kinds].sum(axis=1)
    return np.asarray((tumor >= decision.tumor_from) | (tumor > decision.unclear[0]), np.bool_)


def choose_lesion_map(lesions: Floats, outlines: NDArray[np.bool_], healthy: Floats) -> LesionMap:
    """Choose when a lesion map marks a region.

    Args:
        lesions: shape (scans, rows, columns), 0 to 1: maps of scans with an outlined tumour.
        outlines: the same shape: where that tumour is.
        healthy: shape (scans, rows, columns): maps of heads without a tumour, blank where the
            answer is a class without one.

    Raises:
        DecisionError: there are no outlined scans, or no heads without a tumour.
    """
    if not len(lesions) or not len(healthy):
        raise DecisionError(
            f"The validation part holds {len(lesions)} scans with an outlined tumour and "
            f"{len(healthy)} heads without one: of both, some are needed to choose when a lesion "
            "map marks a region."
        )
    region_from = _round_down(
        max(_LEVELS, key=lambda level: measure_dice(lesions, outlines, level))
    )
    peaks = healthy.reshape(len(healthy), -1).max(axis=1)
    blank = float(np.quantile(peaks, 1 - _MARKED_HEALTHY, method="higher"))
    marked_from = math.nextafter(math.ceil(blank * 1e4) / 1e4, 2.0)
    return LesionMap(region_from, min(1.0, max(region_from, marked_from)))


def measure_dice(lesions: Floats, outlines: NDArray[np.bool_], level: float) -> float:
    """Give the mean overlap (Dice) of outlines and the regions where maps reach a level, 0 to 1."""
    regions = lesions >= level
    shared = (regions & outlines).sum(axis=(1, 2))
    return float((2 * shared / np.maximum(regions.sum((1, 2)) + outlines.sum((1, 2)), 1)).mean())


def _to_logits(shares: Floats | float) -> NDArray[np.float64]:
    inside = np.clip(np.asarray(shares, np.float64), 1e-7, 1 - 1e-7)
    logits: NDArray[np.float64] = np.log(inside / (1 - inside))
    return logits


def _to_share(logit: float) -> float:
    return round(1 / (1 + math.exp(-logit)), 4)


def _round_down(share: float) -> float:
    """Round to four digits, so that what was at a threshold stays on its side of it."""
    return math.floor(float(share) * 1e4) / 1e4
