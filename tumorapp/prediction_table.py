"""Predictions as a table: a row for each scan, series and slice, a column for each class."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    _DictWriter = csv.DictWriter[str]
else:  # Python 3.11's takes no type
    _DictWriter = csv.DictWriter

# Where a formula begins: with one of these signs (the wide ones count too) at the start of a cell.
# Where lists are separated by semicolons, a spreadsheet heeds neither our commas nor the quotes
# behind them, so that a cell starts behind each semicolon, tab and line break as well.
_FORMULA = re.compile(r"(?:^|[;\t\r\n])[\s\"]*(?=[=+\-@\uff1d\uff0b\uff0d\uff20])")

_ANSWER = (
    "verdict",
    "label",
    "tumor",
    "tumor_probability",
    "confidence",
    "uncertain",
    "in_distribution",
)
_LESION = ("lesion_x", "lesion_y", "lesion_area", "lesion_score")
# Of the row of a slice, the first four; of that of a whole series, the others.
_OF_SLICE = ("slice", "slice_file", "position_mm", "shows_tumor")
_OF_SERIES = (*_OF_SLICE, "slices", "strongest", "volume_ml")


class _Writer(_DictWriter):
    """Writes text as text: a file's name may be a formula, which a spreadsheet would run."""

    def writerow(self, rowdict: Mapping[str, Any]) -> Any:
        return super().writerow({name: _quote(cell) for name, cell in rowdict.items()})

    def writerows(self, rowdicts: Iterable[Mapping[str, Any]]) -> None:
        for row in rowdicts:
            self.writerow(row)


def open_table(
    classes: Sequence[str], file: TextIO, known: Sequence[str] = (), *, series: bool = False
) -> "csv.DictWriter[str]":
    """Begin a table of what a model with these classes says, next to what is known of a scan.

    Args:
        classes: in the model's order.
        file: to write into.
        known: the names of more columns.
        series: whether there may be series, with a row for each slice.
    """
    writer = _Writer(file, list_columns(classes, known, series=series), lineterminator="\n")
    writer.writeheader()
    return writer


def list_columns(
    classes: Sequence[str], known: Sequence[str] = (), *, series: bool = False
) -> list[str]:
    """List the columns of such a table; see `open_table`."""
    of_series = _OF_SERIES if series else ()
    columns = ["file", *known, "model", "version", *of_series, *_ANSWER]
    return [*columns, *map(_column, classes), *_LESION, "warnings", "error", "codes"]


def fill_row(prediction: Mapping[str, Any]) -> dict[str, object]:
    """Give the cells of a prediction or of an error, as the API writes either.

    Those of its file are `file`, `model` and `version`.
    """
    if error := prediction.get("error"):
        detail = error["detail"].removeprefix(f"{prediction['filename']}: ")
        return {"error": detail, "codes": error["code"]}
    return {
        **{name: prediction[name] for name in _ANSWER},
        **{_column(label): value for label, value in prediction["probabilities"].items()},
        **_describe_lesion(prediction["lesion"]),
        "warnings": " ".join(one["detail"] for one in prediction["warnings"]),
        "codes": " ".join(one["code"] for one in prediction["warnings"]),
    }


def list_rows(prediction: Mapping[str, Any]) -> list[dict[str, object]]:
    """Give the cells of a prediction or an error and, of a series, of each of its slices.

    Those of its model are `model` and `version`.
    """
    file = {"file": prediction["filename"]}
    whole, slices = file | fill_row(prediction), prediction.get("slices") or ()
    if slices:
        whole |= {"slices": len(slices)}
        whole |= {name: prediction[name] for name in ("strongest", "volume_ml")}
    return [
        whole,
        *(
            {**file, **fill_row(one), "slice": one["index"], "slice_file": one["filename"]}
            | {name: one[name] for name in ("position_mm", "shows_tumor")}
            for one in slices
        ),
    ]


def _describe_lesion(lesion: Mapping[str, Any] | None) -> dict[str, object]:
    """Give the cells of a lesion: its outline is for programs, which read the JSON."""
    if lesion is None:
        return {}
    return dict(zip(_LESION, (*lesion["peak"], lesion["area"], lesion["score"]), strict=True))


def _quote(cell: object) -> object:
    """Put an apostrophe in front of each formula in a text."""
    return _FORMULA.sub(r"\g<0>'", cell) if isinstance(cell, str) else cell


def _column(label: str) -> str:
    """Name the column of a class's probability: a class, too, may be called tumor."""
    return f"p_{label}"
