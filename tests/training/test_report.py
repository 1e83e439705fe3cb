import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainscan.bundle import Card
from brainscan.scan import ScanSpecification
from training.evaluate import evaluate
from training.report import TestResults, write_report

PLOTS = ("history.svg", "confusion.svg", "roc.svg", "reliability.svg")
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
    return TestResults(names, probabilities.astype(np.float32), labels)


def make_card(results: TestResults, classes: tuple[str, ...], **training: Any) -> Card:
    measured = evaluate(results.probabilities, results.labels, np.arange(40), classes)
    return Card(
        name="binary-cnn",
        version=3,
        classes=classes,
        scan=ScanSpecification(96),
        architecture="2 convolutions",
        parameters=1_234_567,
        feature_layer=None,
        created="2026-11-21",
        training={
            "command": "flask train --model binary-cnn --data set",
            "epochs": 2,
            "best_epoch": 2,
            "temperature": 1.25,
            "precision": "float32",
            "device": "CPU, tensorflow",
            "manifest": "abc123",
            "classes": dict.fromkeys(classes, 100),
            "notes": ["Left out pred (60 images)."],
            "contradictions": [],
            "uncropped": ["set/speck.jpg"],
            "skipped": ["set/broken.jpg: The file is empty."],
            **training,
        },
        metrics={
            "protocol": "grouped",
            **measured,
            "parts": {"train": 1200, "validation": 130, "test": 40},
            "leaks": {"scans": 0, "accuracy_with": None, "accuracy_without": 0.9},
            "seconds_per_epoch": 8.5,
        },
        intended_use="Research.",
        limits="Not a medical device.",
        sources=(),
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


def test_the_page_and_its_plots_are_there(written: tuple[Path, Card, TestResults]) -> None:
    assert {path.name for path in written[0].iterdir()} == {"README.md", *PLOTS}


def test_every_picture_on_the_page_exists(
    page: str, written: tuple[Path, Card, TestResults]
) -> None:
    assert sorted(re.findall(r"!\[[^]]+\]\((.+?)\)", page)) == sorted(PLOTS)


@pytest.mark.parametrize("plot", PLOTS)
def test_plots_are_drawn(plot: str, written: tuple[Path, Card, TestResults]) -> None:
    root = ET.parse(written[0] / plot).getroot()  # noqa: S314  our own file
    assert root.tag.endswith("svg")
    texts = " ".join(text.strip() for text in root.itertext())
    expected = {
        "history.svg": "published epoch",
        "confusion.svg": "healthy",
        "roc.svg": "false positive rate",
        "reliability.svg": "confidence",
    }
    assert expected[plot] in texts


def test_the_page_says_what_was_measured(
    page: str, written: tuple[Path, Card, TestResults]
) -> None:
    metrics = written[1].metrics
    low, high = metrics["intervals"]["accuracy"]
    assert "# binary-cnn, version 3" in page
    assert "40 untouched test scans (40 near-duplicate groups)" in page
    assert "protocol `grouped`" in page
    assert f"| accuracy | {metrics['accuracy']:.4f} | {low:.4f} – {high:.4f} |" in page
    tumor = metrics["by_class"]["tumor"]
    assert f"| tumor | {tumor['precision']:.4f} | {tumor['recall']:.4f}" in page
    assert "graph" not in page


def test_the_page_says_how_it_was_trained(page: str) -> None:
    assert "1,234,567 parameters; 96 × 96 pixels" in page
    assert "1,200 scans trained, 130 validated. 2 epochs of 8.5 s on CPU, tensorflow" in page
    assert "epoch 2 had the lowest validation loss" in page
    assert "temperature 1.25" in page
    assert "```\nflask train --model binary-cnn --data set\n```" in page


def test_the_page_lists_what_was_left_out(page: str) -> None:
    assert "- Left out pred (60 images)." in page
    assert "- 0 scans were dropped, as a near-duplicate carries another label." in page
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
    assert page.endswith("Research.\n\nNot a medical device.\n")


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
    results = replace(results, probabilities=perfect)
    card = make_card(results, classes, contradictions=["set/a.jpg", "set/b.jpg"])
    leaks = {"scans": 12, "accuracy_with": 0.99, "accuracy_without": 0.91}
    card = replace(card, metrics={**card.metrics, "leaks": leaks, "graph_difference": 2.5e-6})
    write_report(tmp_path, card, HISTORY, results)
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| largest difference of the fp16 graph | 2.5e-06 |" in page
    assert "part. Accuracy on them: 0.9900. Accuracy on the others: 0.9100." in page
    assert "another label:\n  - set/a.jpg\n  - set/b.jpg" in page
    assert "| scan | labelled | predicted | confidence |\n|---|---|---|---|\n\n## Use" in page
    curves = (tmp_path / "roc.svg").read_text()
    assert all(name in curves for name in classes)


def test_leaks_everywhere_leave_no_others(tmp_path: Path) -> None:
    results = draw_results(2)
    card = make_card(results, ("healthy", "tumor"))
    leaks = {"scans": 40, "accuracy_with": 0.99, "accuracy_without": None}
    write_report(
        tmp_path, replace(card, metrics={**card.metrics, "leaks": leaks}), HISTORY, results
    )
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "- 40 test scans have a near-duplicate in the training or validation part." in page
    assert "Accuracy on them: 0.9900.\n" in page
