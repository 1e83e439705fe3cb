"""How probabilities become one of five verdicts."""

from typing import Any

import pytest

from brainscan.bundle import Decision, Refusal
from brainscan.verdict import VERDICTS, judge
from tests.cards import FOUR_CLASSES, draw_up_card

DECISION = Decision(
    tumor_from=0.4,
    unclear=(0.3, 0.5),
    sure_from=0.8,
    kind_from={"glioma": 0.2, "meningioma": 0.3, "pituitary": 0.2},
)
KINDS = ("glioma", "meningioma", "pituitary")


def shares(*values: float) -> dict[str, float]:
    return dict(zip(FOUR_CLASSES, values, strict=True))


@pytest.mark.parametrize(
    ("values", "verdict", "label", "possible", "uncertain"),
    [
        ((0.90, 0.05, 0.03, 0.02), "tumor", "glioma", ("glioma",), False),
        ((0.70, 0.15, 0.10, 0.05), "tumor", "glioma", ("glioma",), True),
        ((0.10, 0.01, 0.10, 0.79), "tumor", "pituitary", ("pituitary",), True),
        # Nearly all of it a tumour, but of which kind?
        ((0.40, 0.35, 0.01, 0.24), "tumor-kind-unclear", "glioma", KINDS, True),
        # None reaches its own: the most probable one counts.
        ((0.19, 0.18, 0.45, 0.18), "tumor", "glioma", ("glioma",), True),
        # Another one does: the most probable one remains as well.
        ((0.22, 0.28, 0.40, 0.10), "tumor-kind-unclear", "meningioma", KINDS[:2], True),
        ((0.03, 0.03, 0.91, 0.03), "no-tumor", "notumor", (), False),
        ((0.10, 0.10, 0.70, 0.10), "no-tumor", "notumor", (), True),
        ((0.35, 0.05, 0.55, 0.05), "unclear", "glioma", ("glioma",), True),
        ((0.25, 0.05, 0.65, 0.05), "unclear", "notumor", (), True),
    ],
)
def test_by_the_decision_of_a_card(
    values: Any, verdict: str, label: str, possible: Any, uncertain: bool
) -> None:
    found = judge(draw_up_card(decision=DECISION), shares(*values))
    assert (found.verdict, found.label, found.uncertain) == (verdict, label, uncertain)
    assert found.possible == possible
    assert found.tumor == (label != "notumor")
    assert found.tumor_probability == pytest.approx(1 - values[2])
    assert found.confidence == shares(*values)[label]
    assert found.in_distribution is None
    assert found.verdict in VERDICTS


@pytest.mark.parametrize(
    ("values", "verdict", "uncertain"),
    [
        ((0.26, 0.25, 0.24, 0.25), "tumor", True),
        ((0.20, 0.20, 0.40, 0.20), "no-tumor", True),
        ((0.10, 0.10, 0.71, 0.09), "no-tumor", False),
    ],
)
def test_without_one_the_most_probable_class_counts(
    values: Any, verdict: str, uncertain: bool
) -> None:
    found = judge(draw_up_card(), shares(*values))
    assert (found.verdict, found.uncertain) == (verdict, uncertain)


def test_two_classes() -> None:
    card = draw_up_card("binary-cnn", decision=Decision(0.2, (0.2, 0.2), 0.7))
    found = judge(card, {"healthy": 0.75, "tumor": 0.25})
    assert (found.verdict, found.label, found.possible) == ("tumor", "tumor", ("tumor",))
    assert judge(card, {"healthy": 0.85, "tumor": 0.15}).verdict == "no-tumor"


def test_no_healthy_class() -> None:
    card = draw_up_card(classes=("a", "b"), measurement=None, decision=Decision(1, (1, 1), 0))
    assert judge(card, {"a": 0.599999, "b": 0.4}).label == "a"


@pytest.mark.parametrize(
    ("distance", "resembles", "in_distribution"),
    [
        (4.9, True, True),
        (5.1, True, False),
        (4.9, False, False),
        (None, True, None),
        (None, False, False),
    ],
)
def test_what_is_not_recognised(
    distance: float | None, resembles: bool, in_distribution: bool | None
) -> None:
    card = draw_up_card(refusal=None if distance is None else Refusal(5.0))
    found = judge(card, shares(0.7, 0.1, 0.1, 0.1), resembles_scan=resembles, distance=distance)
    assert found.in_distribution is in_distribution
    assert (found.verdict == "not-recognised") == (in_distribution is False)
