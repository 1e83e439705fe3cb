"""A trained model's report: one page of figures for a person, and the numbers of its plots."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve

from brainscan.bundle import Card, Measurement, Training
from brainscan.bundle.figures import FIGURES_FILE, Bin, Figures, History, RocCurve
from brainscan.bundle.plain import to_plain
from brainscan.plots import draw_plots, write_page
from training.checkpoint import Epoch
from training.evaluate import reliability

MISTAKES_SHOWN = 20
ROC_POINTS = 200
_DIGITS = 5
_PLOTS = (
    f"Loss and accuracy of each epoch, ROC and reliability are numbers in [{FIGURES_FILE}]"
    f"({FIGURES_FILE}); the model’s page in the web application draws them."
)


@dataclass(frozen=True, eq=False)
class TestResults:
    """What the model said of the test part.

    Attributes:
        names: of the scans.
        probabilities: float32, shape (scans, classes).
        labels: int64, shape (scans,).
    """

    __test__ = False  # not a test case, whatever its name begins with

    names: Sequence[str]
    probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]


def write_report(folder: Path, card: Card, history: Sequence[Epoch], results: TestResults) -> None:
    """Write `README.md`, and the numbers of its plots as `figures.json`.

    Args:
        folder: made if it is not there.
        card: of the model, with its training and its measurement.
        history: values of each epoch.
        results: of the test part.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = json.dumps(to_plain(collect_figures(card, history, results)), allow_nan=False)
    (folder / FIGURES_FILE).write_text(f"{figures}\n", encoding="utf-8")
    (folder / "README.md").write_text(_write_page(card, results), encoding="utf-8")


def write_plots(path: Path, card: Card, history: Sequence[Epoch], results: TestResults) -> None:
    """Write the plots as an HTML page of its own, for a browser."""
    best_epoch = card.training.best_epoch if card.training else 0
    plots = draw_plots(collect_figures(card, history, results), best_epoch)
    path.write_text(write_page(plots, card.name), encoding="utf-8")


def collect_figures(card: Card, history: Sequence[Epoch], results: TestResults) -> Figures:
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


def _write_page(card: Card, results: TestResults) -> str:
    measured, training = card.measurement, card.training
    if measured is None or training is None:
        raise ValueError(f"{card.name} was not trained and measured here: it has no report.")
    return "\n".join(
        [
            f"# {card.name}, version {card.version}",
            "",
            (
                f"{card.architecture}; {card.parameters:,} parameters; "
                f"{card.scan.size} × {card.scan.size} pixels. Published {card.created}."
            ),
            "",
            (
                f"Measured once on {measured.scans:,} untouched test scans "
                f"({measured.groups:,} near-duplicate groups) under the protocol "
                f"`{measured.protocol}`; intervals are 95 %, from "
                f"{measured.bootstrap_rounds:,} bootstrap draws of whole groups."
            ),
            "",
            *_headline_table(measured, card.graph_difference),
            "",
            *_class_table(measured),
            "",
            *_confusion_table(card.classes, measured),
            "",
            _PLOTS,
            "",
            "## Training",
            "",
            f"{measured.parts.train:,} scans trained, {measured.parts.validation:,} validated. "
            + _describe_epochs(training, measured),
            "",
            "```",
            training.command,
            "```",
            "",
            *_data_section(training, measured),
            "",
            *_mistakes(card, results),
            "",
            "## Use",
            "",
            card.intended_use,
            "",
            card.limits,
            "",
        ]
    )


def _describe_epochs(training: Training, measured: Measurement) -> str:
    where = f"on {training.device} ({training.precision})"
    if not training.epochs:
        return f"Fitted {where} without epochs."
    return (
        f"{training.epochs} epochs of {measured.seconds_per_epoch:.1f} s {where}; "
        f"epoch {training.best_epoch} had the lowest validation loss and is published, its "
        f"probabilities calibrated at temperature {training.temperature:.2f}."
    )


def _headline_table(measured: Measurement, difference: float | None) -> list[str]:
    intervals = measured.intervals
    headline = (
        ("accuracy", measured.accuracy, intervals.accuracy),
        ("balanced accuracy", measured.balanced_accuracy, intervals.balanced_accuracy),
        ("F1, macro", measured.f1_macro, intervals.f1_macro),
        ("ROC AUC", measured.roc_auc, intervals.roc_auc),
    )
    return [
        "| figure | value | 95 % interval |",
        "|---|---|---|",
        *(
            f"| {title} | {value:.4f} | {low:.4f} – {high:.4f} |"
            for title, value, (low, high) in headline
        ),
        f"| loss (cross-entropy) | {measured.loss:.4f} | |",
        f"| expected calibration error | {measured.calibration_error:.4f} | |",
        *(
            [f"| largest difference of the fp16 graph | {difference:.1e} | |"]
            if difference is not None
            else []
        ),
    ]


def _class_table(measured: Measurement) -> list[str]:
    return [
        "| class | precision | recall | F1 | scans |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {one.precision:.4f} | {one.recall:.4f} | {one.f1:.4f} | {one.scans:,} |"
            for name, one in measured.by_class.items()
        ),
    ]


def _confusion_table(classes: Sequence[str], measured: Measurement) -> list[str]:
    return [
        f"| labelled, and answered: | {' | '.join(classes)} |",
        "|---" * (len(classes) + 1) + "|",
        *(
            f"| {name} | {' | '.join(f'{count:,}' for count in counts)} |"
            for name, counts in zip(classes, measured.confusion, strict=True)
        ),
    ]


def _data_section(training: Training, measured: Measurement) -> list[str]:
    leaks = measured.leaks
    lines = ["## Data", "", f"Manifest SHA-256 `{training.manifest}`.", ""]
    lines += [f"- {title}: {count:,} scans" for title, count in training.classes.items()]
    lines += [f"- {note}" for note in training.notes]
    lines.append(
        f"- {leaks.scans:,} test scans have a near-duplicate in the training or validation part."
        + "".join(
            f" Accuracy on {which}: {share:.4f}."
            for share, which in (
                (leaks.accuracy_with, "them"),
                (leaks.accuracy_without, "the others"),
            )
            if leaks.scans and share is not None
        )
    )
    if unnamed := measured.unnamed_tumors:
        low, high = unnamed.interval
        lines.append(
            f"- {unnamed.scans:,} further test scans ({unnamed.groups:,} near-duplicate "
            f"groups) show a tumour whose kind is not named: {unnamed.recognized:.4f} of them "
            f"were recognised as a tumour (95 % interval {low:.4f} – {high:.4f})."
        )
    lists = (
        (training.contradictions, "were dropped because a near-duplicate has another label"),
        (training.uncropped, "were kept whole because no clear outline of a head was found"),
        (training.skipped, "could not be read"),
    )
    for entries, text in lists:
        lines.append(f"- {len(entries):,} scans {text}{':' if entries else '.'}")
        lines += [f"  - {entry}" for entry in entries]
    return lines


def _mistakes(card: Card, results: TestResults) -> list[str]:
    guesses = results.probabilities.argmax(axis=1)
    confidence = results.probabilities.max(axis=1)
    ranked = np.argsort(-confidence, kind="stable")
    wrong = ranked[guesses[ranked] != results.labels[ranked]][:MISTAKES_SHOWN].tolist()
    return [
        "## Its most confident mistakes on the test part",
        "",
        "| scan | labelled | predicted | confidence |",
        "|---|---|---|---|",
        *(
            f"| {results.names[row]} | {card.classes[results.labels[row]]} | "
            f"{card.classes[guesses[row]]} | {confidence[row]:.2f} |"
            for row in wrong
        ),
    ]
