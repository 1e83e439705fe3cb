"""The rows of the study: every row of every table of the source documents, as they print it."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, cast

from brainscan.bundle.study import Published

if TYPE_CHECKING:
    from training.run import HeadName, Method

# Percentages and losses stand in this file as the documents print them; a row without figures is
# one that the document names and does not measure, or that goes beyond the documents.
_PUBLISHED = Path(__file__).with_name("published.csv")
_FIGURES = ("accuracy", "loss", "f1", "best_accuracy", "seconds_per_epoch")


@dataclass(frozen=True)
class Row:
    """One row of a document's table.

    Attributes:
        document: one of `training.study.documents.DOCUMENTS`.
        name: what the document calls it.
        model: the architecture's name.
        method: "frozen" trains only the head, "fine-tune" every layer.
        head: what classifies a frozen backbone's features.
        epochs: how many the document trains; None where it does not say.
        published: the document's figures.
        note: what is odd about the printed row.
    """

    document: str
    name: str
    model: str
    method: "Method"
    head: "HeadName"
    epochs: int | None
    published: Published
    note: str

    @property
    def slug(self) -> str:
        """Name the row in paths and patterns, such as `002-mobilenet-v2-frozen-svm`."""
        parts = [self.document, self.model]
        parts += [self.method] if self.method != "fine-tune" else []
        parts += [self.head] if self.head != "softmax" else []
        return "-".join(parts)

    def matches(self, pattern: str) -> bool:
        """Tell whether a glob matches the slug, the model or the name."""
        return any(fnmatchcase(text, pattern) for text in (self.slug, self.model, self.name))


@cache
def read_rows() -> tuple[Row, ...]:
    """Give all rows, in the order of the documents' tables."""
    with _PUBLISHED.open(encoding="utf-8", newline="") as file:
        return tuple(_build(line) for line in csv.DictReader(file))


def choose_rows(document: str, patterns: Sequence[str] = ()) -> list[Row]:
    """Give the rows of a document, or of "all", that match one of the patterns.

    Args:
        document: a document's number, or "all".
        patterns: globs of a row's slug, model, or name in the document; none chooses every row.

    Raises:
        ValueError: a pattern matches none of the document's rows.
    """
    rows = [row for row in read_rows() if document in (row.document, "all")]
    for pattern in patterns:
        if not any(row.matches(pattern) for row in rows):
            raise ValueError(
                f"No row of {document} matches {pattern!r}. Its rows: "
                f"{', '.join(row.slug for row in rows)}. A pattern may hold * and ?."
            )
    return [row for row in rows if not patterns or any(map(row.matches, patterns))]


def _build(line: dict[str, str]) -> Row:
    document = line["document"]
    numbers = {name: float(line[name]) for name in _FIGURES if line[name]}
    if line["f1_by_class"]:  # document 002 prints no mean of them
        numbers["f1"] = mean(map(float, line["f1_by_class"].split()))
    # 1.39 next to 99.77 % is a hundredth of that: document 001 prints losses like percentages.
    percentages = {"accuracy", "f1", "best_accuracy"} | ({"loss"} if document == "001" else set())
    for name in percentages & numbers.keys():
        numbers[name] = round(numbers[name] / 100, 6)
    return Row(
        document=document,
        name=line["row"],
        model=line["model"],
        method=cast("Method", line["method"]),
        head=cast("HeadName", line["head"]),
        epochs=int(line["epochs"]) if line["epochs"] else None,
        published=Published(**numbers),
        note=line["note"],
    )
