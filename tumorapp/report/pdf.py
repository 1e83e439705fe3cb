"""One prediction as a PDF to print or to keep: a single page, in the language of its request.

reportlab takes 0.1 s and 3 MB that most workers never need: the route imports this module with its
first report.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from reportlab import rl_config
from reportlab.graphics.shapes import Drawing, Rect
from reportlab.lib.colors import HexColor
from reportlab.lib.enums import TA_LEFT, TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.platypus import Image, KeepInFrame, Paragraph, SimpleDocTemplate, Spacer, Table

from brainscan import Examination
from brainscan.bundle import Card, Measurement
from brainscan.heatmap import lay_over
from brainscan.lesion import Lesion
from tumorapp.language import cards, wording
from tumorapp.language.translation import mark, name_language, tell, translate, write_decimal
from tumorapp.report.text import make_plain, shorten

rl_config.useA85 = 0  # pictures as they are: in text they would be larger and take longer

NOTICE = mark("For research and teaching only. Not for diagnosis.")
CAUTION = mark(
    "TumorApp is not a medical device. A model can be wrong even when it is confident: never base "
    "a decision about a person’s health on its answers."
)
MOST_CLASSES = 6
MOST_WARNINGS = 3
LONGEST_TEXT = 160

_MARGIN = 50
_WIDTH, _HEIGHT = A4[0] - 2 * _MARGIN, A4[1] - 2 * _MARGIN
_PICTURE, _PICTURE_PIXELS = (_WIDTH - 20) / 2, 800
_LONE_PICTURE = 350  # one alone takes the room of two
_NAMES, _SHARES = 112, 50  # the columns before and behind a bar
_BAR = _WIDTH - _NAMES - _SHARES
_INK, _QUIET, _ACCENT, _FILL, _TRACK = map(
    HexColor, ("#172225", "#526168", "#0b6770", "#85959b", "#e6ecec")
)
_WARNING, _WARNING_INK = HexColor("#fdf3dc"), HexColor("#664200")
_CROP, _LESION, _HALO = (208, 202, 108), (94, 215, 255), (0, 0, 0)  # BGR
_NO_PADDING = [(f"{side}PADDING", (0, 0), (-1, -1), 0) for side in ("LEFT", "RIGHT", "TOP")]


@dataclass(frozen=True, eq=False)
class Report:
    """What a report says.

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
    remarks = wording.remarks(found)[:MOST_WARNINGS]
    made = _write(f"{report.made:%Y-%m-%d, %H:%M} UTC", 9, _QUIET, right=True)
    facts = [
        [_write(name, 9, _QUIET), _write(shorten(value, LONGEST_TEXT), 9)]
        for name, value in _list_facts(report)
    ]
    parts = [
        _lay_out([[_write("TumorApp", 11, bold=True), made]], (_WIDTH / 2, _WIDTH / 2)),
        _warn([translate(NOTICE)]),
        _write(shorten(found.name, 60), 9, _QUIET),
        _write(wording.headline(found), 23 if found.verdict != "not-recognised" else 14, bold=True),
        _write(wording.certainty(found), 12),
        _write(wording.explanation(found), 9.5, _QUIET),
        Spacer(0, 8),
        _draw_pictures(found),
        _warn(list(map(tell, remarks))) if remarks else Spacer(0, 8),
        *(_draw_bars(found) if found.verdict != "not-recognised" else [_write_shares(found)]),
        Spacer(0, 12),
        _lay_out(facts, (_NAMES, _WIDTH - _NAMES)),
        Spacer(0, 12),
        _write(translate(CAUTION), 8, _QUIET),
    ]
    file = io.BytesIO()
    margin = _MARGIN - 6  # and a frame's own padding
    document = SimpleDocTemplate(
        file,
        pagesize=A4,
        leftMargin=margin,
        rightMargin=margin,
        topMargin=margin,
        bottomMargin=margin,
        title=translate("TumorApp report"),
        lang=name_language(),
        author="",  # instead of the library's own words
        subject="",
        creator="",
    )
    # Whatever was sent and whatever the model, it is one page.
    document.build([KeepInFrame(_WIDTH, _HEIGHT, parts, mode="shrink")])
    return file.getvalue()


def _write(
    text: str, size: float, colour: HexColor = _INK, *, bold: bool = False, right: bool = False
) -> Paragraph:
    style = ParagraphStyle(
        "",
        fontName="Helvetica-Bold" if bold else "Helvetica",
        fontSize=size,
        leading=size * 1.3,
        textColor=colour,
        alignment=TA_RIGHT if right else TA_LEFT,
    )
    return Paragraph(escape(make_plain(text)), style)


def _lay_out(rows: Sequence[Sequence[Any]], widths: Sequence[float]) -> Table:
    table = Table(rows, widths, hAlign="LEFT")
    table.setStyle([("VALIGN", (0, 0), (-1, -1), "MIDDLE"), *_NO_PADDING])
    return table


def _warn(texts: Sequence[str]) -> Table:
    """Write texts into a box that stands out."""
    table = Table([[[_write(text, 9, _WARNING_INK) for text in texts]]], [_WIDTH])
    table.setStyle([("BACKGROUND", (0, 0), (-1, -1), _WARNING)])
    table.spaceBefore = table.spaceAfter = 8
    return table


