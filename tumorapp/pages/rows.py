"""The leaderboard's rows and columns: what is shown of a model, and how rows are put in order."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from flask import url_for

from brainscan.bundle import Card
from brainscan.bundle.study import Published, Result
from tumorapp.language.translation import mark, translate, write_percent
from tumorapp.pages.figures import NONE, write_interval, write_number, write_published, write_share

BUDGETS = {
    mark("served"): mark("Served here, on the Predict page."),
    mark("full"): mark("The document’s own image size and epochs."),
    mark("reduced"): mark(
        "A smaller setting than the document’s: fewer pixels, fewer epochs. Do not compare its "
        "figures with the published ones."
    ),
    mark("unvaried"): mark(
        "The document’s own image size and epochs, without its variants of scans."
    ),
    mark("own"): mark("The model’s own recipe in this project, not a document’s."),
}
_BEYOND = mark("beyond")  # what the study calls models of no document
_IMPORTED = mark("imported")
_METHODS = {"fine-tune": mark("all layers trained"), "frozen": mark("frozen backbone")}
_HEADS = {"svm": mark("SVM head"), "knn": mark("k-nearest-neighbour head")}


@dataclass(frozen=True)
class Row:
    """One model of the leaderboard: its card, and what the card does not say.

    Attributes:
        card: with all that was measured.
        url: its report page.
        budget: a key of `BUDGETS`.
        name: what the document calls it, or its version.
        data: names of the data sets.
        document: "" for a model that is served.
        published: the document's figures; None, as is the next, for a model that is served.
        argmax_accuracy: ours, counted as the documents count, 0 to 1.
    """

    card: Card
    url: str
    budget: str
    name: str
    data: tuple[str, ...]
    document: str = ""
    published: Published | None = None
    argmax_accuracy: float | None = None

    @property
    def protocol(self) -> str:
        """How the scans were divided; "" where nothing was measured."""
        return self.card.measurement.protocol if self.card.measurement else ""

    @property
    def device(self) -> str:
        """What it was trained on; "" where that is not known."""
        return self.card.training.device if self.card.training else ""

    @property
    def way(self) -> str:
        """How it was trained: "all layers trained", "frozen backbone, SVM head"."""
        training = self.card.training
        if training is None:
            return translate(_IMPORTED)
        ways = _METHODS.get(training.method, training.method), _HEADS.get(training.head)
        return ", ".join(translate(way) for way in ways if way)

    @property
    def folder(self) -> str:
        """The address that the files of its report are below."""
        return self.url.partition("?")[0]

    @property
    def text(self) -> str:
        """What a search looks through, in lower case, in the page's language."""
        words = map(translate, (self.document, self.budget, self.protocol))
        names = (self.card.name, self.name, *self.data, self.device, self.card.created)
        return " ".join((*words, self.way, *names)).lower()


def describe_result(result: Result) -> Row:
    """Give the row of a study's result."""
    return Row(
        card=result.card,
        url=url_for("leaderboard.show_study_report", slug=result.id),
        budget=result.budget,
        name=result.row,
        data=result.data,
        document=result.document,
        published=result.published,
        argmax_accuracy=result.argmax_accuracy,
    )


def describe_card(card: Card) -> Row:
    """Give the row of a bundle that is served."""
    return Row(
        card=card,
        url=url_for("leaderboard.show_bundle_report", model=card.name, version=card.version),
        budget="served",
        name=translate("version %(number)s", number=card.version),
        data=tuple(source.title for source in card.sources),
    )


def write_epochs(row: Row) -> str:
    """Write how many epochs ran, and of how many where it stopped early: "18 of 40"."""
    training = row.card.training
    if training is None or training.epochs == training.planned_epochs:
        return write_number(training.epochs if training else None)
    return translate("%(some)s of %(all)s", some=training.epochs, all=training.planned_epochs)


def _measured(name: str) -> Callable[[Row], float | None]:
    """Read a figure of the measurement; None where nothing was measured."""
    return lambda row: getattr(row.card.measurement, name, None)


