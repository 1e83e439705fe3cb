import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from brainscan.bundle import Decision
from training.decide import (
    DecisionError,
    choose_decision,
    choose_kinds,
    choose_lesion_map,
    choose_sure_threshold,
    choose_tumor_threshold,
    choose_unclear,
    decide_labels,
    see_tumors,
)
from training.evaluate import evaluate_decision

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")


def draw_outcomes(
    scans: int, seed: int, bias: float = 0.0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Give probabilities and labels; a bias speaks for the healthy class in all of them."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, scans)
    logits = random.normal(0, 1.2, (scans, 4)) + 4 * np.eye(4)[labels]
    return softmax(logits + bias * np.eye(4)[2], axis=1).astype(np.float32), labels


def test_the_thresholds_hold_on_other_scans() -> None:
    decision = choose_decision(*draw_outcomes(2000, 0, bias=1.5), CLASSES)
    figures = evaluate_decision(*draw_outcomes(4000, 1, bias=1.5), CLASSES, decision)
    assert decision.tumor_from < 0.5  # the bias is undone
    assert figures.tumor_balanced_accuracy > 0.96
    assert figures.sure_accuracy >= 0.975
    assert figures.sure > 0.8
    assert 0 < figures.unclear <= 0.05
    assert figures.kinds_covered == pytest.approx(0.95, abs=0.02)
    assert 0.9 < figures.kinds_left < 1.5


def test_an_answer_that_leaves_the_kind_open_is_not_sure() -> None:
    kinds = {"glioma": 0.1, "meningioma": 0.1, "pituitary": 0.1}
    decision = Decision(tumor_from=0.5, unclear=(0.5, 0.5), sure_from=0.6, kind_from=kinds)
    shares = [[0.7, 0.2, 0.05, 0.05], [0.9, 0.03, 0.05, 0.02], [0.15, 0.15, 0.7, 0.0]]
    labels = np.array([1, 0, 2])
    figures = evaluate_decision(np.array(shares, np.float32), labels, CLASSES, decision)
    assert (figures.sure, figures.sure_accuracy) == (pytest.approx(2 / 3), 1)


def test_two_classes() -> None:
    probabilities, labels = draw_outcomes(600, 0)
    two = np.stack([probabilities[:, 2], 1 - probabilities[:, 2]], axis=1)
    decision = choose_decision(two, (labels != 2).astype(np.int64), ("healthy", "tumor"))
    assert decision.kind_from == {}
    assert decision.unclear[0] <= decision.tumor_from <= decision.unclear[1]


def test_classes_that_are_all_tumours() -> None:
    probabilities, labels = draw_outcomes(600, 0)
    decision = choose_decision(probabilities, labels, ("a", "b", "c", "d"))
    figures = evaluate_decision(probabilities, labels, ("a", "b", "c", "d"), decision)
    assert (figures.tumor_roc_auc, figures.unclear) == (None, 0)
    assert figures.kinds_covered > 0.94


def test_a_part_without_a_class() -> None:
    probabilities, labels = draw_outcomes(100, 0)
    with pytest.raises(DecisionError, match="The validation part holds no scan of notumor"):
        choose_decision(probabilities[labels != 2], labels[labels != 2], CLASSES)


def test_the_threshold_lies_in_the_middle_of_a_gap() -> None:
    tumor = np.concatenate([np.full(30, 0.1), np.full(30, 0.9)])
    found = choose_tumor_threshold(tumor, np.arange(60) >= 30)
    assert found == pytest.approx(0.5, abs=0.02)
    assert choose_unclear(tumor, np.arange(60) >= 30, found) == (found, found)


def test_a_threshold_is_never_extreme() -> None:
    tumor = np.concatenate([np.full(30, 1e-6), np.full(30, 1e-4)])
    assert 0.04 < choose_tumor_threshold(tumor, np.arange(60) >= 30) < 0.96


def test_what_is_left_open_holds_half_of_the_errors_or_few_scans() -> None:
    tumor = np.concatenate([np.linspace(0.01, 0.3, 98), [0.52, 0.58], np.linspace(0.6, 0.99, 100)])
    truth = np.arange(200) >= 100
    low, high = choose_unclear(tumor, truth, 0.5)
    assert low < 0.48
    assert 0.52 < high < 0.53
    low, high = choose_unclear(tumor, np.arange(200) % 2 > 0, 0.5)
    assert ((tumor > low) & (tumor < high)).mean() <= 0.04


def test_sure_is_what_is_seldom_wrong() -> None:
    confidence = np.linspace(0.3, 1, 1000)
    right = np.ones(1000, bool)
    right[:300] = False
    threshold = choose_sure_threshold(confidence, right)
    sure = confidence >= threshold
    assert 0.97 < right[sure].mean() < 1
    few = choose_sure_threshold(confidence[:40], right[300:340])
    assert (confidence[:40] >= few).mean() == pytest.approx(0.95, abs=0.03)


def test_few_scans_of_a_kind_rule_nothing_out() -> None:
    probabilities, labels = draw_outcomes(40, 0)
    found = choose_kinds(probabilities, labels, {"glioma": 0, "meningioma": 1})
    assert found == {"glioma": 0.05, "meningioma": 0.05}


def test_the_answer_follows_the_threshold() -> None:
    probabilities = np.array([[0.2, 0.15, 0.6, 0.05], [0.1, 0.1, 0.75, 0.05]], np.float32)
    answers, confidence = decide_labels(probabilities, [2], 0.35)
    assert answers.tolist() == [0, 2]
    assert confidence == pytest.approx([0.2, 0.75])


def draw_maps(level: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Give maps that are that high on their outline, and half as high around it."""
    outlines = np.zeros((20, 16, 16), bool)
    outlines[:, 4:9, 4:9] = True
    around = np.zeros_like(outlines)
    around[:, 2:11, 2:11] = True
    return np.where(outlines, level, around * level / 2), outlines


def test_a_region_is_where_a_map_meets_the_outlines() -> None:
    lesions, outlines = draw_maps(0.8)
    healthy = np.zeros((100, 16, 16))
    healthy[:, 0, 0] = np.linspace(0, 0.6, 100)
    found = choose_lesion_map(lesions, outlines, healthy)
    assert 0.4 <= found.region_from <= 0.8
    assert (healthy.max(axis=(1, 2)) >= found.marked_from).mean() <= 0.03
    assert found.region_from <= found.marked_from < 0.8


def test_a_map_cannot_be_judged_without_outlines() -> None:
    lesions, outlines = draw_maps(0.8)
    with pytest.raises(DecisionError, match="holds 0 scans with an outlined tumour and 20 heads"):
        choose_lesion_map(lesions[:0], outlines[:0], lesions)


def test_what_is_left_open_may_be_a_tumor() -> None:
    tumor = np.array([0.1, 0.3, 0.5, 0.9])
    decision = Decision(tumor_from=0.4, unclear=(0.2, 0.6), sure_from=0.5)
    seen = see_tumors(np.column_stack([tumor, 1 - tumor]), ("glioma", "notumor"), decision)
    assert seen.tolist() == [False, True, True, True]
