"""The leaderboard's rows and columns: what is shown of a model, and how rows are put in order."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import url_for

from brainscan.bundle import Card
from brainscan.bundle.study import Result
from tumorapp.language.translation import mark, translate, write_percent
from tumorapp.pages.figures import NONE, write_interval, write_number, write_published, write_share

BUDGETS = {
    "served": mark("Served here: the Predict page asks it."),
    "full": mark("The document’s own image size and epochs."),
    "quick": mark(
        "A smaller setting than the document’s: fewer pixels, fewer epochs. Its figures are its "
        "own and no equal of the published ones."
    ),
    "own": mark("The model’s own recipe in this project, and no document’s."),
}
_METHODS = {"fine-tune": mark("all layers trained"), "frozen": mark("frozen backbone")}
_HEADS = {"svm": mark("SVM head"), "knn": mark("k-nearest-neighbour head")}


@dataclass(frozen=True)
class Row:
    """One model as it was measured once; None stands for what is not known.

    Attributes:
        budget: a key of `BUDGETS`.
        url: its report page.
        leaked: share of the test scans with a near-duplicate in training, 0 to 1.
        published: the document's accuracy, loss and f1, where it states them.
    """

    model: str
    url: str
    budget: str
    document: str = ""
    name: str = ""
    method: str = ""
    head: str = ""
    protocol: str = ""
    data: tuple[str, ...] = ()
    size: int | None = None
    epochs: int | None = None
    epochs_run: int | None = None
    seconds_per_epoch: float | None = None
    parameters: int | None = None
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    leaked: float | None = None
    loss: float | None = None
    f1: float | None = None
    published: Mapping[str, float | None] = field(default_factory=dict)
    date: str = ""
    device: str = ""

    @property
    def way(self) -> str:
        """How it was trained: "all layers trained", "frozen backbone, SVM head"."""
        return ", ".join(map(translate, self._ways))

    @property
    def _ways(self) -> tuple[str, ...]:
        """The parts of `way`, in English."""
        ways = _METHODS.get(self.method, self.method), _HEADS.get(self.head, "")
        return tuple(filter(None, ways))

    @property
    def folder(self) -> str:
        """The address that the files of its report are below."""
        return self.url.partition("?")[0]

    @property
    def text(self) -> str:
        """What a search looks through, in lower case; English words are found in any language."""
        words = (self.model, self.document, self.name, self.budget, self.protocol)
        ways = (self.way, *self._ways)
        return " ".join((*words, *ways, *self.data, self.device, self.date)).lower()


def describe_result(result: Result) -> Row:
    """Give the row of a study's result."""
    leaked = result.leaks.get("scans")
    return Row(
        model=result.model,
        url=url_for("leaderboard.show_study_report", slug=result.id),
        budget=result.budget,
        document=result.document,
        name=result.row,
        method=result.method,
        head=result.head,
        protocol=result.protocol,
        data=tuple(result.data),
        size=result.size,
        epochs=result.epochs,
        epochs_run=result.epochs_run,
        seconds_per_epoch=result.seconds_per_epoch,
        parameters=result.parameters,
        accuracy=result.accuracy,
        interval=result.interval,
        leaked=leaked / result.test_scans if leaked and result.test_scans else None,
        loss=result.loss,
        f1=result.f1_macro,
        published=result.published,
        date=result.date[:10],
        device=result.device,
    )


def describe_card(card: Card) -> Row:
    """Give the row of a bundle that is served."""
    metrics, training = card.metrics, card.training
    interval = metrics.get("intervals", {}).get("accuracy")
    leaked, scans = metrics.get("leaks", {}).get("scans"), metrics.get("scans")
    return Row(
        model=card.name,
        url=url_for("leaderboard.show_bundle_report", model=card.name, version=card.version),
        budget="served",
        name=translate("version %(number)s", number=card.version),
        method=training.get("method", ""),
        head=training.get("head", ""),
        protocol=metrics.get("protocol", ""),
        data=tuple(source["title"] for source in card.sources if "title" in source),
        size=card.scan.size,
        epochs=training.get("recipe", {}).get("epochs"),
        epochs_run=training.get("epochs"),
        seconds_per_epoch=metrics.get("seconds_per_epoch"),
        parameters=card.parameters,
        accuracy=metrics.get("accuracy"),
        interval=(interval[0], interval[1]) if interval else None,
        leaked=leaked / scans if leaked and scans else None,
        loss=metrics.get("loss"),
        f1=metrics.get("f1_macro"),
        date=card.created[:10],
        device=training.get("device", ""),
    )