def _published(name: str) -> Callable[[Row], float | None]:
    return lambda row: getattr(row.published, name, None)


def _write_same_count(row: Row) -> str:
    """Write our accuracy, counted as the published one is."""
    if _published("accuracy")(row) is None:
        return ""
    return translate("ours %(share)s", share=write_share(row.argmax_accuracy))


def _pointing(name: str) -> Callable[[Row], float | None]:
    """Read how well a map points at tumours; None where that was not measured."""
    return lambda row: getattr(_measured("pointing")(row), name, None)


def _write_dice(row: Row) -> str:
    dice = _pointing("dice")(row)
    return "" if dice is None else translate("Dice %(number)s", number=write_number(dice, 2))


def _write_accuracy_interval(row: Row) -> str:
    measured = row.card.measurement
    return write_interval(measured.intervals.accuracy) if measured else ""


def _write_leak(row: Row) -> str:
    leaked = row.card.measurement.leaked if row.card.measurement else 0
    return translate("%(share)s leaked", share=write_percent(leaked, 0)) if leaked else ""


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard.

    Attributes:
        name: in a link that sorts by it.
        title: its header, in English.
        value: what rows are ordered by.
        write: what is shown.
        note: a second, quieter line.
        number: whether values are numbers, which stand at the end of their cell.
        falling: whether the first click on its header puts the largest value on top.
    """

    name: str
    title: str
    value: Callable[[Row], float | str | None]
    write: Callable[[Row], str]
    note: Callable[[Row], str] = lambda _: ""
    number: bool = False
    falling: bool = False

    def key(self, row: Row) -> float | str | None:
        """Give what a row is ordered by; digits in text count as numbers, None goes last."""
        value = self.value(row)
        if isinstance(value, str):
            folded = value.lower()
            return re.sub(r"\d+", lambda digits: digits[0].zfill(9), folded) or None
        return value


def _text(name: str, title: str, value: Callable[[Row], str], **more: Any) -> Column:
    return Column(name, title, value, lambda row: translate(value(row)) or NONE, **more)


def _number(
    name: str, title: str, value: Callable[[Row], float | None], digits: int = 0, **more: Any
) -> Column:
    more = {"write": lambda row: write_number(value(row), digits), **more}
    return Column(name, title, value, number=True, **more)


COLUMNS = (
    _text("model", mark("Model"), lambda row: row.card.name, note=lambda row: row.way),
    _text("budget", mark("Setting"), lambda row: row.budget),
    _number(
        "accuracy",
        mark("Accuracy"),
        _measured("accuracy"),
        write=lambda row: write_share(_measured("accuracy")(row)),
        note=_write_accuracy_interval,
        falling=True,
    ),
    _number(
        "published",
        mark("Published"),
        _published("accuracy"),
        write=lambda row: write_published(_published("accuracy")(row)),
        note=_write_same_count,
        falling=True,
    ),
    _number("f1", mark("F1"), _measured("f1_macro"), 3, falling=True),
    _number(
        "pointing",
        mark("Pointing"),
        _pointing("peak"),
        write=lambda row: write_share(_pointing("peak")(row)),
        note=_write_dice,
        falling=True,
    ),
    _number("loss", mark("Loss"), _measured("loss"), 3),
    _text(
        "document",
        mark("Document"),
        lambda row: row.document,
        note=lambda row: ", ".join(row.data) if row.document else "",
    ),
    _text("protocol", mark("Protocol"), lambda row: row.protocol, note=_write_leak),
    _number("parameters", mark("Parameters"), lambda row: row.card.parameters),
)


def sort_rows(rows: Iterable[Row], column: Column, *, descending: bool) -> list[Row]:
    """Put rows in order; those without a value go last either way, equal ones by model."""
    model = COLUMNS[0]
    by_model = sorted(rows, key=lambda row: str(model.key(row)))
    known = [(key, row) for row in by_model if (key := column.key(row)) is not None]
    known.sort(key=lambda pair: pair[0], reverse=descending)
    return [row for _, row in known] + [row for row in by_model if column.key(row) is None]
