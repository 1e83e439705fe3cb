"""On what models agree that differ in their classes."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from brainscan import Examination
from brainscan.bundle import Card, Decision
from brainscan.reading import Reading
from brainscan.scan import Box, PreparedScan
from tumorapp.pages.comparison import Comparison

MakeCard = Callable[..., Card]


@pytest.fixture
def opine(make_card: MakeCard) -> Callable[..., Examination]:
    """Make a model's opinion: `opine("binary-cnn", healthy=0.2, tumor=0.8)`."""

    pixels = np.zeros((64, 64, 1), np.uint8)
    reading = Reading("a.png", PreparedScan(pixels, Box(0, 0, 64, 64), (64, 64)))

    def opine(name: str, **probabilities: float) -> Examination:
        card = make_card(name, classes=tuple(probabilities))
        return Examination(reading, card, "fp16", probabilities, None, ())

    return opine


def test_classes_differ_and_still_they_agree(opine: Callable[..., Examination]) -> None:
    two = opine("binary-cnn", healthy=0.2, tumor=0.8)
    four = opine("mobilenet-v2", glioma=0.71, meningioma=0.02, notumor=0.25, pituitary=0.02)
    assert two.tumor_probability == pytest.approx(0.8)
    assert four.tumor_probability == pytest.approx(0.75)
    comparison = Comparison([two, four])
    assert (comparison.tumors, comparison.agrees) == (2, True)
    assert comparison.kinds == [("glioma", 1)]


def test_a_kind_may_be_disputed(opine: Callable[..., Examination]) -> None:
    opinions = [
        opine("a", glioma=0.2, pituitary=0.7, notumor=0.1),
        opine("b", glioma=0.9, pituitary=0.05, notumor=0.05),
        opine("c", glioma=0.8, pituitary=0.1, notumor=0.1),
        opine("d", healthy=0.9, tumor=0.1),
    ]
    comparison = Comparison(opinions)
    assert (comparison.tumors, comparison.agrees) == (3, False)
    assert comparison.kinds == [("glioma", 2), ("pituitary", 1)]


def test_no_tumour_is_agreement_as_well(opine: Callable[..., Examination]) -> None:
    # Most of it is tumour, though each kind is less probable than none.
    torn = opine("a", glioma=0.3, pituitary=0.3, notumor=0.4)
    sure = opine("b", healthy=0.9, tumor=0.1)
    comparison = Comparison([torn, sure, sure])
    assert (comparison.tumors, comparison.agrees) == (0, True)
    assert comparison.kinds == []
    assert torn.tumor_probability == pytest.approx(0.6)


def test_uncertain_answers_do_not_count(opine: Callable[..., Examination]) -> None:
    sure = opine("a", glioma=0.9, pituitary=0.05, notumor=0.05)
    unsure = opine("b", glioma=0.1, pituitary=0.65, notumor=0.25)
    against = opine("c", healthy=0.69, tumor=0.31)
    assert [one.uncertain for one in (sure, unsure, against)] == [False, True, True]
    comparison = Comparison([sure, unsure, against])
    assert comparison.decided == [sure]
    assert (comparison.tumors, comparison.agrees) == (1, True)
    assert comparison.kinds == [("glioma", 1)]


def test_a_tumour_of_an_open_kind_counts_as_a_tumour(opine: Callable[..., Examination]) -> None:
    decision = Decision(0.5, (0.4, 0.6), 0.7, kind_from={"glioma": 0.1, "pituitary": 0.1})
    shares = {"glioma": 0.5, "pituitary": 0.45, "notumor": 0.05}
    known = opine("a", **shares)
    kind_open = replace(known, card=replace(known.card, decision=decision))
    undecided = replace(kind_open, probabilities={"glioma": 0.5, "pituitary": 0, "notumor": 0.5})
    unknown = replace(known, reading=replace(known.reading, resembles_scan=False))
    opinions = [kind_open, undecided, unknown]
    verdicts = ["tumor-kind-unclear", "unclear", "not-recognised"]
    assert [one.verdict for one in opinions] == verdicts
    comparison = Comparison(opinions)
    assert comparison.decided == [kind_open]
    assert (comparison.tumors, comparison.kinds) == (1, [])
