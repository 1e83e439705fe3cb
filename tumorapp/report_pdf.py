"""One prediction as a PDF to print or to keep: a single page."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import cv2
import numpy as np
from numpy.typing import NDArray

from training.bundle import Card
from training.scan import PreparedScan
from tumorapp import wording
from tumorapp.heatmap import lay_over
from tumorapp.inference import Prediction
from tumorapp.pdf_sheet import GAP, PICTURE, Sheet, shorten

NOTICE = "For research and teaching only. Not for diagnosis."
CAUTION = (
    "TumorApp is no medical device. A model can be wrong and sure of it: never base a decision "
    "about a person’s health on its answers."
)
# So that everything fits onto the page, whatever was sent and whatever the model.
MOST_CLASSES = 6
MOST_WARNINGS = 3
LONGEST_TEXT = 160
LONGEST_NAME = 60

_PICTURE_PIXELS = 800


@dataclass(frozen=True, eq=False)
class Report:
    """What a report tells.

    Attributes:
        card: the model's.
        prediction: what it said.
        scan: as the model got it.
        grey: uint8, shape (height, width): as it was decoded.
        sha256: of the file.
        made: when, in UTC.
        software: its name and version.
    """

    card: Card
    prediction: Prediction
    scan: PreparedScan
    grey: NDArray[np.uint8]
    sha256: str
    made: datetime
    software: str


def draw_report(report: Report) -> bytes:
    """Draw a report; gives the PDF."""
    prediction = report.prediction
    sheet = Sheet("TumorApp report")
    sheet.head("TumorApp", f"{report.made:%Y-%m-%d, %H:%M} UTC")
    sheet.warn([NOTICE])
    sheet.write(shorten(prediction.filename, LONGEST_NAME), 9, quiet=True)
    sheet.write(shorten(wording.finding(prediction.label), 35), 23, bold=True)
    sheet.space(2)
    sheet.write(f"{wording.probability(prediction.confidence)} confidence", 12)
    sheet.space(2)
    sheet.write(wording.meaning(prediction.label), 9.5, quiet=True)
    sheet.space(4)
    _draw_pictures(sheet, report)
    if prediction.warnings:
        sheet.warn([shorten(one, LONGEST_TEXT) for one in prediction.warnings[:MOST_WARNINGS]])
    _draw_bars(sheet, prediction)
    for name, value in _list_facts(report):
        sheet.state(name, shorten(value, LONGEST_TEXT))
    return sheet.finish(CAUTION)


def _draw_pictures(sheet: Sheet, report: Report) -> None:
    """Draw the scan with its crop outlined, and the heat map over it where there is one."""
    height, width = report.grey.shape
    scale = min(1.0, _PICTURE_PIXELS / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(cv2.resize(report.grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    box = report.scan.box
    part = (box.left / width, box.top / height, box.right / width, box.bottom / height)
    sheet.picture(small, "The scan, and the part that the model saw", column=0, box=part)
    if heatmap := report.prediction.heatmap:
        laid = np.frombuffer(lay_over(small, heatmap), np.uint8)
        over = np.asarray(cv2.imdecode(laid, cv2.IMREAD_COLOR), np.uint8)
        sheet.picture(over, "Where the model looked: the warmer, the more it counted", column=1)
    sheet.space(PICTURE + GAP + 4)


def _draw_bars(sheet: Sheet, prediction: Prediction) -> None:
    """Draw a bar for each class; of very many, those for the most probable ones."""
    shares = prediction.probabilities
    shown = sorted(shares, key=lambda label: -shares[label])[:MOST_CLASSES]
    sheet.space(4)
    for label in shares:
        if label in shown:
            share = shares[label]
            sheet.bar(
                wording.class_name(label),
                share,
                wording.probability(share),
                top=label == prediction.label,
            )
    if len(shares) > len(shown):
        sheet.write(f"and {len(shares) - len(shown)} less probable classes", 9, quiet=True)
    sheet.space(8)


def _list_facts(report: Report) -> Iterator[tuple[str, str]]:
    card, box, (width, height) = report.card, report.scan.box, report.scan.whole
    yield "Model", f"{shorten(card.name, 40)}, version {card.version}"
    yield "Architecture", card.architecture
    yield "Measured accuracy", _describe_accuracy(card)
    if protocol := card.metrics.get("protocol"):
        scans = card.metrics.get("scans")
        number = f"{scans:,} " if isinstance(scans, int) else ""
        meaning = wording.protocol_meaning(protocol)
        yield "Protocol", f"{protocol}: measured on {number}scans {meaning}"
    yield "File, SHA-256", report.sha256
    yield "Scan", f"{width} × {height} pixels"
    whole = (box.left, box.top, box.right, box.bottom) == (0, 0, width, height)
    columns, rows = box.right - box.left, box.bottom - box.top
    crop = (
        "none: the whole scan"
        if whole
        else f"{columns} × {rows} pixels, from column {box.left} and row {box.top}"
    )
    yield "Crop", f"{crop}, resized to {card.scan.size} × {card.scan.size}"
    yield "Made by", report.software


def _describe_accuracy(card: Card) -> str:
    accuracy = card.metrics.get("accuracy")
    if accuracy is None:
        return "none on its card"
    interval = (card.metrics.get("intervals") or {}).get("accuracy")
    between = (
        f" (95% interval {wording.percent(interval[0])} to {wording.percent(interval[1])})"
        if interval
        else ""
    )
    return wording.percent(accuracy) + between
