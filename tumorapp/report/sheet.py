"""An A4 page of a PDF that is written from its top down.

reportlab costs 0.1 s and 3 MB that most workers never need: whoever uses this imports it then.
Only its canvas is used, which draws text as it is; its paragraphs would read it as markup.
"""

import io
import unicodedata
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader, simpleSplit
from reportlab.pdfgen.canvas import Canvas

GAP = 20.0  # points, between two pictures

_WIDTH, _HEIGHT = A4
_MARGIN = 50.0
_INNER = _WIDTH - 2 * _MARGIN
PICTURE = (_INNER - GAP) / 2  # the side of the square that a picture fits into
_LABELS = 112.0  # the column of what stands before a bar or a fact
_SHARES = 50.0  # and of what stands behind a bar
_LINE = 1.3  # of the size of its letters
_INK, _QUIET, _ACCENT, _FILL, _TRACK = "#172225", "#526168", "#0b6770", "#85959b", "#e6ecec"
_WARNING, _WARNING_INK, _OUTLINE = "#fdf3dc", "#664200", "#6ccad0"
_REGULAR, _BOLD = "Helvetica", "Helvetica-Bold"
_ENCODING = "cp1252"  # the characters of a PDF's own fonts
_JPEG_QUALITY = 92


def make_plain(text: str) -> str:
    """Write a text with the characters that a PDF's own fonts have: "ő" → "o", "脳" → "?".

    Line ends and what turns the direction of writing become spaces.
    """
    return "".join(map(_make_plain, unicodedata.normalize("NFC", text)))


def shorten(text: str, most: int) -> str:
    """Cut a text in its middle to a number of characters, so that a file name keeps its ending."""
    if len(text) <= most:
        return text
    end = most // 3
    return f"{text[: most - end - 1]}…{text[-end:]}"


