"""What a model gets wrong, counted from its confusion matrix, for a page to say in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from brainscan.bundle import Card

CONFUSIONS_SHOWN = 5


@dataclass(frozen=True)
class Share:
    """So many of so many scans."""

    count: int
    scans: int

    @property
    def rate(self) -> float:
        """The count as a share of the scans, 0 to 1."""
        return self.count / self.scans if self.scans else 0.0


@dataclass(frozen=True)
class Confusion(Share):
    """Scans of one label that were all given the same wrong answer.

    Attributes:
        confidence: the highest that it gave such an answer, 0 to 1; None where the card has none.
    """

    label: str
    answer: str
    confidence: float | None


@dataclass(frozen=True)
class Mistakes:
    """The mistakes on the test part.

    Attributes:
        wrong: of all its scans.
        missed: scans with a tumour of which the model said that there is none, of those with one;
            None where no class means that, or all do.
        false_alarms: scans without a tumour that were called one, of those without; None likewise.
        confusions: the most frequent first, at most five.
        rest: how many scans the other confusions are of.
    """

    wrong: Share
    missed: Share | None
    false_alarms: Share | None
    confusions: tuple[Confusion, ...]
    rest: int


def count_mistakes(card: Card) -> Mistakes | None:
    """Count the mistakes on a card; None where nothing was measured."""
    measured = card.measurement
    if measured is None:
        return None
    matrix, labels = measured.confusion, range(len(card.classes))
    surest = {(one.label, one.answer): one.confidence for one in measured.mistakes}
    confusions = sorted(
        (
            Confusion(
                matrix[label][answer],
                sum(matrix[label]),
                card.classes[label],
                card.classes[answer],
                surest.get((card.classes[label], card.classes[answer])),
            )
            for label in labels
            for answer in labels
            if label != answer
        ),
        key=lambda one: (-one.count, -one.rate),
    )
    shown = tuple(one for one in confusions[:CONFUSIONS_SHOWN] if one.count)
    tumors = [label for label in labels if card.is_tumor(card.classes[label])]
    others = [label for label in labels if label not in tumors]
    both = tumors and others
    wrong = sum(one.count for one in confusions)
    return Mistakes(
        wrong=Share(wrong, sum(map(sum, matrix))),
        missed=_share(matrix, tumors, others) if both else None,
        false_alarms=_share(matrix, others, tumors) if both else None,
        confusions=shown,
        rest=wrong - sum(one.count for one in shown),
    )


def _share(matrix: Sequence[Sequence[int]], labels: list[int], answers: list[int]) -> Share:
    rows = [matrix[label] for label in labels]
    return Share(sum(row[answer] for row in rows for answer in answers), sum(map(sum, rows)))