def write_epochs(row: Row) -> str:
    """Write how many epochs ran, and of how many where it stopped early: "18 of 40"."""
    if row.epochs_run is None or row.epochs in (None, row.epochs_run):
        return write_number(row.epochs_run)
    return translate("%(some)s of %(all)s", some=row.epochs_run, all=row.epochs)


def _write_leak(row: Row) -> str:
    if not row.leaked:
        return ""
    return translate("%(share)s leaked", share=write_percent(row.leaked, 0))


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
        extra: shown only when all columns are asked for.
    """

    name: str
    title: str
    value: Callable[[Row], float | str | None]
    write: Callable[[Row], str]
    note: Callable[[Row], str] = lambda _: ""
    number: bool = False
    falling: bool = False
    extra: bool = False

    def key(self, row: Row) -> float | str | None:
        """Give what a row is ordered by; digits in text count as numbers, None goes last."""
        value = self.value(row)
        if isinstance(value, str):
            folded = value.lower()
            return re.sub(r"\d+", lambda digits: digits[0].zfill(9), folded) or None
        return value if value is not None and math.isfinite(value) else None

    def initial_order(self) -> str:
        """Give the order of the first click on its header."""
        return "descending" if self.falling else "ascending"


def _text(name: str, title: str, value: Callable[[Row], str], **more: Any) -> Column:
    return Column(name, title, value, lambda row: value(row) or NONE, **more)


def _number(
    name: str, title: str, value: Callable[[Row], float | None], digits: int = 0, **more: Any
) -> Column:
    more = {"write": lambda row: write_number(value(row), digits), **more}
    return Column(name, title, value, number=True, **more)


def _published(name: str) -> Callable[[Row], float | None]:
    return lambda row: row.published.get(name)


COLUMNS = (
    _text("model", mark("Model"), lambda row: row.model, note=lambda row: row.way),
    _text("budget", mark("Setting"), lambda row: row.budget),
    _number(
        "accuracy",
        mark("Accuracy"),
        lambda row: row.accuracy,
        write=lambda row: write_share(row.accuracy),
        note=lambda row: write_interval(row.interval),
        falling=True,
    ),
    _number(
        "published",
        mark("Published"),
        _published("accuracy"),
        write=lambda row: write_published(row.published.get("accuracy")),
        falling=True,
    ),
    _number("f1", mark("F1"), lambda row: row.f1, 3, falling=True),
    _number(
        "published_f1", mark("Published F1"), _published("f1"), digits=3, falling=True, extra=True
    ),
    _number("loss", mark("Loss"), lambda row: row.loss, 3),
    _number("published_loss", mark("Published loss"), _published("loss"), digits=3, extra=True),
    _text("document", mark("Document"), lambda row: row.document),
    _text("protocol", mark("Protocol"), lambda row: row.protocol, note=_write_leak),
    _number("parameters", mark("Parameters"), lambda row: row.parameters),
    _number("size", mark("Pixels"), lambda row: row.size, extra=True),
    _number("epochs", mark("Epochs"), lambda row: row.epochs_run, write=write_epochs, extra=True),
    _number("seconds", mark("Seconds an epoch"), lambda row: row.seconds_per_epoch, 1, extra=True),
    _text("data", mark("Data"), lambda row: ", ".join(row.data), extra=True),
    _text("device", mark("Device"), lambda row: row.device, extra=True),
    _text("date", mark("Date"), lambda row: row.date, falling=True, extra=True),
)


def sort_rows(rows: Iterable[Row], column: Column, *, descending: bool) -> list[Row]:
    """Put rows in order; those without a value go last either way, equal ones by model."""
    model = COLUMNS[0]
    by_model = sorted(rows, key=lambda row: str(model.key(row)))
    known = [(key, row) for row in by_model if (key := column.key(row)) is not None]
    known.sort(key=lambda pair: pair[0], reverse=descending)
    return [row for _, row in known] + [row for row in by_model if column.key(row) is None]
