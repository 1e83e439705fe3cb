"""Mistakes, counted from a confusion matrix."""

from collections.abc import Callable
from typing import Any

import pytest

from brainscan.bundle import Card
from tumorapp.pages.mistakes import Confusion, Share, count_mistakes

MakeCard = Callable[..., Card]


def test_two_classes_by_hand(make_card: MakeCard) -> None:
    metrics = {
        "confusion": [[90, 10], [4, 46]],
        "mistakes": [{"label": "tumor", "answer": "healthy", "scans": 4, "confidence": 0.8}],
    }
    found = count_mistakes(make_card("binary-cnn", metrics=metrics))
    assert found is not None
    assert found.wrong == Share(14, 150)
    assert found.missed == Share(4, 50)
    assert found.false_alarms == Share(10, 100)
    assert found.confusions == (
        Confusion(10, 100, "healthy", "tumor", None),
        Confusion(4, 50, "tumor", "healthy", 0.8),
    )
    assert found.confusions[0].rate == 0.1


def test_the_most_frequent_come_first_and_none_is_lost(make_card: MakeCard) -> None:
    matrix = [[10, 3, 0, 1], [2, 10, 9, 0], [0, 1, 10, 1], [0, 0, 4, 10]]
    found = count_mistakes(make_card(metrics={"confusion": matrix}))
    assert found is not None
    assert [one.count for one in found.confusions] == [9, 4, 3, 2, 1]
    assert found.wrong.count == 21 == sum(one.count for one in found.confusions) + found.rest


def test_without_a_healthy_class_nothing_is_missed(make_card: MakeCard) -> None:
    card = make_card(classes=("glioma", "meningioma"), metrics={"confusion": [[5, 1], [0, 5]]})
    found = count_mistakes(card)
    assert found is not None
    assert found.missed is None
    assert found.false_alarms is None


def test_a_model_without_mistakes(make_card: MakeCard) -> None:
    found = count_mistakes(make_card("binary-cnn", metrics={"confusion": [[5, 0], [0, 0]]}))
    assert found is not None
    assert found.wrong == Share(0, 5)
    assert found.confusions == ()
    assert found.missed == Share(0, 0)
    assert found.missed.rate == 0


@pytest.mark.parametrize("matrix", [None, [], [[1, 2]], [[1], [2]], [[1, 2], [3]]])
def test_a_card_without_a_matrix_of_its_classes(make_card: MakeCard, matrix: Any) -> None:
    assert count_mistakes(make_card("binary-cnn", metrics={"confusion": matrix})) is None
