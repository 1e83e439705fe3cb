"""The plots of a report as SVG, for the pages and for the file that a training writes.

Everything is drawn with attributes in `currentColor` and in colours that show on white and on dark
alike, so a plot needs no style sheet: it follows the theme of the page it is put into, and a strict
policy for styles has nothing to refuse.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from brainscan.bundle.figures import Bin, Figures, History, RocCurve

# At least 4:1 against white, and against the pages' dark surface.
_COLOURS = ("#2c7ed0", "#c55f16", "#298c5a", "#c5509e", "#9e60ca", "#d94a4a", "#248891", "#877e18")
_DASHES = ("none", "7 3", "2 3", "9 3 2 3")  # for eyes that see fewer colours
_WIDTH, _HEIGHT = 480, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 44
_LINE_HEIGHT = 18
_GREY = 'stroke="currentColor" stroke-opacity="0.6" stroke-dasharray="2 3"'
_BAR = 'fill="currentColor" fill-opacity="0.2"'
_GRID = 'stroke="currentColor" stroke-opacity="0.15"'
_FLAT = 1e-9
_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Words:
    """How a plot's words, numbers and classes are written: in plain English, or as a page does."""

    translate: Callable[[str], str] = str
    number: Callable[[float, int], str] = "{:.{}f}".format
    class_name: Callable[[str], str] = str


@dataclass(frozen=True)
class Plot:
    """A drawing to be put into HTML as it is, and the words that go with it."""

    title: str
    explanation: str
    svg: str


@dataclass(frozen=True)
class _Line:
    name: str
    x: Sequence[float]
    y: Sequence[float]
    dots: bool = False


@dataclass(frozen=True)
class _Axis:
    """What an axis is called, and the values that it marks, from its one end to the other."""

    name: str
    marks: Sequence[float]

    def place(self, value: float) -> float:
        """Give where a value lies, 0 to 1."""
        low, high = self.marks[0], self.marks[-1]
        return (value - low) / (high - low)


@dataclass(frozen=True)
class _Chart:
    """What is drawn.

    Attributes:
        x, y: the axes below and at the left.
        legend: the corner that the lines leave free, such as "top left".
        grey: a dotted line of reference; its name is "" for none.
        bars: a name for bars, and the `x` and `y` of each.
    """

    title: str
    explanation: str
    lines: Sequence[_Line]
    x: _Axis
    y: _Axis
    legend: str
    grey: _Line | None = None
    bars: _Line | None = None


def draw_plots(figures: Figures, best_epoch: int, words: Words | None = None) -> list[Plot]:
    """Draw what there is to draw of a model: loss, accuracy, ROC and reliability.

    Args:
        figures: the numbers.
        best_epoch: the one that was selected.
        words: how they are labelled.
    """
    words = words or Words()
    charts = [_chart_roc(figures.roc, words)] if figures.roc else []
    if figures.history:
        charts = [*_chart_history(figures.history, best_epoch, words), *charts]
    if figures.reliability:
        charts.append(_chart_reliability(figures.reliability, words))
    return [_draw(chart, words) for chart in charts]


def _chart_history(history: History, best_epoch: int, words: Words) -> list[_Chart]:
    _ = words.translate
    epochs = range(1, len(history.loss) + 1)
    charts = []
    for title, name, training, validation, legend in (
        (_("Loss"), _("loss"), history.loss, history.val_loss, "top right"),
        (_("Accuracy"), _("accuracy"), history.accuracy, history.val_accuracy, "bottom right"),
    ):
        every = (*training, *validation)
        y = _Axis(name, _mark(min(every), max(every)))
        ends = (y.marks[0], y.marks[-1])
        charts.append(
            _Chart(
                title,
                _("After each epoch, in training and in validation."),
                [
                    _Line(_("training, augmented"), epochs, training),
                    _Line(_("validation"), epochs, validation),
                ],
                _Axis(_("epoch"), _mark(1, len(epochs), whole=True)),
                y,
                legend,
                grey=_Line(_("selected epoch"), (best_epoch, best_epoch), ends),
            )
        )
    return charts


def _chart_roc(curves: Mapping[str, RocCurve], words: Words) -> _Chart:
    _ = words.translate
    area = _("area")
    lines = [
        _Line(
            # Two digits would call nearly every model perfect.
            f"{words.class_name(name)}, {area} {words.number(curve.area, 4)}",
            curve.false_positives,
            curve.true_positives,
        )
        for name, curve in curves.items()
    ]
    return _Chart(
        _("ROC"),
        _("Cases found against false alarms, at every threshold."),
        lines,
        _Axis(_("false positive rate"), _SHARES),
        _Axis(_("true positive rate"), _SHARES),
        "bottom right",
        grey=_Line("", (0, 1), (0, 1)),
    )


