"""Which slices of a head count, and whether they agree on a tumour.

The numbers were fitted on the volumes of docs/volumes.md, of which one has a tumour.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from brainscan.bundle import Card

# A slice votes where its head is as large as this share of the largest one's. Near the top of the
# head, and below it, models find tumours in healthy heads.
_LEAST_HEAD = 0.5
# Slices within these mm agree on a tumour, and three at least: one alone may be mistaken.
_AGREEING = 10.0
_FEWEST_AGREEING = 3
# The mean log-odds of a tumour that make one as likely as not: midway between those of the volume
# with a tumour and of the healthy head that is most like it. The slope gives these two
# probabilities of about 0.77 and 0.23; what is between them is unclear.
_EVEN, _SLOPE, _UNCLEAR = 3.33, 4.0, (0.25, 0.75)
_MOST_ODDS = 9.0


@dataclass(frozen=True, eq=False)
class Vote:
    """What the slices of a head come to.

    Attributes:
        voters: bool, shape (slices,): whether a slice counts: it shows enough of the head.
        strong: bool, shape (slices,): whether it is among those that agree on a tumour.
        tumor_probability: of the head, 0 to 1, as the slices that agree most have it.
    """

    voters: NDArray[np.bool_]
    strong: NDArray[np.bool_]
    tumor_probability: float


def vote(
    card: Card,
    shares: NDArray[np.float64],
    recognised: NDArray[np.bool_],
    heads: NDArray[np.int64],
    step: float | None,
) -> Vote:
    """Let the slices of a head vote on whether it has a tumour.

    Args:
        card: the model's.
        shares: shape (slices,), in the order in which they lie: of a tumour on each, 0 to 1.
        recognised: likewise, whether it is like a slice of a head.
        heads: likewise, the size of the head on it.
        step: mm from slice to slice; None where that is unknown.
    """
    voters = recognised & (heads >= _LEAST_HEAD * heads[recognised].max(initial=0))
    if not voters.any():
        return Vote(voters, voters, float(shares.mean()))
    even, slope = (_EVEN, _SLOPE) if card.has_lesion_map else (0.0, 1.0)
    agreed = _agree(shares, voters, step)
    tumor_probability = 1 / (1 + math.exp(-slope * (float(agreed.max()) - even)))
    return Vote(voters, voters & (agreed >= even), tumor_probability)


def _agree(
    shares: NDArray[np.float64], voters: NDArray[np.bool_], step: float | None
) -> NDArray[np.float64]:
    """Give the mean log-odds of a tumour of each slice and those around it.

    One that does not vote has even odds among those around it, and the lowest of its own.
    """
    with np.errstate(divide="ignore"):
        odds = np.clip(np.log(shares) - np.log1p(-shares), -_MOST_ODDS, _MOST_ODDS)
    odds[~voters] = 0
    agreeing = max(_FEWEST_AGREEING, round(_AGREEING / step) if step else 0)
    agreeing = min(agreeing, int(voters.sum()))
    agreed = np.convolve(odds, np.ones(agreeing) / agreeing, mode="same")
    return np.where(voters, agreed, -_MOST_ODDS)


def decide_on_head(card: Card) -> Card:
    """Give a card that decides on a head as it does on a slice, but for whether it has a tumour."""
    if card.decision is None:
        return card
    return replace(card, decision=replace(card.decision, tumor_from=0.5, unclear=_UNCLEAR))
