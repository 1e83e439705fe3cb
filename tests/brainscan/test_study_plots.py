"""What the study's charts show, read from their drawings."""

import re
from dataclasses import replace

from brainscan.bundle import Leaks
from brainscan.bundle.study import Published, Result
from brainscan.charts import Plot
from brainscan.study_plots import draw_study
from tests.cards import RESULT, draw_measurement, draw_up_card


def make_result(model: str, protocol: str = "random-75-25", **figures: object) -> Result:
    card = draw_up_card(model, measurement=draw_measurement(protocol=protocol, **figures))
    return replace(RESULT, id=f"000-{model}-full-{protocol}", card=card)


def read_series(plot: Plot) -> dict[str, int]:
    """Give how many points each entry of the legend has."""
    points: dict[str, int] = {}
    for path, colour in re.findall(r'<path d="([^"]*)" fill="(#\w+)"', plot.svg):
        points[colour] = max(points.get(colour, 0), path.count("M"))
    legend = re.findall(r'fill="(#\w+)"/></g>\n<text[^>]*>([^<]*)<', plot.svg)
    return {name: points[colour] for colour, name in legend}


def test_families_are_told_apart_by_what_they_are() -> None:
    names = ("ann-32-nodes-0-dense", "ann-32-nodes-0-dense-raw", "cnn-1", "cnn-2", "resnet18")
    families, published = draw_study([make_result(name) for name in names])
    for name in ("ANN", "ANN, raw", "CNN", "pretrained"):
        assert f">{name}</text>" in families.svg
    assert read_series(families) == {"without copies": 5}
    assert read_series(published) == {"ANN": 1, "ANN, raw": 1, "CNN": 2, "pretrained": 1}


def test_a_row_without_a_published_figure_is_not_compared() -> None:
    first, second = make_result("cnn-1"), replace(make_result("cnn-2"), published=Published())
    published = draw_study([first, second])[1]
    assert read_series(published) == {"CNN": 1}


def test_rows_that_differ_in_when_scans_are_divided_are_one_point() -> None:
    after = make_result("cnn-1", "variants-75-25", leaks=Leaks(200, 0.9, None))
    before = make_result("cnn-1", leaks=Leaks(50, 0.99, 0.87))
    leaks = draw_study([after, before])[2]
    assert read_series(leaks) == {"random-75-25": 1, "variants-75-25": 1}
    assert len(draw_study([after])) == 2  # nothing to compare it with


def test_without_results_there_is_nothing_to_draw() -> None:
    assert draw_study([]) == []