def _draw_pictures(found: Examination) -> Table:
    """Draw the scan with its crop outlined, and with what the model marks or where it looked."""
    small = found.picture.shrink(_PICTURE_PIXELS).grey
    scale = small.shape[1] / found.picture.size[0]
    left, top, right, bottom = (round(place * scale) for place in found.scan.box)
    outlined = np.repeat(small[..., np.newaxis], 3, axis=2)
    cv2.rectangle(outlined, (left, top), (right - 1, bottom - 1), _CROP, 1)
    title = translate("The scan, and the part that the model saw")
    if found.lesion:
        share = wording.area(found.lesion.area)
        caption = translate("The model marks this region: %(share)s of the head", share=share)
        marked = draw_lesion(small, found.lesion)
    elif found.heatmap:
        caption = translate("Where the model looked: the warmer, the more it counted")
        marked = lay_over(small, found.heatmap)
    else:
        whole = _draw_picture(outlined, f"{title}. {wording.missing_map(found)}", _LONE_PICTURE)
        return _lay_out([[whole]], (_WIDTH,))
    whole, other = _draw_picture(outlined, title), _draw_picture(marked, caption)
    return _lay_out([[whole, other]], (_PICTURE + 20, _PICTURE))


def draw_lesion(grey: NDArray[np.uint8], lesion: Lesion) -> NDArray[np.uint8]:
    """Draw the outline of a region over its scan, light within dark.

    Args:
        grey: uint8, shape (height, width): the scan.
        lesion: the region.

    Returns:
        uint8, shape (height, width, 3), in BGR.
    """
    picture = np.repeat(grey[..., np.newaxis], 3, axis=2)
    fine = 16  # of a pixel
    sides = np.array(grey.shape[::-1])
    # OpenCV counts from the middle of the first pixel.
    polygons = [
        np.rint((np.array(polygon) * sides - 0.5) * fine).astype(np.int32)
        for polygon in lesion.outline
    ]
    thickness = max(1, round(max(grey.shape) / 400))
    for colour, width in ((_HALO, thickness + 2), (_LESION, thickness)):
        cv2.polylines(picture, polygons, True, colour, width, cv2.LINE_AA, shift=4)
    return picture


def _draw_picture(pixels: NDArray[np.uint8], caption: str, side: float = _PICTURE) -> list[Any]:
    """Draw a picture, uint8, shape (height, width, 3) in BGR, with a line below it."""
    jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
    image = Image(io.BytesIO(jpeg), side, side, kind="proportional", hAlign="LEFT")
    return [image, _write(caption, 8.5, _QUIET)]


def _draw_bars(found: Examination) -> Iterator[Any]:
    """Draw a bar for each class; of very many, those for the most probable ones."""
    shares = found.probabilities
    shown = sorted(shares, key=lambda label: -shares[label])[:MOST_CLASSES]
    rows = []
    for label in shares:
        if label in shown:
            top, share = label in wording.named(found), shares[label]
            bar = Drawing(_BAR, 7)
            bar.add(Rect(0, 0, _BAR, 7, fillColor=_TRACK, strokeColor=None))
            bar.add(
                Rect(0, 0, _BAR * share, 7, fillColor=_ACCENT if top else _FILL, strokeColor=None)
            )
            name = _write(shorten(wording.class_name(label), 20), 10, bold=top)
            value = _write(wording.probability(share), 10, bold=top, right=True)
            rows.append([name, bar, value])
    yield _lay_out(rows, (_NAMES, _BAR, _SHARES))
    if len(shares) > len(shown):
        rest = translate("and %(count)s less probable classes", count=len(shares) - len(shown))
        yield _write(rest, 9, _QUIET)


def _write_shares(found: Examination) -> Paragraph:
    """Write on a line what the model would have said of a picture that is not recognised."""
    shares = found.probabilities
    shown = sorted(shares, key=lambda label: -shares[label])[:MOST_CLASSES]
    told = ", ".join(f"{wording.class_name(it)} {wording.probability(shares[it])}" for it in shown)
    return _write(f"{translate('What the model would have said')}: {told}", 9, _QUIET)


def _list_facts(report: Report) -> Iterator[tuple[str, str]]:
    found, card = report.examination, report.examination.card
    width, height = found.scan.whole
    name = shorten(card.name, 40)
    yield (
        translate("Model"),
        translate("%(name)s, version %(number)s", name=name, number=card.version),
    )
    yield translate("Architecture"), cards.layers(card.architecture)
    yield translate("Measured accuracy"), _describe_accuracy(card, found.precision)
    if (found.lesion or found.heatmap) and (told := wording.pointing(card)):
        yield translate("The map"), told
    if card.measurement:
        protocol = translate(card.measurement.protocol)
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
        return translate("unknown")
    low, high = map(wording.percent, card.measurement.intervals.accuracy)
    told = translate(
        "%(share)s (95%% interval %(low)s to %(high)s)",
        share=wording.percent(card.measurement.accuracy),
        low=low,
        high=high,
    )
    return "; ".join(filter(None, (told, wording.int8_accuracy(card, precision))))
