"""What a model's probabilities come to: one of five verdicts, by the rules of its card."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from brainscan.bundle import Card

Verdict = Literal["tumor", "tumor-kind-unclear", "no-tumor", "unclear", "not-recognised"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

# Of a model whose card has no decision. Few answers are below it, and nearly half of the mistakes:
# see docs/decisions.md.
UNCERTAIN_BELOW = 0.7


@dataclass(frozen=True)
class Judgement:
    """What the probabilities of one scan come to.

    Attributes:
        verdict: "tumor" of one kind; "tumor-kind-unclear"; "no-tumor"; "unclear" whether there is
            one; "not-recognised" as a slice of a head.
        label: the most probable kind of tumour where there seems to be one, else the most probable
            of the other classes, whatever the verdict.
        confidence: the probability of that class, 0 to 1.
        tumor: whether that class is a tumour.
        tumor_probability: of a tumour of any kind, 0 to 1.
        possible: the kinds of tumour that remain, in the model's order; none where there seems to
            be no tumour.
        unsure: whether the confidence is below the card's.
        in_distribution: whether the picture is like those that the model knows; None where the
            model cannot tell.
    """

    verdict: Verdict
    label: str
    confidence: float
    tumor: bool
    tumor_probability: float
    possible: tuple[str, ...]
    unsure: bool
    in_distribution: bool | None

    @property
    def uncertain(self) -> bool:
        """Whether the answer leaves something open, or its confidence is low."""
        return self.unsure or self.verdict in ("unclear", "tumor-kind-unclear")


class Judged(ABC):
    """What a model gave probabilities, and what those come to."""

    @property
    @abstractmethod
    def judgement(self) -> Judgement:
        """What the probabilities come to."""

    @property
    def verdict(self) -> Verdict:
        """The answer in one of five words; see `Judgement`."""
        return self.judgement.verdict

    @property
    def label(self) -> str:
        """The most probable kind of tumour where there seems to be one, else the healthy class."""
        return self.judgement.label

    @property
    def confidence(self) -> float:
        """The probability of that class, 0 to 1."""
        return self.judgement.confidence

    @property
    def tumor(self) -> bool:
        """Whether that class is a tumour."""
        return self.judgement.tumor

    @property
    def tumor_probability(self) -> float:
        """The probability of a tumour of any kind, 0 to 1."""
        return self.judgement.tumor_probability

    @property
    def possible(self) -> tuple[str, ...]:
        """The kinds of tumour that remain; none where there seems to be no tumour."""
        return self.judgement.possible

    @property
    def uncertain(self) -> bool:
        """Whether the answer leaves something open, or many with such a confidence are wrong."""
        return self.judgement.uncertain

    @property
    def in_distribution(self) -> bool | None:
        """Whether the picture is like those that the model knows; None where it cannot tell."""
        return self.judgement.in_distribution


def judge(
    card: Card,
    probabilities: Mapping[str, float],
    *,
    resembles_scan: bool = True,
    distance: float | None = None,
) -> Judgement:
    """Say what the probabilities of a scan come to.

    Args:
        card: the model's. Without a decision on it, the most probable class counts.
        probabilities: of every class, 0 to 1, summing to 1.
        resembles_scan: what `Picture.resembles_scan` says.
        distance: from the scans that the model knows; None where it cannot tell.
    """
    kinds = {label: share for label, share in probabilities.items() if card.is_tumor(label)}
    others = {label: share for label, share in probabilities.items() if label not in kinds}
    tumor_probability = round(min(1.0, sum(kinds.values())), 6)
    tumor = not others or _seems_tumor(card, probabilities, tumor_probability)
    seen = kinds if tumor else others
    label = max(seen, key=seen.__getitem__)
    confidence = seen[label]
    possible = _list_possible(card, kinds, label) if tumor else ()
    recognised = resembles_scan and _is_familiar(card, distance)
    return Judgement(
        verdict=_choose(card, tumor_probability, possible) if recognised else "not-recognised",
        label=label,
        confidence=confidence,
        tumor=tumor,
        tumor_probability=tumor_probability,
        possible=possible,
        unsure=confidence < sure_from(card),
        in_distribution=None if recognised and distance is None else recognised,
    )


def sure_from(card: Card) -> float:
    """Give the confidence, 0 to 1, from which a model's answers are not called uncertain."""
    return UNCERTAIN_BELOW if card.decision is None else card.decision.sure_from


def _seems_tumor(card: Card, probabilities: Mapping[str, float], tumor_probability: float) -> bool:
    if card.decision is None:
        return card.is_tumor(max(probabilities, key=probabilities.__getitem__))
    return tumor_probability >= card.decision.tumor_from


def _list_possible(card: Card, kinds: Mapping[str, float], label: str) -> tuple[str, ...]:
    """List the kinds that remain. The most probable always does: it is what the answer names."""
    least = card.decision.kind_from if card.decision else {}
    return tuple(
        kind for kind, share in kinds.items() if kind == label or share >= least.get(kind, 2.0)
    )


def _is_familiar(card: Card, distance: float | None) -> bool:
    return card.refusal is None or distance is None or distance <= card.refusal.distance_above


def _choose(card: Card, tumor_probability: float, possible: tuple[str, ...]) -> Verdict:
    if card.decision is not None:
        lowest, highest = card.decision.unclear
        if lowest < tumor_probability < highest:
            return "unclear"
    if not possible:
        return "no-tumor"
    return "tumor" if len(possible) == 1 else "tumor-kind-unclear"
