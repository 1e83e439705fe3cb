"""The comparison as Markdown: what the documents print, next to what was measured here."""

from collections.abc import Sequence
from pathlib import Path

from brainscan.bundle.study import BUDGETS, REPORT_FOLDER, Result, lock_study, read_study
from brainscan.charts import Plot
from brainscan.files import write_text
from brainscan.study_plots import draw_study
from training.study.documents import DOCUMENTS
from training.study.rows import Row, read_rows

NOT_RUN = "not run"
_INTRODUCTION = """\
# The study, row by row

Written by `flask study` from the `row.json` of each row; do not edit it. Only measured figures are
shown; a row without any says *not run*.

- *Published* is what the document prints. *Our* figures were measured once, after calibration, on \
scans that had no part in training or in any choice.
- *Our accuracy* counts the most probable class, as the documents do. *As served* counts the \
answer of the application: a tumour where one of any kind reaches a threshold, which was chosen on \
the validation part, and then the most probable kind; without a threshold, the most probable \
class. The interval, *Unleaked* and *Our F1* are of these answers; the interval is the central \
95 % of 1,000 bootstrap draws of whole near-duplicate groups.
- *Our loss* is that of the calibrated probabilities on the test part; *before calibration* is the \
validation part's in the epoch that was kept, which is what a document calls its loss.
- *Unleaked* is the accuracy as served on the test scans that have no near-duplicate in the \
training or validation part. Under `grouped`, these are all of them.
- *Budget*: `full` uses the document's own settings, `reduced` a smaller setting (128 px, at most \
25 epochs, one variant of a scan per epoch), `unvaried` the document's settings without variants \
of scans (and without early stopping for ANNs), and `own` the architecture's own recipe, as in \
`flask train`.
- *Protocol*: under `variants-75-25` the scans are divided after their variants are drawn, as \
document 000's text has it. Nearly every test scan then has variants of itself in training: its \
figures are **leaked**, and stand here only to be compared with the document's.
- A model whose name ends in `-raw` takes pixels of 0 to 255 as they are; the others scale them.
"""


def write_tables(folder: Path) -> None:
    """Write `README.md` of the study's folder and its charts again from its results."""
    folder.mkdir(parents=True, exist_ok=True)
    with lock_study(folder):
        results = read_study(folder).results
        for plot in draw_study(results):
            write_text(folder / _name_file(plot), plot.file)
        write_text(folder / "README.md", draw_tables(results))


def _name_file(plot: Plot) -> str:
    return f"{plot.title.lower().replace(' ', '-')}.svg"


def draw_tables(results: Sequence[Result]) -> str:
    """Draw a table for each document, with every row of it, trained or not."""
    parts = [_INTRODUCTION]
    parts += [
        f"![{plot.title}]({_name_file(plot)})\n\n{plot.explanation}\n"
        for plot in draw_study(results)
    ]
    for number, document in DOCUMENTS.items():
        rows = [row for row in read_rows() if row.document == number]
        title = f"Document {number}: {document.title}" if number.isdecimal() else document.title
        size = f"{document.size} px" if document.size else "the architecture's own size"
        run = sum(bool(results_of(row, results)) for row in rows)
        parts.append(
            f"## {title}\n\n`{document.data}`, `{document.protocol}`, {size}. {document.chosen} "
            f"{run} of {len(rows)} rows were run.\n"
        )
        parts.append(_draw_table(rows, results))
        if notes := [f"- {row.name} ({row.model}): {row.note}\n" for row in rows if row.note]:
            parts.append("".join(notes))
    return "\n".join(parts)


def results_of(row: Row, results: Sequence[Result]) -> list[Result]:
    """Give what was measured of a row, under any budget and protocol."""
    key = (row.document, row.model, row.method, row.head)
    found = [
        one
        for one in results
        if (one.document, one.card.name, one.training.method, one.training.head) == key
    ]
    return sorted(
        found, key=lambda one: (BUDGETS.index(one.budget), one.measurement.protocol, one.id)
    )


def _draw_table(rows: Sequence[Row], results: Sequence[Result]) -> str:
    """Draw the lines of some rows; columns in which all are empty are left out."""
    lines = []
    for row in rows:
        measured = [_list_measured(result) for result in results_of(row, results)]
        lines += [_list_published(row) | one for one in measured or [{"Our accuracy": NOT_RUN}]]
    names = dict.fromkeys(name for line in sorted(lines, key=len, reverse=True) for name in line)
    columns = [name for name in names if any(line.get(name) for line in lines)]
    cells = [columns, ["---"] * len(columns)]
    cells += [[line.get(name, "") for name in columns] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def _list_published(row: Row) -> dict[str, str]:
    figures = row.published
    model = f"{row.model} frozen" if row.method == "frozen" else row.model
    return {
        "In the document": row.name,
        "Model": model if row.head == "softmax" else f"{model} + {row.head}",
        "Published accuracy": _percent(figures.accuracy),
        "Published best accuracy": _percent(figures.best_accuracy),
        "Published loss": _plain(figures.loss),
        "Published F1": _percent(figures.f1),
        "Published seconds an epoch": _plain(figures.seconds_per_epoch),
    }


def _list_measured(result: Result) -> dict[str, str]:
    card, training, measured = result.card, result.training, result.measurement
    low, high = measured.intervals.accuracy
    pace = measured.seconds_per_epoch
    return {
        "Our accuracy": f"{100 * result.argmax_accuracy:.2f} %",
        "As served": f"{100 * measured.accuracy:.2f} %",
        "95 % interval": f"{100 * low:.1f}–{100 * high:.1f} %",
        "Unleaked": _percent(measured.leaks.accuracy_without),
        "Our loss": f"{measured.loss:.4f}",
        "Before calibration": _plain(training.validation_loss),
        "Our F1": f"{100 * measured.f1_macro:.2f} %",
        "Budget": result.budget,
        "Protocol": measured.protocol,
        "Data": ", ".join(result.data),
        "Size": f"{card.scan.size} px",
        "Epochs": f"{training.epochs} of {training.planned_epochs}",
        "Seconds an epoch": "" if pace is None else f"{pace:.1f}",
        "Parameters": f"{card.parameters:,}",
        "Device": f"{training.device}, {training.precision}",
        "Date": card.created,
        "Report": f"[report]({result.id}/{REPORT_FOLDER}/README.md)",
    }


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.4g} %"


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
