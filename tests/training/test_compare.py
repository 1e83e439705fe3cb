"""A new model next to the one that is served."""

from dataclasses import replace

import pytest

from brainscan.bundle import Card, Intervals, Parts
from tests.cards import FOUR_CLASSES, draw_measurement, draw_training, draw_up_card
from training.compare import is_worse


def make_card(accuracy: float, protocol: str = "grouped", **changes: object) -> Card:
    """Make up a card with an interval of 0.05 on both sides of its accuracy."""
    interval = (accuracy - 0.05, accuracy + 0.05)
    measured = draw_measurement(
        protocol=protocol,
        accuracy=accuracy,
        intervals=Intervals(*[interval] * 4),
    )
    return replace(draw_up_card(version=4, measurement=measured), **changes)


@pytest.mark.parametrize(("accuracy", "worse"), [(0.79, True), (0.8, False), (0.81, False)])
def test_on_the_same_test_scans_any_difference_counts(accuracy: float, worse: bool) -> None:
    refit = make_card(0.8, training=draw_training(refit=True))
    for served in (make_card(0.8), refit):  # the figures of both are of models that had not seen it
        found, told = is_worse(make_card(accuracy), served)
        assert found is worse
        assert told == (
            "On the same test scans, version 4, which is served, has an accuracy of 0.8000, this "
            f"model of {accuracy:.4f}."
        )


OTHER_DATA = {"training": draw_training(manifest="other")}


@pytest.mark.parametrize(
    ("accuracy", "protocol", "worse"),
    [
        (0.75, "grouped", False),
        (0.65, "grouped", True),
        (0.65, "official", True),
        (0.65, "patient", False),  # stricter, so its figure is lower by itself
    ],
)
def test_on_other_test_scans_only_a_clear_difference_counts(
    accuracy: float, protocol: str, worse: bool
) -> None:
    found, told = is_worse(make_card(accuracy, protocol, **OTHER_DATA), make_card(0.8))
    assert found is worse
    assert "may have been trained on these test scans. On its own (grouped) it has an acc" in told
    ending = "so this model is clearly worse." if worse else "does not show that this model is wor"
    assert ending in told


@pytest.mark.parametrize(
    "changes",
    [
        {"training": draw_training(seed=8)},
        {"training": None},
        {"measurement": draw_measurement(parts=Parts(31, 4, 10))},
    ],
)
def test_another_division_has_other_test_scans(changes: dict[str, object]) -> None:
    assert "compared closely" in is_worse(make_card(0.5, **changes), make_card(0.5))[1]


def test_what_cannot_be_compared_is_not_worse() -> None:
    imported = make_card(0.8, measurement=None)
    assert is_worse(make_card(0.1), imported) == (
        False,
        "It cannot be compared with version 4, which is served, as that was not measured.",
    )
    fewer = FOUR_CLASSES[:3]
    other = make_card(0.1, classes=fewer, measurement=draw_measurement(fewer, accuracy=0.1))
    found, told = is_worse(other, make_card(0.8))
    assert not found
    assert told.endswith("as that has other classes.")
