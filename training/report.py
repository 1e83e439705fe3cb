"""A trained model's report: one page of figures and plots, written for a person."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import ConfusionMatrixDisplay, RocCurveDisplay, roc_auc_score

from brainscan.bundle import Card
from training.checkpoint import Epoch
from training.evaluate import reliability

MISTAKES_SHOWN = 20


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
    """Write `README.md` and its plots.

    Args:
        folder: made if it is not there.
        card: of the model, with its metrics.
        history: values of each epoch.
        results: of the test part.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plots = {
        "confusion": _plot_confusion(card),
        "roc": _plot_roc(card, results),
        "reliability": _plot_reliability(results),
    }
    if history:
        plots["history"] = _plot_history(history, card.training["best_epoch"])
    with mpl.rc_context({"svg.hashsalt": "tumorapp", "svg.fonttype": "none"}):
        for name, figure in plots.items():
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    (folder / "README.md").write_text(_write_page(card, results), encoding="utf-8")


def _plot_history(history: Sequence[Epoch], best_epoch: int) -> Figure:
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    epochs = range(1, len(history) + 1)
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(epochs, [values[name] for values in history], label="training, augmented")
        axes.plot(epochs, [values[f"val_{name}"] for values in history], label="validation")
        axes.axvline(best_epoch, color="grey", linestyle=":", label="published epoch")
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
    return figure


def _plot_confusion(card: Card) -> Figure:
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    display = ConfusionMatrixDisplay(
        np.array(card.metrics["confusion"]), display_labels=card.classes
    )
    display.plot(ax=figure.subplots(), cmap="Blues", colorbar=False, xticks_rotation=30)
    return figure


def _plot_roc(card: Card, results: TestResults) -> Figure:
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    # The two curves of a binary model mirror each other: the second says it all.
    columns = range(len(card.classes)) if len(card.classes) > 2 else [1]
    for column in columns:
        truth, scores = results.labels == column, results.probabilities[:, column]
        # Two digits, as the display rounds, would call nearly every model perfect.
        name = f"{card.classes[column]}, area {roc_auc_score(truth, scores):.4f}"
        RocCurveDisplay.from_predictions(truth, scores, ax=axes, curve_kwargs={"label": name})
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    axes.legend(loc="lower right")
    return figure


def _plot_reliability(results: TestResults) -> Figure:
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    confidence, accuracy, share = zip(
        *reliability(results.probabilities, results.labels), strict=True
    )
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect")
    axes.plot(confidence, accuracy, marker="o", label="this model")
    axes.bar(confidence, share, width=0.03, alpha=0.3, label="share of the scans")
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend(loc="upper left")
    return figure


def _write_page(card: Card, results: TestResults) -> str:
    metrics, training = card.metrics, card.training
    parts = metrics["parts"]
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
                f"Measured once on {metrics['scans']:,} untouched test scans "
                f"({metrics['groups']:,} near-duplicate groups) under the protocol "
                f"`{metrics['protocol']}`; intervals are 95 %, from "
                f"{metrics['bootstrap_rounds']:,} bootstrap draws of whole groups."
            ),
            "",
            *_headline_table(metrics),
            "",
            *_class_table(metrics),
            "",
            "![Confusion matrix](confusion.svg) ![ROC](roc.svg) ![Reliability](reliability.svg)",
            "",
            "## Training",
            "",
            f"{parts['train']:,} scans trained, {parts['validation']:,} validated. "
            + _describe_epochs(training, metrics),
            "",
            *(["![Learning curves](history.svg)", ""] if training["epochs"] else []),
            "```",
            training["command"],
            "```",
            "",
            *_data_section(training, metrics),
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


def _describe_epochs(training: dict[str, Any], metrics: dict[str, Any]) -> str:
    where = f"on {training['device']} ({training['precision']})"
    if not training["epochs"]:
        return f"Fitted {where} without epochs."
    return (
        f"{training['epochs']} epochs of {metrics['seconds_per_epoch']:.1f} s {where}; "
        f"epoch {training['best_epoch']} had the lowest validation loss and is published, its "
        f"probabilities calibrated at temperature {training['temperature']:.2f}."
    )


def _headline_table(metrics: dict[str, Any]) -> list[str]:
    titles = {
        "accuracy": "accuracy",
        "balanced_accuracy": "balanced accuracy",
        "f1_macro": "F1, macro",
        "roc_auc": "ROC AUC",
    }
    return [
        "| figure | value | 95 % interval |",
        "|---|---|---|",
        *(
            f"| {title} | {metrics[name]:.4f} | "
            f"{metrics['intervals'][name][0]:.4f} – {metrics['intervals'][name][1]:.4f} |"
            for name, title in titles.items()
        ),
        f"| loss (cross-entropy) | {metrics['loss']:.4f} | |",
        f"| expected calibration error | {metrics['calibration_error']:.4f} | |",
        *(
            [f"| largest difference of the fp16 graph | {metrics['graph_difference']:.1e} | |"]
            if "graph_difference" in metrics
            else []
        ),
    ]


def _class_table(metrics: dict[str, Any]) -> list[str]:
    return [
        "| class | precision | recall | F1 | scans |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {one['precision']:.4f} | {one['recall']:.4f} | {one['f1']:.4f} | "
            f"{one['scans']:,} |"
            for name, one in metrics["by_class"].items()
        ),
    ]


def _data_section(training: dict[str, Any], metrics: dict[str, Any]) -> list[str]:
    leaks = metrics["leaks"]
    lines = ["## Data", "", f"Manifest SHA-256 `{training['manifest']}`.", ""]
    lines += [f"- {title}: {count:,} scans" for title, count in training["classes"].items()]
    lines += [f"- {note}" for note in training["notes"]]
    lines.append(
        f"- {leaks['scans']:,} test scans have a near-duplicate in the training or validation part."
        + "".join(
            f" Accuracy on {which}: {leaks[key]:.4f}."
            for key, which in (("accuracy_with", "them"), ("accuracy_without", "the others"))
            if leaks["scans"] and leaks[key] is not None
        )
    )
    if unnamed := metrics.get("unnamed_tumors"):
        low, high = unnamed["interval"]
        lines.append(
            f"- {unnamed['scans']:,} further test scans ({unnamed['groups']:,} near-duplicate "
            f"groups) show a tumour whose kind is not named: {unnamed['recognized']:.4f} of them "
            f"were taken for a tumour (95 % interval {low:.4f} – {high:.4f})."
        )
    lists = {
        "contradictions": "were dropped, as a near-duplicate carries another label",
        "uncropped": "were kept whole, as no clear outline of a head was found",
        "skipped": "could not be read",
    }
    for key, text in lists.items():
        entries = training[key]
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
