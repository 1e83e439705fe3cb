"""A trained model's report: one page of figures for a person, and the numbers of its plots."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve

from brainscan.bundle import Card
from brainscan.bundle.figures import FIGURES_FILE, Bin, Figures, History, RocCurve
from brainscan.bundle.plain import to_plain
from brainscan.plots import draw_plots, write_page
from brainscan.verdict import VERDICTS
from training.evaluate import TestResults, reliability
from training.examine import Evaluation

if TYPE_CHECKING:  # Keras is not needed to evaluate a published model
    from training.checkpoint import Epoch

PLOTS_FILE = "plots.html"
MISTAKES_SHOWN = 20
ROC_POINTS = 200
_DIGITS = 5
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # noqa: S701  it is Markdown
)
_TEMPLATES.tests["finite"] = math.isfinite
_TEMPLATES.filters |= {"thousands": "{:,}".format, "digits": "{:.4f}".format}


def write_report(
    folder: Path,
    card: Card,
    history: "Sequence[Epoch]",
    results: TestResults,
    *,
    published: bool = True,
) -> None:
    """Write `README.md`, and the numbers of its plots as `figures.json`.

    Args:
        folder: made if it is not there.
        card: of the model, with its training and its measurement.
        history: values of each epoch.
        results: of the test part.
        published: whether it is a bundle's, and not of a run that may never become one.
    """
    page = _write_page(card, results, published=published)
    _write_files(folder, page, collect_figures(card, history, results))


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write the report of a published model: `README.md`, `figures.json` and `plots.html`."""
    card, results = evaluation.card, evaluation.results
    page = describe_evaluation(evaluation, PLOTS_FILE)
    _write_files(folder, page, collect_figures(card, [], results))
    write_plots(folder / PLOTS_FILE, card, [], results)


def _write_files(folder: Path, page: str, figures: Figures) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    numbers = json.dumps(to_plain(figures), allow_nan=False)
    (folder / FIGURES_FILE).write_text(f"{numbers}\n", encoding="utf-8")
    (folder / "README.md").write_text(page, encoding="utf-8")


def write_plots(path: Path, card: Card, history: "Sequence[Epoch]", results: TestResults) -> None:
    """Write the plots as an HTML page of its own, for a browser."""
    best_epoch = card.training.best_epoch if card.training else 0
    plots = draw_plots(collect_figures(card, history, results), best_epoch)
    path.write_text(write_page(plots, card.name), encoding="utf-8")


def collect_figures(card: Card, history: "Sequence[Epoch]", results: TestResults) -> Figures:
    """Collect the numbers of the plots, rounded to five digits."""
    # The two curves of a binary model mirror each other: the second says it all.
    columns = range(len(card.classes)) if len(card.classes) > 2 else [1]
    names = ("loss", "val_loss", "accuracy", "val_accuracy")
    columns_of_history = {
        name: tuple(round(values[name], _DIGITS) for values in history) for name in names
    }
    return Figures(
        history=History(**columns_of_history) if history else None,
        roc={
            card.classes[column]: _draw_roc(
                results.labels == column, results.probabilities[:, column]
            )
            for column in columns
            if len(np.unique(results.labels == column)) == 2  # else there is no curve
        },
        reliability=tuple(
            Bin(*(round(value, _DIGITS) for value in one))
            for one in reliability(results.probabilities, results.labels)
        ),
    )


def _draw_roc(truth: NDArray[np.bool_], scores: NDArray[np.float32]) -> RocCurve:
    false_positives, true_positives, _ = roc_curve(truth, scores)
    last = len(false_positives) - 1
    kept = np.unique(np.linspace(0, last, min(last + 1, ROC_POINTS)).round().astype(int))
    return RocCurve(
        area=round(float(roc_auc_score(truth, scores)), _DIGITS),
        false_positives=tuple(false_positives[kept].round(_DIGITS).tolist()),
        true_positives=tuple(true_positives[kept].round(_DIGITS).tolist()),
    )


def _write_page(card: Card, results: TestResults, *, published: bool) -> str:
    measured, training = card.measurement, card.training
    if measured is None or training is None:
        raise ValueError(f"{card.name} was not trained and measured here: it has no report.")
    return _TEMPLATES.get_template("report.md.jinja").render(
        card=card,
        published=published,
        measured=measured,
        training=training,
        leaks=measured.leaks,
        unnamed=measured.unnamed_tumors,
        figures=FIGURES_FILE,
        mistakes=list(_list_mistakes(card.classes, results)),
    )


def describe_evaluation(evaluation: Evaluation, plots: str = "") -> str:
    """Write the page of figures of a published model on labelled folders, as Markdown.

    Args:
        evaluation: the figures.
        plots: the file next to it that draws them, if there is one.
    """
    card, answers = evaluation.card, evaluation.answers
    verdicts = np.array([one.found.verdict for one in answers])
    labels = np.array([one.scan.label for one in answers])
    return _TEMPLATES.get_template("evaluation.md.jinja").render(
        card=card,
        measured=card.measurement,
        evaluation=evaluation,
        figures=FIGURES_FILE,
        plots=plots,
        folders=list(dict.fromkeys(one.source for one in answers)),
        verdicts=VERDICTS,
        counts={
            label: [int(((labels == label) & (verdicts == one)).sum()) for one in VERDICTS]
            for label in np.unique(labels).tolist()
        },
        right=[
            float(evaluation.right[verdicts == one].mean()) if (verdicts == one).any() else None
            for one in VERDICTS
        ],
        mistakes=list(_list_mistakes(card.classes, evaluation.results)),
    )


def _list_mistakes(
    classes: Sequence[str], results: TestResults
) -> Iterator[tuple[str, str, str, float]]:
    """Give scan, label, answer and confidence of the most confident mistakes."""
    answers = results.answers
    confidence = results.probabilities[np.arange(len(answers)), answers]
    ranked = np.argsort(-confidence, kind="stable")
    for row in ranked[answers[ranked] != results.labels[ranked]][:MISTAKES_SHOWN]:
        yield (
            results.names[row],
            classes[results.labels[row]],
            classes[answers[row]],
            float(confidence[row]),
        )
