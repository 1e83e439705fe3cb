"""One prediction as a PDF to print or to keep: a single page, in the language of its request."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import cv2
import numpy as np

from brainscan import Examination
from brainscan.bundle import Card, Measurement
from brainscan.heatmap import lay_over
from tumorapp.language import wording
from tumorapp.language.translation import mark, name_language, tell, translate, write_decimal
from tumorapp.report.sheet import GAP, PICTURE, Sheet, shorten

NOTICE = mark("For research and teaching only. Not for diagnosis.")
CAUTION = mark(
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
        examination: what a model says of a scan, its picture kept.
        sha256: of the file.
        made: when, in UTC.
        software: its name and version.
    """

    examination: Examination
    sha256: str
    made: datetime
    software: str


def draw_report(report: Report) -> bytes:
    """Draw a report; gives the PDF."""
    found = report.examination
    sheet = Sheet(translate("TumorApp report"), name_language())
    sheet.head("TumorApp", f"{report.made:%Y-%m-%d, %H:%M} UTC")
    sheet.warn([translate(NOTICE)])
    sheet.write(shorten(found.name, LONGEST_NAME), 9, quiet=True)
    sheet.write(shorten(wording.finding(found.label), 35), 23, bold=True)
    sheet.space(2)
    share = wording.probability(found.confidence)
    sheet.write(translate("%(share)s confidence", share=share), 12)
    sheet.space(2)
    sheet.write(wording.meaning(found.label), 9.5, quiet=True)
    sheet.space(4)
    _draw_pictures(sheet, found)
    if found.warnings:
        told = map(tell, found.warnings[:MOST_WARNINGS])
        sheet.warn([shorten(one, LONGEST_TEXT) for one in told])
    _draw_bars(sheet, found)
    for name, value in _list_facts(report):
        sheet.state(name, shorten(value, LONGEST_TEXT))
    return sheet.finish(translate(CAUTION))


def _draw_pictures(sheet: Sheet, found: Examination) -> None:
    """Draw the scan with its crop outlined, and the heat map over it where there is one."""
    width, height = found.picture.size
    scale = min(1.0, _PICTURE_PIXELS / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(cv2.resize(found.picture.grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    box = found.scan.box
    part = (box.left / width, box.top / height, box.right / width, box.bottom / height)
    sheet.picture(small, translate("The scan, and the part that the model saw"), column=0, box=part)
    if heatmap := found.heatmap:
        laid = np.frombuffer(lay_over(small, heatmap), np.uint8)
        over = np.asarray(cv2.imdecode(laid, cv2.IMREAD_COLOR), np.uint8)
        sheet.picture(
            over, translate("Where the model looked: the warmer, the more it counted"), column=1
        )
    sheet.space(PICTURE + GAP + 4)


def _draw_bars(sheet: Sheet, found: Examination) -> None:
    """Draw a bar for each class; of very many, those for the most probable ones."""
    shares = found.probabilities
    shown = sorted(shares, key=lambda label: -shares[label])[:MOST_CLASSES]
    sheet.space(4)
    for label in shares:
        if label in shown:
            share = shares[label]
            sheet.bar(
                wording.class_name(label),
                share,
                wording.probability(share),
                top=label == found.label,
            )
    if len(shares) > len(shown):
        rest = translate("and %(count)s less probable classes", count=len(shares) - len(shown))
        sheet.write(rest, 9, quiet=True)
    sheet.space(8)


def _list_facts(report: Report) -> Iterator[tuple[str, str]]:
    found, card = report.examination, report.examination.card
    width, height = found.scan.whole
    name = shorten(card.name, 40)
    yield (
        translate("Model"),
        translate("%(name)s, version %(number)s", name=name, number=card.version),
    )
    yield translate("Architecture"), card.architecture
    yield translate("Measured accuracy"), _describe_accuracy(card, found.precision)
    if card.measurement:
        protocol = card.measurement.protocol
        yield translate("Protocol"), f"{protocol}: {_describe_protocol(card.measurement)}"
    yield translate("File, SHA-256"), report.sha256
    yield translate("Scan"), translate("%(size)s pixels", size=f"{width} × {height}")
    yield translate("Crop"), _describe_crop(found)
    yield translate("Made by"), report.software


def _describe_protocol(measurement: Measurement) -> str:
    meaning = wording.protocol_meaning(measurement.protocol)
    number = write_decimal(measurement.scans, 0)
    return translate("measured on %(number)s scans %(meaning)s", number=number, meaning=meaning)


def _describe_crop(found: Examination) -> str:
    box, side = found.scan.box, found.card.scan.size
    size = f"{side} × {side}"
    if (box.left, box.top, box.right, box.bottom) == (0, 0, *found.scan.whole):
        return translate("none: the whole scan, resized to %(size)s", size=size)
    return translate(
        "%(part)s pixels, from column %(column)s and row %(row)s, resized to %(size)s",
        part=f"{box.right - box.left} × {box.bottom - box.top}",
        column=box.left,
        row=box.top,
        size=size,
    )


def _describe_accuracy(card: Card, precision: str) -> str:
    if card.measurement is None:
        return translate("none on its card")
    low, high = map(wording.percent, card.measurement.intervals.accuracy)
    told = translate(
        "%(share)s (95%% interval %(low)s to %(high)s)",
        share=wording.percent(card.measurement.accuracy),
        low=low,
        high=high,
    )
    return "; ".join(filter(None, (told, wording.int8_accuracy(card, precision))))
