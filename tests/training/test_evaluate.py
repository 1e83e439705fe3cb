from dataclasses import astuple

import numpy as np
import pytest
from numpy.typing import NDArray

from brainscan.bundle import ClassFigures, Measurement, Mistake, Parts
from brainscan.bundle.plain import read_json, write_json
from training.evaluate import calibration_error, evaluate_unnamed, reliability
from training.evaluate import evaluate as evaluate_all

Measured = tuple[NDArray[np.float32], NDArray[np.int64]]

# Five scans, three classes. Guesses: 0 1 1 2 0; labels: 0 1 2 2 1.
PROBABILITIES = np.array(
    [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.5, 0.3], [0.1, 0.3, 0.6], [0.6, 0.3, 0.1]],
    np.float32,
)
LABELS = np.array([0, 1, 2, 2, 1])
CLASSES = ("glioma", "meningioma", "pituitary")


def draw(scans: int, classes: int) -> Measured:
    random = np.random.default_rng(5)
    labels = random.integers(0, classes, scans)
    probabilities = random.dirichlet(np.ones(classes), scans)
    probabilities[np.arange(scans), labels] += 0.4
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities.astype(np.float32), labels


def evaluate(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    classes: tuple[str, ...],
    leaked: NDArray[np.bool_] | None = None,
) -> Measurement:
    return evaluate_all(
        probabilities,
        labels,
        groups,
        classes,
        protocol="grouped",
        parts=Parts(100, 10, len(labels)),
        leaked=np.zeros(len(labels), bool) if leaked is None else leaked,
    )


def test_the_figures_by_hand() -> None:
    measured = evaluate(PROBABILITIES, LABELS, np.arange(5), CLASSES)
    assert (measured.scans, measured.groups) == (5, 5)
    assert measured.confusion == ((1, 0, 0), (1, 1, 0), (0, 1, 1))  # rows are labels
    assert measured.accuracy == pytest.approx(3 / 5)
    assert measured.balanced_accuracy == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert {name: astuple(one) for name, one in measured.by_class.items()} == {
        "glioma": pytest.approx((1 / 2, 1, 2 / 3, 1)),
        "meningioma": pytest.approx((1 / 2, 1 / 2, 1 / 2, 2)),
        "pituitary": pytest.approx((1, 1 / 2, 2 / 3, 2)),
    }
    assert measured.f1_macro == pytest.approx((2 / 3 + 1 / 2 + 2 / 3) / 3)
    expected_loss = -np.log([0.7, 0.8, 0.3, 0.6, 0.3]).mean()
    assert measured.loss == pytest.approx(expected_loss, abs=1e-6)
    # Pairs of a scan of the class and another that are in order, ties counting a half:
    # glioma 4 of 4, meningioma 4.5 of 6, pituitary 6 of 6.
    assert measured.roc_auc == pytest.approx((1 + 4.5 / 6 + 1) / 3)
    assert measured.mistakes == (  # the surest pair comes first
        Mistake("meningioma", "glioma", 1, pytest.approx(0.6)),
        Mistake("pituitary", "meningioma", 1, pytest.approx(0.5)),
    )


def test_of_two_classes_the_area_is_that_of_the_second() -> None:
    probabilities = np.array([[0.8, 0.2], [0.4, 0.6], [0.3, 0.7]], np.float32)
    measured = evaluate(probabilities, np.array([0, 1, 0]), np.arange(3), ("healthy", "tumor"))
    assert measured.roc_auc == pytest.approx(1 / 2)  # above one of two


def test_scans_of_one_class_have_no_area() -> None:
    probabilities, _ = draw(40, 3)
    measured = evaluate(probabilities, np.zeros(40, np.int64), np.arange(40), CLASSES)
    low, high = measured.intervals.accuracy
    assert low < measured.accuracy < high
    assert np.isnan([measured.roc_auc, *measured.intervals.roc_auc]).all()


def test_it_is_json_and_reproducible() -> None:
    probabilities, labels = draw(60, 3)
    measured = evaluate(probabilities, labels, np.arange(60), CLASSES)
    assert read_json(Measurement, write_json(measured)) == measured
    assert evaluate(probabilities, labels, np.arange(60), CLASSES) == measured


def test_the_intervals_hold_the_figures() -> None:
    probabilities, labels = draw(300, 3)
    measured = evaluate(probabilities, labels, np.arange(300), CLASSES)
    for name in ("accuracy", "balanced_accuracy", "f1_macro", "roc_auc"):
        low, high = getattr(measured.intervals, name)
        assert low < getattr(measured, name) < high
    low, high = measured.intervals.accuracy
    accuracy = measured.accuracy
    normal = 2 * 1.96 * np.sqrt(accuracy * (1 - accuracy) / 300)
    assert high - low == pytest.approx(normal, rel=0.35)


def test_copies_of_a_scan_are_no_more_evidence_than_one() -> None:
    probabilities, labels = draw(80, 2)
    names, groups = ("healthy", "tumor"), np.arange(80)

    def width(copies: int, groups: NDArray[np.int64]) -> float:
        repeated = np.repeat(probabilities, copies, axis=0), np.repeat(labels, copies)
        low, high = evaluate(*repeated, groups, names).intervals.accuracy
        return high - low

    honest = width(9, np.repeat(groups, 9))
    assert honest == pytest.approx(width(1, groups), rel=0.01)
    assert width(9, np.arange(720)) < honest / 2


def test_rounds_that_miss_a_class_do_not_count() -> None:
    """Two groups: half of the draws hold one class only, of which no area can be told."""
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    measured = evaluate(probabilities, np.array([0, 1]), np.arange(2), ("healthy", "tumor"))
    assert measured.intervals.roc_auc == (1, 1)


def test_a_class_that_is_never_guessed_has_no_precision() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]], np.float32)
    measured = evaluate(probabilities, np.array([0, 0, 1]), np.arange(3), ("healthy", "tumor"))
    assert measured.by_class["tumor"] == ClassFigures(0, 0, 0, 1)


def test_tumours_without_a_name_are_recognised_or_not() -> None:
    groups = np.array([0, 0, 1, 2, 2])
    found = evaluate_unnamed(np.array([True, False, True, False, True]), groups)
    low, high = found.interval
    assert (found.scans, found.groups, found.recognized) == (5, 3, 0.6)
    assert 0 <= low <= 0.6 <= high <= 1


def test_reliability_by_hand() -> None:
    confidence = np.array([0.95, 0.91, 1.0, 0.55])
    probabilities = np.stack([confidence, 1 - confidence], axis=1).astype(np.float32)
    labels = np.array([0, 1, 0, 1])
    low, high = reliability(probabilities, labels)
    assert low == pytest.approx((0.55, 0, 1 / 4))
    assert high == pytest.approx(((0.95 + 0.91 + 1) / 3, 2 / 3, 3 / 4))
    expected = 1 / 4 * 0.55 + 3 / 4 * abs((0.95 + 0.91 + 1) / 3 - 2 / 3)
    assert calibration_error(probabilities, labels) == pytest.approx(expected)


def test_leaks_split_the_accuracy() -> None:
    leaked = np.array([True, True, True, False, False])  # two of three right, one of two
    leaks = evaluate(PROBABILITIES, LABELS, np.arange(5), CLASSES, leaked).leaks
    assert (leaks.scans, leaks.accuracy_with, leaks.accuracy_without) == (3, 2 / 3, 1 / 2)
    everywhere = evaluate(PROBABILITIES, LABELS, np.arange(5), CLASSES, leaked | True).leaks
    assert everywhere.accuracy_without is None
