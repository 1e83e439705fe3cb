"""Draws a chart as SVG, for the pages and for the files that a training and the study write.

Everything is drawn with attributes in `currentColor` and in colours that show on white and on dark
alike, so a chart needs no style sheet: it follows the theme of the page it is put into, and a
strict policy for styles has nothing to refuse.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

# At least 4:1 against white, and against the pages' dark surface.
_COLOURS = ("#2c7ed0", "#c55f16", "#298c5a", "#c5509e", "#9e60ca", "#d94a4a", "#248891", "#877e18")
_DASHES = ("none", "7 3", "2 3", "9 3 2 3")  # for eyes that see fewer colours
_SHAPES = (
    "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0",
    "m-4-4h8v8h-8z",
    "m0-5l5 9h-10z",
    "m0-5l5 5l-5 5l-5-5z",
    "m-5-4h10l-5 9z",
    "m-5-1h4v-4h2v4h4v2h-4v4h-2v-4h-4z",
)
_WIDTH, _HEIGHT = 480, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 44
_LINE_HEIGHT = 18
_GREY = 'stroke="currentColor" stroke-opacity="0.6" stroke-dasharray="2 3"'
_BAR = 'fill="currentColor" fill-opacity="0.2"'
_GRID = 'stroke="currentColor" stroke-opacity="0.15"'
_FLAT = 1e-9
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # the marks of an axis of shares


@dataclass(frozen=True)
class Words:
    """How a chart's words, numbers and classes are written: in plain English, or as a page does."""

    translate: Callable[[str], str] = str
    number: Callable[[float, int], str] = "{:.{}f}".format
    class_name: Callable[[str], str] = str


@dataclass(frozen=True)
class Plot:
    """A drawing to be put into HTML as it is, and the words that go with it."""

    title: str
    explanation: str
    svg: str

    @property
    def file(self) -> str:
        """The drawing as a file of its own, in a grey that shows on white and on dark alike."""
        alone = 'xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" color="#777"'
        return self.svg.replace("<svg", f"<svg {alone}", 1) + "\n"


@dataclass(frozen=True)
class Line:
    """What is drawn in one colour.

    Attributes:
        name: in the legend.
        x, y: of its points.
        dots: whether its points are marked.
        joined: whether a line goes from point to point.
        spreads: the lower and the upper end of an interval of `y`, point by point.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dots: bool = False
    joined: bool = True
    spreads: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Axis:
    """What an axis is called, and the values that it marks, from its one end to the other.

    Attributes:
        name: below the axis, or at its left.
        marks: the values.
        texts: what is written at the marks, in place of their numbers.
    """

    name: str
    marks: Sequence[float]
    texts: Sequence[str] = ()

    def place(self, value: float) -> float:
        """Give where a value lies, 0 to 1."""
        low, high = self.marks[0], self.marks[-1]
        return (value - low) / (high - low)


@dataclass(frozen=True)
class Chart:
    """What is drawn.

    Attributes:
        x, y: the axes below and at the left.
        legend: the corner that the lines leave free, such as "top left".
        grey: a dotted line of reference; its name is "" for none.
        bars: a name for bars, and the `x` and `y` of each.
    """

    title: str
    explanation: str
    lines: Sequence[Line]
    x: Axis
    y: Axis
    legend: str
    grey: Line | None = None
    bars: Line | None = None


def choose_marks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Choose four to nine round values that reach from below `low` to above `high`."""
    span = max(high - low, 1 if whole else abs(high) * 1e-3, _FLAT)
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * times for times in (1, 2, 2.5, 5, 10) if span / (power * times) <= 6)
    if whole:
        step = max(1, math.ceil(step))
    first, last = math.floor(low / step), math.ceil(high / step)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def draw_chart(chart: Chart, words: Words) -> Plot:
    """Draw a chart, with its numbers as the words write them."""
    head = (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(chart.title)}" '
        'font-size="12" fill="none">'
    )
    parts = [*_draw_axes(chart, words), *_draw_lines(chart), *_draw_legend(chart)]
    return Plot(chart.title, chart.explanation, "\n".join([head, *parts, "</svg>"]))


