"""What an examination says beyond its probabilities; test_verdict.py has the rules."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from brainscan import Examination, ImageFile, open_model
from brainscan.bundle import Refusal
from tests.cards import LESION_NETWORK, POINTING, draw_measurement

Publish = Callable[..., Path]


@pytest.fixture
def examine(tmp_path: Path, publish_model: Publish, scan: bytes) -> Callable[..., Examination]:
    def examine(data: bytes = scan, **changes: Any) -> Examination:
        model = open_model(publish_model(tmp_path, **{**LESION_NETWORK, **changes}))
        reading = model.read(ImageFile("a.jpg", data))
        return model.conclude([reading], want_heatmaps=True)[0]

    return examine


def test_a_tumour_with_its_lesion(examine: Callable[..., Examination]) -> None:
    found = examine()
    assert (found.verdict, found.tumor, found.in_distribution) == ("tumor", True, True)
    assert found.possible == (found.label,)
    assert found.lesion is not None
    assert found.lesion.peak == pytest.approx((0.6, 0.55), abs=0.1)  # the spot of draw_head
    assert found.heatmap is not None
    assert found.warnings == ()


def test_a_picture_unlike_the_known_ones(examine: Callable[..., Examination]) -> None:
    found = examine(refusal=Refusal(distance_above=0.0))
    assert (found.verdict, found.in_distribution) == ("not-recognised", False)
    assert (found.lesion, found.heatmap) == (None, None)
    assert [one.code for one in found.warnings] == ["not-a-scan"]


def test_no_tumour_no_lesion(examine: Callable[..., Examination]) -> None:
    found = examine(decision=replace(LESION_NETWORK["decision"], tumor_from=1.0))
    assert (found.verdict, found.label, found.tumor) == ("no-tumor", "notumor", False)
    assert (found.lesion, found.heatmap, found.warnings) == (None, None, ())


def test_what_is_left_open_is_said(examine: Callable[..., Examination]) -> None:
    decision = LESION_NETWORK["decision"]
    kinds = dict.fromkeys(("glioma", "meningioma"), 0.0)
    found = examine(decision=replace(decision, kind_from=kinds))
    assert (found.verdict, found.uncertain) == ("tumor-kind-unclear", True)
    assert [one.code for one in found.warnings] == ["kind-unclear"]
    found = examine(decision=replace(decision, unclear=(0.0, 1.0)))
    assert (found.verdict, found.uncertain) == ("unclear", True)
    assert [one.code for one in found.warnings] == ["tumor-unclear"]


@pytest.mark.parametrize("peak", [0.2, 0.1, None])
def test_a_heat_map_that_does_not_beat_the_centre(
    examine: Callable[..., Examination], peak: float | None
) -> None:
    pointing = None if peak is None else replace(POINTING, peak=peak)
    found = examine(
        feature_layer="convolution",
        decision=None,
        refusal=None,
        measurement=draw_measurement(pointing=pointing),
    )
    assert found.heatmap is None
    assert found.drawn_map is not None
    assert "no-reliable-map" in [one.code for one in found.warnings]
    assert found.in_distribution is None
