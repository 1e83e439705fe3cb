"""Mistakes, counted from a confusion matrix."""

from brainscan.bundle import Card, Mistake
from tests.cards import draw_measurement, draw_up_card
from tumorapp.pages.mistakes import Confusion, Share, count_mistakes

Matrix = tuple[tuple[int, ...], ...]


def make_card(matrix: Matrix, name: str = "binary-cnn", **measured: object) -> Card:
    card = draw_up_card(name)
    measurement = draw_measurement(card.classes, confusion=matrix, **measured)
    return draw_up_card(name, measurement=measurement)


def test_two_classes_by_hand() -> None:
    mistakes = (Mistake("tumor", "healthy", 4, 0.8),)
    found = count_mistakes(make_card(((90, 10), (4, 46)), mistakes=mistakes))
    assert found is not None
    assert found.wrong == Share(14, 150)
    assert found.missed == Share(4, 50)
    assert found.false_alarms == Share(10, 100)
    assert found.confusions == (
        Confusion(10, 100, "healthy", "tumor", None),
        Confusion(4, 50, "tumor", "healthy", 0.8),
    )
    assert found.confusions[0].rate == 0.1


def test_the_most_frequent_come_first_and_none_is_lost() -> None:
    matrix = ((10, 3, 0, 1), (2, 10, 9, 0), (0, 1, 10, 1), (0, 0, 4, 10))
    found = count_mistakes(make_card(matrix, "mobilenet-v2"))
    assert found is not None
    assert [one.count for one in found.confusions] == [9, 4, 3, 2, 1]
    assert found.wrong.count == 21 == sum(one.count for one in found.confusions) + found.rest


def test_without_a_healthy_class_nothing_is_missed() -> None:
    classes = ("glioma", "meningioma")
    found = count_mistakes(draw_up_card(classes=classes))
    assert found is not None
    assert found.missed is None
    assert found.false_alarms is None


def test_a_model_without_mistakes() -> None:
    found = count_mistakes(make_card(((5, 0), (0, 0))))
    assert found is not None
    assert found.wrong == Share(0, 5)
    assert found.confusions == ()
    assert found.missed == Share(0, 0)
    assert found.missed.rate == 0


def test_a_model_of_which_nothing_was_measured() -> None:
    assert count_mistakes(draw_up_card(measurement=None)) is None