def _chart_reliability(bins: Sequence[Bin], words: Words) -> _Chart:
    _ = words.translate
    confidence = [one.confidence for one in bins]
    return _Chart(
        _("Reliability"),
        _("How often the model is right at each confidence."),
        [_Line(_("this model"), confidence, [one.accuracy for one in bins], dots=True)],
        _Axis(_("confidence"), _SHARES),
        _Axis(_("accuracy"), _SHARES),
        "top left",
        grey=_Line(_("perfect"), (0, 1), (0, 1)),
        bars=_Line(_("share of the scans"), confidence, [one.share for one in bins]),
    )


def write_page(plots: Sequence[Plot], title: str) -> str:
    """Write plots as an HTML page that needs nothing else, light or dark as its reader has it."""
    figures = "\n".join(
        f"<figure>{plot.svg}<figcaption><strong>{escape(plot.title)}.</strong> "
        f"{escape(plot.explanation)}</figcaption></figure>"
        for plot in plots
    )
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f"<title>{escape(title)}</title>\n"
        "<style>:root { color-scheme: light dark; font-family: sans-serif }\n"
        "figure { display: inline-block; width: min(100%, 30rem); margin: 1rem }</style>\n"
        f"<h1>{escape(title)}</h1>\n{figures}\n</html>\n"
    )


def _mark(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Choose four to nine round values that reach from below `low` to above `high`."""
    span = max(high - low, 1 if whole else abs(high) * 1e-3, _FLAT)
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * times for times in (1, 2, 2.5, 5, 10) if span / (power * times) <= 6)
    if whole:
        step = max(1, math.ceil(step))
    first, last = math.floor(low / step), math.ceil(high / step)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _draw(chart: _Chart, words: Words) -> Plot:
    head = (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(chart.title)}" '
        'font-size="12" fill="none">'
    )
    parts = [*_draw_axes(chart, words), *_draw_lines(chart), *_draw_legend(chart)]
    return Plot(chart.title, chart.explanation, "\n".join([head, *parts, "</svg>"]))


def _draw_axes(chart: _Chart, words: Words) -> list[str]:
    parts = []
    for mark, text in _label(chart.x.marks, words):
        x, bottom = _point(chart, mark, chart.y.marks[0])
        parts.append(f'<path d="M{x:.1f} {_TOP}V{bottom:.1f}" {_GRID}/>')
        parts.append(_write(x, bottom + 16, text, "middle"))
    for mark, text in _label(chart.y.marks, words):
        left, y = _point(chart, chart.x.marks[0], mark)
        parts.append(f'<path d="M{left:.1f} {y:.1f}H{_WIDTH - _RIGHT}" {_GRID}/>')
        parts.append(_write(left - 6, y + 4, text, "end"))
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    turn = f' transform="rotate(-90 12 {middle:.1f})"'
    parts.append(_write((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, chart.x.name, "middle"))
    parts.append(_write(12, middle, chart.y.name, "middle", turn))
    return parts


def _label(marks: Sequence[float], words: Words) -> list[tuple[float, str]]:
    """Give each mark with as many digits as tell it from the next."""
    step = min(after - before for before, after in pairwise(marks))
    digits = next((count for count in range(9) if abs(step - round(step, count)) < step * 1e-6), 9)
    return [(mark, words.number(mark, digits)) for mark in marks]


def _draw_lines(chart: _Chart) -> list[str]:
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
        parts.append(f'<polyline points="{_join(chart, line)}" {_stroke(number)}/>')
        if line.dots or len(line.x) == 1:
            for x, y in zip(line.x, line.y, strict=True):
                column, row = _point(chart, x, y)
                fill = _COLOURS[number % len(_COLOURS)]
                parts.append(f'<circle cx="{column:.1f}" cy="{row:.1f}" r="4" fill="{fill}"/>')
    return parts


def _stroke(number: int) -> str:
    dash = _DASHES[number % len(_DASHES)]
    colour = _COLOURS[number % len(_COLOURS)]
    return f'stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"'


def _draw_legend(chart: _Chart) -> list[str]:
    entries = [
        (line.name, f'<path d="M0 0H24" {_stroke(number)}/>')
        for number, line in enumerate(chart.lines)
    ]
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
        line = y + number * _LINE_HEIGHT
        parts.append(f'<g transform="translate({x} {line})">{sample}</g>')
        text_x = x - 8 if at_right else x + 32
        parts.append(_write(text_x, line + 4, name, "end" if at_right else "start"))
    return parts


def _join(chart: _Chart, line: _Line) -> str:
    points = (_point(chart, x, y) for x, y in zip(line.x, line.y, strict=True))
    return " ".join(f"{column:.1f},{row:.1f}" for column, row in points)


def _point(chart: _Chart, x: float, y: float) -> tuple[float, float]:
    """Give where a point lies in the drawing, in its own units."""
    column = _LEFT + chart.x.place(x) * (_WIDTH - _RIGHT - _LEFT)
    row = _HEIGHT - _BOTTOM - chart.y.place(y) * (_HEIGHT - _BOTTOM - _TOP)
    return column, row


def _write(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor"{more}>'
        f"{escape(text)}</text>"
    )