class Sheet:
    """The page; what is written next begins below what was written last.

    Args:
        title: of the file.
        language: its tag, such as "en".
    """

    def __init__(self, title: str, language: str) -> None:
        self._file = io.BytesIO()
        self._canvas = Canvas(self._file, pagesize=A4, lang=language)
        self._canvas.setTitle(title)
        self._canvas.setAuthor("")  # instead of the library's own words
        self._canvas.setSubject("")
        self._canvas.setCreator("")
        self._top: float = _HEIGHT - _MARGIN

    def head(self, text: str, end: str) -> None:
        """Write the first line: a text at either end."""
        base = self._top - 11
        self._line(_MARGIN, base, text, 11, bold=True)
        self._end(base, end, 9, colour=_QUIET)
        self._top = base - 4

    def write(self, text: str, size: float, *, bold: bool = False, quiet: bool = False) -> None:
        """Write a text over the whole width, in as many lines as it takes."""
        for line in simpleSplit(make_plain(text), _BOLD if bold else _REGULAR, size, _INNER):
            self._top -= size * _LINE
            self._line(_MARGIN, self._top, line, size, bold=bold, colour=_QUIET if quiet else _INK)

    def warn(self, texts: Sequence[str]) -> None:
        """Write texts into a box that stands out."""
        lines = [part for text in texts for part in _wrap(text, 9, _INNER - 20)]
        height = len(lines) * 12 + 10
        self._fill(_MARGIN, self._top - 8 - height, _INNER, height, _WARNING)
        for number, line in enumerate(lines):
            self._line(_MARGIN + 10, self._top - 22 - number * 12, line, 9, colour=_WARNING_INK)
        self._top -= height + 12

    def picture(
        self,
        pixels: NDArray[np.uint8],
        caption: str,
        *,
        column: int,
        box: tuple[float, float, float, float] | None = None,
    ) -> None:
        """Draw a picture in the first or second column; `space` moves below it.

        Args:
            pixels: uint8, shape (height, width) or (height, width, 3) in BGR.
            caption: one line.
            column: 0 or 1.
            box: left, top, right and bottom of a part to outline, as shares of the picture.
        """
        left, bottom = _MARGIN + column * (PICTURE + GAP), self._top - 8 - PICTURE
        self._fill(left, bottom, PICTURE, PICTURE, "#000000")
        height, width = pixels.shape[:2]
        scale = PICTURE / max(height, width)
        across, down = width * scale, height * scale
        place = left + (PICTURE - across) / 2, bottom + (PICTURE - down) / 2
        jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
        self._canvas.drawImage(ImageReader(io.BytesIO(jpeg.tobytes())), *place, across, down)
        if box is not None:
            start, top, end, base = box
            self._canvas.setStrokeColor(HexColor(_OUTLINE))
            self._canvas.rect(
                place[0] + start * across,
                place[1] + (1 - base) * down,
                (end - start) * across,
                (base - top) * down,
            )
        self._line(left, bottom - 12, caption, 8.5, colour=_QUIET)

    def space(self, points: float) -> None:
        """Leave space."""
        self._top -= points

    def bar(self, name: str, share: float, words: str, *, top: bool) -> None:
        """Draw a bar for a share of 0 to 1, between its name and its value in words."""
        base = self._top - 11
        longest = _INNER - _LABELS - _SHARES
        self._line(_MARGIN, base, shorten(name, 20), 10, bold=top)
        self._fill(_MARGIN + _LABELS, base, longest, 7, _TRACK)
        self._fill(_MARGIN + _LABELS, base, longest * share, 7, _ACCENT if top else _FILL)
        self._end(base, words, 10, bold=top)
        self._top -= 16

    def state(self, name: str, value: str) -> None:
        """Write a fact: its name, and its value beside it."""
        self._line(_MARGIN, self._top - 9, name, 8.5, colour=_QUIET)
        for line in _wrap(value, 8.5, _INNER - _LABELS):
            self._line(_MARGIN + _LABELS, self._top - 9, line, 8.5)
            self._top -= 8.5 * _LINE
        self._top -= 1.5

    def finish(self, foot: str) -> bytes:
        """Write a text at the foot of the page, and give the PDF."""
        lines = _wrap(foot, 8, _INNER)
        for number, line in enumerate(reversed(lines)):
            self._line(_MARGIN, _MARGIN - 14 + number * 8 * _LINE, line, 8, colour=_QUIET)
        self._canvas.showPage()
        self._canvas.save()
        return self._file.getvalue()

    @property
    def left(self) -> float:
        """How much space is left above the foot, in points."""
        return self._top - _MARGIN - 10

    def _line(
        self,
        start: float,
        base: float,
        text: str,
        size: float,
        *,
        bold: bool = False,
        colour: str = _INK,
    ) -> None:
        self._canvas.setFont(_BOLD if bold else _REGULAR, size)
        self._canvas.setFillColor(HexColor(colour))
        self._canvas.drawString(start, base, make_plain(text))

    def _end(
        self, base: float, text: str, size: float, *, bold: bool = False, colour: str = _INK
    ) -> None:
        self._canvas.setFont(_BOLD if bold else _REGULAR, size)
        self._canvas.setFillColor(HexColor(colour))
        self._canvas.drawRightString(_WIDTH - _MARGIN, base, make_plain(text))

    def _fill(self, left: float, bottom: float, width: float, height: float, colour: str) -> None:
        self._canvas.setFillColor(HexColor(colour))
        self._canvas.rect(left, bottom, width, height, stroke=0, fill=1)


def _wrap(text: str, size: float, width: float) -> list[str]:
    lines: list[str] = simpleSplit(make_plain(text), _REGULAR, size, width)
    return lines


def _make_plain(character: str) -> str:
    if not character.isprintable():
        return " "
    try:
        character.encode(_ENCODING)
    except UnicodeEncodeError:
        bare = unicodedata.normalize("NFKD", character).encode("ascii", "ignore")
        return bare.decode("ascii") or "?"
    return character
