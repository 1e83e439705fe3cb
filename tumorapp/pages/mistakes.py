"""What a model gets wrong, counted from its confusion matrix, for a page to say in words."""

from collections.abc import Iterable
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
        missed: scans with a tumour that were called healthy, of those with one; None where no
            class is healthy, or all are.
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
    """Count the mistakes on a card; None where it has no confusion matrix of its classes."""
    matrix = card.metrics.get("confusion")
    width = len(card.classes)
    if not matrix or len(matrix) != width or any(len(counts) != width for counts in matrix):
        return None
    labels = range(width)
    confusions = sorted(
        (
            _describe(card, label, answer)
            for label in labels
            for answer in labels
            if label != answer
        ),
        key=lambda one: (-one.count, -one.rate),
    )
    shown = tuple(one for one in confusions[:CONFUSIONS_SHOWN] if one.count)
    tumors = [label for label in labels if card.is_tumor(card.classes[label])]
    healthy = [label for label in labels if label not in tumors]
    both = tumors and healthy
    wrong = sum(one.count for one in confusions)
    return Mistakes(
        wrong=Share(wrong, sum(map(sum, matrix))),
        missed=_share(card, tumors, healthy) if both else None,
        false_alarms=_share(card, healthy, tumors) if both else None,
        confusions=shown,
        rest=wrong - sum(one.count for one in shown),
    )


def _describe(card: Card, label: int, answer: int) -> Confusion:
    counts = card.metrics["confusion"][label]
    names = card.classes[label], card.classes[answer]
    known = {
        (one["label"], one["answer"]): one["confidence"] for one in card.metrics.get("mistakes", ())
    }
    return Confusion(counts[answer], sum(counts), *names, known.get(names))


def _share(card: Card, labels: Iterable[int], answers: Iterable[int]) -> Share:
    matrix, answers = card.metrics["confusion"], list(answers)
    rows = [matrix[label] for label in labels]
    return Share(sum(row[answer] for row in rows for answer in answers), sum(map(sum, rows)))