def _draw_axes(chart: Chart, words: Words) -> list[str]:
    parts = []
    for mark, text in _label(chart.x, words):
        x, bottom = _point(chart, mark, chart.y.marks[0])
        parts.append(f'<path d="M{x:.1f} {_TOP}V{bottom:.1f}" {_GRID}/>')
        parts.append(_write(x, bottom + 16, text, "middle"))
    for mark, text in _label(chart.y, words):
        left, y = _point(chart, chart.x.marks[0], mark)
        parts.append(f'<path d="M{left:.1f} {y:.1f}H{_WIDTH - _RIGHT}" {_GRID}/>')
        parts.append(_write(left - 6, y + 4, text, "end"))
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    turn = f' transform="rotate(-90 12 {middle:.1f})"'
    parts.append(_write((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, chart.x.name, "middle"))
    parts.append(_write(12, middle, chart.y.name, "middle", turn))
    return parts


def _label(axis: Axis, words: Words) -> list[tuple[float, str]]:
    """Give each mark with its text, or with as many digits as tell it from the next."""
    marks = axis.marks
    if axis.texts:
        return list(zip(marks, axis.texts, strict=True))
    step = min(after - before for before, after in pairwise(marks))
    digits = next((count for count in range(9) if abs(step - round(step, count)) < step * 1e-6), 9)
    return [(mark, words.number(mark, digits)) for mark in marks]


def _draw_lines(chart: Chart) -> list[str]:
    parts = []
    if chart.bars:
        for x, y in zip(chart.bars.x, chart.bars.y, strict=True):
            (column, row), (_, floor) = _point(chart, x, y), _point(chart, x, 0)
            parts.append(
                f'<rect x="{column - 6:.1f}" y="{row:.1f}" width="12" height="{floor - row:.1f}" '
                f"{_BAR}/>"
            )
    if chart.grey:
        parts.append(f'<polyline points="{_join(chart, chart.grey)}" {_GREY}/>')
    for number, line in enumerate(chart.lines):
        if line.joined:
            parts.append(f'<polyline points="{_join(chart, line)}" {_stroke(number)}/>')
        if line.spreads:
            path = ""
            for x, (low, high) in zip(line.x, line.spreads, strict=True):
                (column, top), (_, bottom) = _point(chart, x, high), _point(chart, x, low)
                path += f"M{column:.1f} {top:.1f}V{bottom:.1f}"
            colour = f'stroke="{_COLOURS[number % len(_COLOURS)]}" stroke-opacity="0.5"'
            parts.append(f'<path d="{path}" {colour}/>')
        if line.dots or len(line.x) == 1:
            points = (_point(chart, x, y) for x, y in zip(line.x, line.y, strict=True))
            parts.append(_draw_dots(number, points))
    return parts


def _draw_dots(number: int, points: Iterable[tuple[float, float]]) -> str:
    """Mark the points of the line of that number, by a shape for eyes that see fewer colours."""
    shape, colour = _SHAPES[number % len(_SHAPES)], _COLOURS[number % len(_COLOURS)]
    path = "".join(f"M{x:.1f} {y:.1f}{shape}" for x, y in points)
    return f'<path d="{path}" fill="{colour}"/>'


def _stroke(number: int) -> str:
    dash = _DASHES[number % len(_DASHES)]
    colour = _COLOURS[number % len(_COLOURS)]
    return f'stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"'


def _draw_legend(chart: Chart) -> list[str]:
    entries = []
    for number, line in enumerate(chart.lines):
        stroke = f'<path d="M0 0H24" {_stroke(number)}/>'
        entries.append((line.name, stroke if line.joined else _draw_dots(number, [(12, 0)])))
    if chart.grey and chart.grey.name:
        entries.append((chart.grey.name, f'<path d="M0 0H24" {_GREY}/>'))
    if chart.bars:
        sample = f'<rect x="6" y="-6" width="12" height="12" {_BAR}/>'
        entries.append((chart.bars.name, sample))
    at_right, at_bottom = "right" in chart.legend, "bottom" in chart.legend
    x = _WIDTH - _RIGHT - 36 if at_right else _LEFT + 12
    y = _HEIGHT - _BOTTOM - len(entries) * _LINE_HEIGHT if at_bottom else _TOP + 14
    parts = []
    for number, (name, sample) in enumerate(entries):
        row = y + number * _LINE_HEIGHT
        parts.append(f'<g transform="translate({x} {row})">{sample}</g>')
        text_x = x - 8 if at_right else x + 32
        parts.append(_write(text_x, row + 4, name, "end" if at_right else "start"))
    return parts


def _join(chart: Chart, line: Line) -> str:
    points = (_point(chart, x, y) for x, y in zip(line.x, line.y, strict=True))
    return " ".join(f"{column:.1f},{row:.1f}" for column, row in points)


def _point(chart: Chart, x: float, y: float) -> tuple[float, float]:
    """Give where a point lies in the drawing, in its own units."""
    column = _LEFT + chart.x.place(x) * (_WIDTH - _RIGHT - _LEFT)
    row = _HEIGHT - _BOTTOM - chart.y.place(y) * (_HEIGHT - _BOTTOM - _TOP)
    return column, row


def _write(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor"{more}>'
        f"{escape(text)}</text>"
    )
