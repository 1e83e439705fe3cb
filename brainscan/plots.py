"""The plots of a report: what they show; `brainscan.charts` draws them."""

from collections.abc import Mapping, Sequence
from html import escape

from brainscan.bundle.figures import Bin, Figures, History, RocCurve
from brainscan.charts import SHARES, Axis, Chart, Line, Plot, Words, choose_marks, draw_chart


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
    return [draw_chart(chart, words) for chart in charts]


def _chart_history(history: History, best_epoch: int, words: Words) -> list[Chart]:
    _ = words.translate
    epochs = range(1, len(history.loss) + 1)
    charts = []
    for title, name, training, validation, legend in (
        (_("Loss"), _("loss"), history.loss, history.val_loss, "top right"),
        (_("Accuracy"), _("accuracy"), history.accuracy, history.val_accuracy, "bottom right"),
    ):
        every = (*training, *validation)
        y = Axis(name, choose_marks(min(every), max(every)))
        ends = (y.marks[0], y.marks[-1])
        charts.append(
            Chart(
                title,
                _("After each epoch, in training and in validation."),
                [
                    Line(_("training, augmented"), epochs, training),
                    Line(_("validation"), epochs, validation),
                ],
                Axis(_("epoch"), choose_marks(1, len(epochs), whole=True)),
                y,
                legend,
                grey=Line(_("selected epoch"), (best_epoch, best_epoch), ends),
            )
        )
    return charts


def _chart_roc(curves: Mapping[str, RocCurve], words: Words) -> Chart:
    _ = words.translate
    area = _("area")
    lines = [
        Line(
            # Two digits would call nearly every model perfect.
            f"{words.class_name(name)}, {area} {words.number(curve.area, 4)}",
            curve.false_positives,
            curve.true_positives,
        )
        for name, curve in curves.items()
    ]
    return Chart(
        _("ROC"),
        _("Cases found against false alarms, at every threshold."),
        lines,
        Axis(_("false positive rate"), SHARES),
        Axis(_("true positive rate"), SHARES),
        "bottom right",
        grey=Line("", (0, 1), (0, 1)),
    )


def _chart_reliability(bins: Sequence[Bin], words: Words) -> Chart:
    _ = words.translate
    confidence = [one.confidence for one in bins]
    return Chart(
        _("Reliability"),
        _("How often the model is right at each confidence."),
        [Line(_("this model"), confidence, [one.accuracy for one in bins], dots=True)],
        Axis(_("confidence"), SHARES),
        Axis(_("accuracy"), SHARES),
        "top left",
        grey=Line(_("perfect"), (0, 1), (0, 1)),
        bars=Line(_("share of the scans"), confidence, [one.share for one in bins]),
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
