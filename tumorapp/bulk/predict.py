"""Files → what becomes of them, as the API writes it or as rows of a table. No Flask application.

A bad file, and a fault in the code, are outcomes with a code, so that the others go on.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from brainscan import Answer, ImageFile, Message, Model, Problem, ScanError
from brainscan.examine import examine_groups
from brainscan.scan import MAX_PIXELS
from tumorapp.api.schemas import write_failure, write_outcome
from tumorapp.prediction_table import list_rows

# What became of a scan: its prediction, or its problem.
Outcome = Mapping[str, Any]
Row = dict[str, Any]
_LONGEST = 2**16  # pixels: no picture's side is longer

logger = logging.getLogger(__name__)


class Named(Protocol):
    """What is read: it has the name of its file."""

    @property
    def name(self) -> str:
        """As it is written."""
        ...


File = TypeVar("File", bound=Named)
Read = Callable[[File], ImageFile | ScanError]


def predict_groups(
    model: Model,
    groups: Sequence[Sequence[File]],
    read: Read[File],
    *,
    max_pixels: int = MAX_PIXELS,
    max_slices: int | None = None,
    draw: Callable[[Answer], None] | None = None,
) -> list[list[Outcome]]:
    """Predict groups of files: those of a series together, any other file as a group of its own.

    Args:
        model: predicts them.
        groups: each of at least one file.
        read: gives a file's name and bytes, or why they cannot be read.
        max_pixels: the largest width × height accepted.
        max_slices: how many slices a group may have; None for any number.
        draw: takes each answer, with its pictures and heat maps.

    Returns:
        For each group, the predictions and the errors of its pictures and series.

    Raises:
        Problem: a prediction could not be recorded (`audit-unavailable`).
    """
    try:
        found = examine_groups(
            model,
            [map(read, group) for group in groups],
            max_pixels=max_pixels,
            max_slices=max_slices,
            longest_kept=_LONGEST if draw else 0,
            want_heatmaps=draw is not None,
        )
        outcomes: list[list[Outcome]] = []
        for group, answers in zip(groups, found, strict=True):
            if isinstance(answers, Problem):
                outcomes.append([refuse(group, answers.message)])
                continue
            outcomes.append([write_outcome(one) for one in answers])
            for one in answers:
                if draw and not isinstance(one, ScanError):
                    draw(one)
        return outcomes
    except (Problem, OSError):
        raise
    except Exception:
        if len(groups) > 1:  # only one of them is at fault
            return [
                outcomes
                for group in groups
                for outcomes in predict_groups(
                    model,
                    [group],
                    read,
                    max_pixels=max_pixels,
                    max_slices=max_slices,
                    draw=draw,
                )
            ]
        logger.exception("A scan could not be predicted.")
        return [[refuse(groups[0], Message("internal-error"))]]


def refuse(group: Sequence[Named], message: Message) -> Outcome:
    """Say why there is no prediction of files that are examined together."""
    name = group[0].name
    return write_failure(name, replace(message, subject=name))


def predict_rows(
    model: Model,
    groups: Sequence[Sequence[File]],
    read: Read[File],
    *,
    max_pixels: int = MAX_PIXELS,
    draw: Callable[[Answer], None] | None = None,
) -> list[list[Row]]:
    """Predict groups as `predict_groups` does, and give the rows of each in the table."""
    known = {"model": model.card.name, "version": str(model.card.version)}
    predicted = predict_groups(model, groups, read, max_pixels=max_pixels, draw=draw)
    return [
        [known | row for outcome in outcomes for row in list_rows(outcome)]
        for outcomes in predicted
    ]
