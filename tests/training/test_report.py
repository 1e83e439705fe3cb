import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainscan.bundle import Card, Leaks, Parts
from brainscan.bundle.figures import History, read_figures
from brainscan.bundle.sentences import INTENDED_USE, LIMITS
from brainscan.scan import ScanSpecification
from tests.cards import draw_training, draw_up_card
from training.evaluate import TestResults, evaluate
from training.report import ROC_POINTS, collect_figures, write_plots, write_report

HISTORY = [
    {"loss": 0.7, "val_loss": 0.6, "accuracy": 0.5, "val_accuracy": 0.6, "seconds": 9.0},
    {"loss": 0.4, "val_loss": 0.3, "accuracy": 0.8, "val_accuracy": 0.9, "seconds": 8.0},
]


def draw_results(classes: int) -> TestResults:
    random = np.random.default_rng(2)
    labels = np.arange(40) % classes
    probabilities = random.dirichlet(np.ones(classes), 40)
    probabilities[np.arange(40), labels] += 0.5
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    names = [f"set/scan {row}.jpg" for row in range(40)]
    return TestResults(
        names, probabilities.astype(np.float32), labels, probabilities.argmax(axis=1)
    )


def make_card(results: TestResults, classes: tuple[str, ...], **training: Any) -> Card:
    measured = evaluate(
        results.probabilities,
        results.labels,
        np.arange(40),
        classes,
        protocol="grouped",
        parts=Parts(1200, 130, 40),
        leaked=np.zeros(40, bool),
        seconds_per_epoch=8.5,
    )
    described: dict[str, Any] = {
        "command": "flask train --model binary-cnn --data set",
        "epochs": 2,
        "classes": dict.fromkeys(classes, 100),
        "notes": ("Left out pred (60 images).",),
        "uncropped": ("set/speck.jpg",),
        "skipped": ("set/broken.jpg: The file is empty.",),
    }
    return draw_up_card(
        "binary-cnn",
        version=3,
        classes=classes,
        scan=ScanSpecification(96),
        parameters=1_234_567,
        training=draw_training(**{**described, **training}),
        measurement=measured,
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Card, TestResults]:
    folder = tmp_path_factory.mktemp("report") / "new"
    results = draw_results(2)
    card = make_card(results, ("healthy", "tumor"))
    write_report(folder, card, HISTORY, results)
    return folder, card, results


@pytest.fixture(scope="module")
def page(written: tuple[Path, Card, TestResults]) -> str:
    return (written[0] / "README.md").read_text(encoding="utf-8")


def test_the_page_and_its_numbers_are_there(written: tuple[Path, Card, TestResults]) -> None:
    assert {path.name for path in written[0].iterdir()} == {"README.md", "figures.json"}


def test_the_numbers_are_those_of_the_results(written: tuple[Path, Card, TestResults]) -> None:
    folder, card, results = written
    figures = read_figures(folder)
    assert figures is not None
    assert figures.history == History((0.7, 0.4), (0.6, 0.3), (0.5, 0.8), (0.6, 0.9))
    [(name, curve)] = figures.roc.items()
    assert name == "tumor"
    assert curve.area == pytest.approx(card.measurement.roc_auc, abs=1e-5)
    assert np.trapezoid(curve.true_positives, curve.false_positives) == pytest.approx(curve.area)
    assert sum(one.share for one in figures.reliability) == pytest.approx(1, abs=1e-4)
    right = results.probabilities.argmax(axis=1) == results.labels
    assert figures.count_right(len(right)) == right.sum()


def test_a_long_curve_is_thinned_out() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(4000) % 2
    scores = (labels * 0.3 + random.uniform(0, 0.7, 4000)).astype(np.float32)
    results = TestResults([], np.stack([1 - scores, scores], axis=1), labels, labels)
    curve = collect_figures(draw_up_card("binary-cnn"), [], results).roc["tumor"]
    assert len(curve.false_positives) == ROC_POINTS
    area = np.trapezoid(curve.true_positives, curve.false_positives)
    assert area == pytest.approx(curve.area, abs=0.005)


def test_the_plots_are_a_page_of_its_own(
    tmp_path: Path, written: tuple[Path, Card, TestResults]
) -> None:
    write_plots(tmp_path / "plots.html", written[1], HISTORY, written[2])
    page = (tmp_path / "plots.html").read_text(encoding="utf-8")
    for text in ("selected epoch", "false positive rate", "tumor, area 0.", "confidence"):
        assert text in page
    assert page.count("<svg") == 4


