"""`python -m benchmarks.accuracy`: what it trains, what it reads, and the page that it writes."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.accuracy import Trial, draw_renderings, list_requests, run_trial, write_page
from benchmarks.renderings import RENDERINGS, Row
from brainscan.bundle import Leaks, SourceFigures
from tests.cards import MEASURED, draw_up_card
from tests.training.test_pipeline import make_request
from training.models import Recipe


def test_every_protocol_and_every_folder_left_out(tmp_path: Path) -> None:
    request = make_request(tmp_path, Path("data/one"), Path("data/two"))
    found = dict(list_requests(request))
    assert list(found) == [
        "without one",
        "without two",
        "patient",
        "grouped",
        "official",
        "random-80-20",
    ]
    assert [one.data[-1].name for one in found.values()][:3] == ["one", "two", "two"]
    assert not any(one.publish for one in found.values())


@pytest.mark.slow
def test_what_was_trained_is_read_and_what_cannot_be_is_said(
    tmp_path: Path, phantom_tree: Path
) -> None:
    request = make_request(tmp_path / "instance", phantom_tree, publish=False)
    recipe = Recipe(epochs=1, batch=8, augmentation=0)
    request = replace(request, model="ann-32-nodes-0-dense", protocol="patient", recipe=recipe)
    assert run_trial("patient", request, may_train=False).reason == "not trained yet."
    trained = run_trial("patient", request, may_train=True)
    assert trained.card is not None
    assert trained.card.measurement.protocol == "patient"
    assert sum(one.scans for one in trained.card.measurement.by_plane.values()) == (
        trained.card.measurement.scans
    )
    assert run_trial("patient", request, may_train=False).card == trained.card
    official = run_trial("official", replace(request, protocol="official"), may_train=True)
    assert "needs a Training and a Testing folder" in official.reason


def test_the_page(tmp_path: Path) -> None:
    base = make_request(tmp_path, Path("data/one"), Path("data/two"), command="make it")
    easy = replace(MEASURED, protocol="grouped", by_source={"sartaj": SourceFigures(50, 0.5)})
    hard = replace(MEASURED, protocol="patient", accuracy=0.8, leaks=Leaks(0, None, 0.8))
    trials = [
        Trial("patient", draw_up_card(measurement=hard)),
        Trial("grouped", draw_up_card(measurement=easy)),
        Trial("official", None, "not trained yet."),
    ]
    published = {"lesion-lite0": draw_up_card("lesion-lite0", measurement=MEASURED)}
    rows = [Row(name, 3, 1, 0, 0) for name in RENDERINGS]
    page = write_page(base, trials, published, {"lesion-lite0": rows}, 60)
    assert "    make it\n" in page
    assert "binary-cnn, trained with its own recipe on one, two:" in page
    assert "| patient | `patient` | 200 | 8 | 0% | 0.800 (0.850 – 0.940) |" in page
    assert "| grouped | `grouped` | 200 | 8 | 25% | 0.900 (0.850 – 0.940) |" in page
    assert "| patient | 0.920 (150) | 0.840 (50) |\n| grouped | – | 0.500 (50) |" in page
    assert "|  | axial | coronal |" in page
    assert "- Not measured, official: not trained yet." in page
    assert "| lesion-lite0 | `random-80-20` |" in page
    assert "| turned by 90° | 3 (1) |" in page
    assert draw_renderings({"lesion-lite0": rows}) in page
