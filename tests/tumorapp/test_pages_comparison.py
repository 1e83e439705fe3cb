"""On what models agree that differ in their classes."""

from collections.abc import Callable

import pytest

from brainscan.bundle import Card
from tumorapp.inference import Prediction
from tumorapp.pages.comparison import Comparison, Opinion

MakeCard = Callable[..., Card]


@pytest.fixture
def opine(make_card: MakeCard) -> Callable[..., Opinion]:
    """Make a model's opinion: `opine("binary-cnn", healthy=0.2, tumor=0.8)`."""

    def opine(name: str, **probabilities: float) -> Opinion:
        card = make_card(name, classes=tuple(probabilities))
        label = max(probabilities, key=probabilities.__getitem__)
        tumor = card.is_tumor(label)
        found = Prediction("a.png", label, tumor, probabilities[label], probabilities, (), None)
        return Opinion(card, found)

    return opine


def test_classes_differ_and_still_they_agree(opine: Callable[..., Opinion]) -> None:
    two = opine("binary-cnn", healthy=0.2, tumor=0.8)
    four = opine("mobilenet-v2", glioma=0.71, meningioma=0.02, notumor=0.25, pituitary=0.02)
    assert two.tumor_share == pytest.approx(0.8)
    assert four.tumor_share == pytest.approx(0.75)
    assert (two.tells_kinds, four.tells_kinds) == (False, True)
    comparison = Comparison([two, four])
    assert (comparison.tumors, comparison.agrees) == (2, True)
    assert comparison.kinds == [("glioma", 1)]


def test_a_kind_may_be_disputed(opine: Callable[..., Opinion]) -> None:
    opinions = [
        opine("a", glioma=0.2, pituitary=0.7, notumor=0.1),
        opine("b", glioma=0.9, pituitary=0.05, notumor=0.05),
        opine("c", glioma=0.8, pituitary=0.1, notumor=0.1),
        opine("d", healthy=0.9, tumor=0.1),
    ]
    comparison = Comparison(opinions)
    assert (comparison.tumors, comparison.agrees) == (3, False)
    assert comparison.kinds == [("glioma", 2), ("pituitary", 1)]


def test_no_tumour_is_agreement_as_well(opine: Callable[..., Opinion]) -> None:
    # Most of it is tumour, though each kind is less probable than none.
    torn = opine("a", glioma=0.3, pituitary=0.3, notumor=0.4)
    sure = opine("b", healthy=0.9, tumor=0.1)
    comparison = Comparison([torn, sure, sure])
    assert (comparison.tumors, comparison.agrees) == (0, True)
    assert comparison.kinds == []
    assert torn.tumor_share == pytest.approx(0.6)


def test_uncertain_answers_do_not_count(opine: Callable[..., Opinion]) -> None:
    sure = opine("a", glioma=0.9, pituitary=0.05, notumor=0.05)
    unsure = opine("b", glioma=0.1, pituitary=0.65, notumor=0.25)
    against = opine("c", healthy=0.69, tumor=0.31)
    assert [one.uncertain for one in (sure, unsure, against)] == [False, True, True]
    comparison = Comparison([sure, unsure, against])
    assert comparison.certain == [sure]
    assert (comparison.tumors, comparison.agrees) == (1, True)
    assert comparison.kinds == [("glioma", 1)]