def test_the_page_says_what_was_measured(
    page: str, written: tuple[Path, Card, TestResults]
) -> None:
    measured = written[1].measurement
    low, high = measured.intervals.accuracy
    assert "# binary-cnn, version 3" in page
    assert "40 untouched test scans (40 near-duplicate groups)" in page
    assert "protocol `grouped`" in page
    assert f"| accuracy | {measured.accuracy:.4f} | {low:.4f} – {high:.4f} |" in page
    tumor = measured.by_class["tumor"]
    assert f"| tumor | {tumor.precision:.4f} | {tumor.recall:.4f}" in page
    right, wrong = measured.confusion[0]
    assert f"| healthy | {right} | {wrong} |" in page
    assert "graph" not in page


def test_the_page_says_how_it_was_trained(page: str) -> None:
    assert "1,234,567 parameters; 96 × 96 pixels" in page
    assert "1,200 scans trained, 130 validated. 2 epochs of 8.5 s on CPU, tensorflow" in page
    assert "epoch 2 had the lowest validation loss" in page
    assert "temperature 1.25" in page
    assert "```\nflask train --model binary-cnn --data set\n```" in page


def test_the_page_lists_what_was_left_out(page: str) -> None:
    assert "- Left out pred (60 images)." in page
    assert "- 0 scans were dropped because a near-duplicate has another label." in page
    assert "no clear outline of a head was found:\n  - set/speck.jpg" in page
    assert "- 1 scans could not be read:\n  - set/broken.jpg: The file is empty." in page
    assert "- 0 test scans have a near-duplicate in the training or validation part.\n" in page


def test_the_worst_mistakes_come_first(page: str, written: tuple[Path, Card, TestResults]) -> None:
    results = written[2]
    rows = re.findall(r"\| set/scan (\d+)\.jpg \| (\w+) \| (\w+) \| ([\d.]+) \|", page)
    guesses = results.probabilities.argmax(axis=1)
    assert {int(row) for row, *_ in rows} == set(np.nonzero(guesses != results.labels)[0])
    confidence = [float(number) for *_, number in rows]
    assert confidence == sorted(confidence, reverse=True)
    assert all(label != guess for _, label, guess, _ in rows)


def test_the_notice_is_on_the_page(page: str) -> None:
    assert page.endswith(f"{INTENDED_USE}\n\n{LIMITS}\n")


def test_the_same_results_give_the_same_bytes(
    tmp_path: Path, written: tuple[Path, Card, TestResults]
) -> None:
    """So that a report that is written again shows no change in version control."""
    folder, card, results = written
    write_report(tmp_path, card, HISTORY, results)
    for path in folder.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_four_classes_a_published_graph_leaks_and_no_mistake(tmp_path: Path) -> None:
    classes = ("glioma", "meningioma", "notumor", "pituitary")
    results = draw_results(4)
    perfect = np.eye(4, dtype=np.float32)[results.labels] * 0.9 + 0.025
    results = replace(results, probabilities=perfect, answers=results.labels)
    card = make_card(results, classes, contradictions=("set/a.jpg", "set/b.jpg"))
    measured = replace(card.measurement, leaks=Leaks(12, 0.99, 0.91))
    card = replace(card, measurement=measured, graph_difference=2.5e-6)
    write_report(tmp_path, card, HISTORY, results)
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| largest difference of the fp16 graph | 2.5e-06 |" in page
    assert "part. Accuracy on them: 0.9900. Accuracy on the others: 0.9100." in page
    assert "another label:\n  - set/a.jpg\n  - set/b.jpg" in page
    assert "| scan | labelled | predicted | confidence |\n|---|---|---|---|\n\n## Use" in page
    assert set(read_figures(tmp_path).roc) == set(classes)


@pytest.mark.parametrize(
    ("weights", "tensors", "told"),
    [
        ("my/net.h5", 1260, "from the weights `my/net.h5`, of which 1,260 tensors were loaded."),
        ("imagenet", 0, "from the weights `imagenet`."),  # a run of before they were counted
        ("", 0, "from random weights."),
    ],
)
def test_the_weights_it_started_from(tmp_path: Path, weights: str, tensors: int, told: str) -> None:
    results = draw_results(2)
    card = make_card(results, ("healthy", "tumor"), weights=weights, tensors=tensors)
    write_report(tmp_path, card, HISTORY, results)
    assert f"\nIt started {told}\n" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_leaks_everywhere_leave_no_others(tmp_path: Path) -> None:
    results = draw_results(2)
    card = make_card(results, ("healthy", "tumor"))
    measured = replace(card.measurement, leaks=Leaks(40, 0.99, None))
    write_report(tmp_path, replace(card, measurement=measured), HISTORY, results)
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "- 40 test scans have a near-duplicate in the training or validation part." in page
    assert "Accuracy on them: 0.9900.\n" in page
