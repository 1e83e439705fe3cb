"""The charts of the study: accuracy by family, as published and measured, leaked and not."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from brainscan.bundle.study import Result
from brainscan.charts import SHARES, Axis, Chart, Line, Plot, Words, draw_chart

_AFTER, _BEFORE = "variants-75-25", "random-75-25"  # the scans are divided
_Point = tuple[float, float, tuple[float, float]]  # x, y, and the interval of y


def draw_study(results: Sequence[Result], words: Words | None = None) -> list[Plot]:
    """Draw what there is to draw of a study.

    Args:
        results: its finished rows.
        words: how the charts are labelled.
    """
    words = words or Words()
    charts = _chart_families, _chart_published, _chart_leaks
    drawn = [chart(results, words.translate) for chart in charts]
    return [draw_chart(chart, words) for chart in drawn if chart.lines]


def _chart_families(results: Sequence[Result], _: Callable[[str], str]) -> Chart:
    families: dict[str, list[Result]] = defaultdict(list)
    for result in sorted(results, key=lambda one: one.measurement.accuracy):
        families[_name_family(result, _)].append(result)
    points = []
    for number, name in enumerate(sorted(families)):
        members = families[name]
        for rank, one in enumerate(members, 1):
            x = number + 0.8 * rank / (len(members) + 1) - 0.4
            copies = one.measurement.leaks.scans
            series = _("with copies of test scans in training") if copies else _("without copies")
            points.append((series, (x, *_read(one))))
    ends = -0.5, max(len(families), 1) - 0.5
    return Chart(
        _("Accuracy by family"),
        _("Each row of the study, the lowest of its family first, with its interval."),
        _group(points),
        Axis("", [ends[0], *range(len(families)), ends[1]], ["", *sorted(families), ""]),
        Axis(_("accuracy"), SHARES),
        "bottom right",
    )


def _chart_published(results: Sequence[Result], _: Callable[[str], str]) -> Chart:
    points = [
        (_name_family(one, _), (published, y := one.argmax_accuracy, (y, y)))
        for one in results
        if (published := one.published.accuracy) is not None
    ]
    return Chart(
        _("Published and measured"),
        _(
            "On the dotted line, a row reproduces what its document prints. Both count the most "
            "probable class."
        ),
        _group(points),
        Axis(_("published accuracy"), SHARES),
        Axis(_("measured accuracy"), SHARES),
        "bottom right",
        grey=Line("", (0, 1), (0, 1)),
    )


def _chart_leaks(results: Sequence[Result], _: Callable[[str], str]) -> Chart:
    points = []
    twins = {one.id: one for one in results}
    for one in results:
        leaks, protocol = one.measurement.leaks, one.measurement.protocol
        if leaks.accuracy_with is not None and leaks.accuracy_without is not None:
            y = leaks.accuracy_without
            points.append((_(protocol), (leaks.accuracy_with, y, (y, y))))
        if protocol == _AFTER and (twin := twins.get(one.id.replace(_AFTER, _BEFORE))):
            points.append((_(_AFTER), (one.measurement.accuracy, *_read(twin))))
    return Chart(
        _("Leaked and not"),
        _(
            "Accuracy on test scans with a copy in training, and on the others; of variants-75-25, "
            "under it and under random-75-25. Below the dotted line, copies flatter a model."
        ),
        _group(points),
        Axis(_("accuracy with copies in training"), SHARES),
        Axis(_("accuracy without"), SHARES),
        "top left",
        grey=Line("", (0, 1), (0, 1)),
    )


def _name_family(result: Result, _: Callable[[str], str]) -> str:
    """Say what kind of network a row is; raw ones take pixels of 0 to 255."""
    raw = result.card.name.endswith("-raw")
    cnn = _("CNN, raw") if raw else _("CNN")
    names = {
        "ann": _("ANN, raw") if raw else _("ANN"),
        "cnn": cnn,
        "binary": cnn,
        "sequential": _("sequential"),
    }
    return names.get(result.card.name.partition("-")[0]) or _("pretrained")


def _read(result: Result) -> tuple[float, tuple[float, float]]:
    return result.measurement.accuracy, result.measurement.intervals.accuracy


def _group(points: Iterable[tuple[str, _Point]]) -> list[Line]:
    """Give the points of each name as dots with their intervals, the names in order."""
    series: dict[str, list[_Point]] = defaultdict(list)
    for name, point in points:
        series[name].append(point)
    lines = []
    for name in sorted(series):
        x, y, spreads = zip(*series[name], strict=True)
        lines.append(Line(name, x, y, dots=True, joined=False, spreads=spreads))
    return lines
