"""The library: models are opened, files and folders examined, and each picture read once."""

import base64
import doctest
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask

import brainscan.examine
from brainscan import Examination, ImageFile, Model, ScanError, open_model
from brainscan.bundle import BundleError, Card, Refusal, pin_version, publish_bundle
from brainscan.engine import EngineError
from brainscan.familiarity import FAMILIARITY_FILE, Familiarity
from brainscan.scan.formats import FORMATS
from brainscan.scan.picture import trace_head
from tests.cards import LESION_NETWORK, POINTING, draw_measurement, draw_up_card
from tests.conftest import write_graph

Publish = Callable[..., Path]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, publish_model: Publish) -> Model:
    return open_model(publish_model(tmp_path_factory.mktemp("models")))


class TestOpening:
    def test_the_newest_version(self, tmp_path: Path, publish_model: Publish) -> None:
        first, second = publish_model(tmp_path), publish_model(tmp_path)
        assert open_model(tmp_path / "mobilenet-v2").card.version == 2
        assert open_model(str(second)).card.version == 2
        assert open_model(first).card.version == 1

    def test_a_chosen_one(self, tmp_path: Path, publish_model: Publish) -> None:
        for _ in range(2):
            publish_model(tmp_path)
        pin_version(tmp_path, "mobilenet-v2", 1)
        assert open_model(tmp_path / "mobilenet-v2").card.version == 1

    def test_an_older_good_one(self, tmp_path: Path, publish_model: Publish) -> None:
        publish_model(tmp_path)
        (publish_model(tmp_path) / "graph.xml").write_text("changed")
        assert open_model(tmp_path / "mobilenet-v2").card.version == 1
        (tmp_path / "mobilenet-v2" / "1" / "graph.bin").unlink()
        with pytest.raises(
            BundleError, match=r"No version of mobilenet-v2 can be used.*graph\.bin"
        ):
            open_model(tmp_path / "mobilenet-v2")

    def test_none(self, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match="no published model in"):
            open_model(tmp_path / "missing")

    @pytest.mark.parametrize(
        ("changes", "graph", "reason"),
        [
            ({"refusal": None}, LESION_NETWORK, None),
            ({"decision": None}, LESION_NETWORK, "whether there is a lesion map"),
            ({}, {**LESION_NETWORK, "decision": None}, "whether there is a lesion map"),
            ({}, {**LESION_NETWORK, "refusal": None}, "its graph has no features"),
        ],
    )
    def test_a_graph_that_gives_otherwise_than_the_card_says(
        self, tmp_path: Path, changes: Any, graph: Any, reason: str | None
    ) -> None:
        def write(folder: Path, _: Card) -> None:
            known = Familiarity(np.zeros((1, 8), np.float32), np.eye(8, dtype=np.float32))
            known.write(folder)
            write_graph(folder, draw_up_card(**graph))

        folder = publish_bundle(tmp_path, draw_up_card(**{**LESION_NETWORK, **changes}), write)
        if reason is None:
            assert open_model(folder).familiarity is None
        else:
            with pytest.raises(EngineError, match=reason):
                open_model(folder)

    def test_without_the_features_of_known_scans(self, tmp_path: Path) -> None:
        def write(folder: Path, card: Card) -> None:
            write_graph(folder, card)
            Familiarity(np.zeros((1, 3), np.float32), np.eye(3, dtype=np.float32)).write(folder)

        folder = publish_bundle(tmp_path, draw_up_card(**LESION_NETWORK), write)
        with pytest.raises(EngineError, match=r"familiarity\.npz cannot be used"):
            open_model(folder)

    @pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x93NUMPY"])
    def test_with_damaged_features_of_known_scans(self, tmp_path: Path, data: bytes) -> None:
        def write(folder: Path, card: Card) -> None:
            write_graph(folder, card)
            (folder / FAMILIARITY_FILE).write_bytes(data)

        folder = publish_bundle(tmp_path, draw_up_card(**LESION_NETWORK), write)
        with pytest.raises(EngineError, match=r"familiarity\.npz cannot be used"):
            open_model(folder)


class TestExamining:
    @pytest.fixture
    def folder(self, tmp_path: Path, scan: bytes) -> Path:
        for name in ("b.jpg", "deep/a.jpg"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(scan)
        (tmp_path / "notes.txt").write_text("not a scan")
        return tmp_path

    def test_files_and_folders(self, model: Model, folder: Path) -> None:
        found = list(model.examine([folder / "deep" / "a.jpg", str(folder)]))
        assert [one.name for one in found] == ["a.jpg", "b.jpg"]
        one = found[0]
        assert one.probabilities[one.label] == one.confidence == max(one.probabilities.values())
        assert sum(one.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert one.tumor == (one.label != "notumor")
        assert one.tumor_probability == pytest.approx(1 - one.probabilities["notumor"], abs=1e-5)
        assert one.picture.size == one.scan.whole == (200, 220)
        assert one.heatmap is not None
        assert one.heatmap.startswith(b"\x89PNG")

    def test_a_file_that_is_not_a_scan(self, model: Model, folder: Path) -> None:
        (folder / "a.png").write_bytes(b"no image")
        with pytest.raises(ScanError, match=r"^a\.png: The file is not an image"):
            list(model.examine([folder]))
        refused: list[ScanError] = []
        found = list(model.examine([folder, folder / "notes.txt"], refused=refused.append))
        assert [one.name for one in found] == ["b.jpg", "a.jpg"]
        assert [error.message.subject for error in refused] == ["a.png", "notes.txt"]
        with pytest.raises(OSError, match=r"gone\.jpg"):
            list(model.examine([folder / "gone.jpg"], refused=refused.append))

    def test_a_picture_that_is_not_kept(self, model: Model, scan: bytes) -> None:
        [found] = model.conclude([model.read(ImageFile("1", scan))])
        with pytest.raises(LookupError, match="not kept"):
            found.picture  # noqa: B018

    def test_who_observes_hears_of_each_batch(self, model: Model, scan: bytes) -> None:
        heard: list[Any] = []
        observed = replace(model, observe=lambda found, seconds: heard.append((found, seconds)))
        found = observed.examine_one(ImageFile("1", scan))
        [(told, seconds)] = heard
        assert list(told) == [found]
        assert seconds.keys() == {"prepare", "infer"}
        assert min(seconds.values()) > 0


class TestVerdicts:
    """What an examination says beyond its probabilities; test_verdict.py has the rules."""

    @pytest.fixture
    def examine(
        self, tmp_path: Path, publish_model: Publish, scan: bytes
    ) -> Callable[..., Examination]:
        def examine(data: bytes = scan, **changes: Any) -> Examination:
            model = open_model(publish_model(tmp_path, **{**LESION_NETWORK, **changes}))
            reading = model.read(ImageFile("a.jpg", data))
            return model.conclude([reading], want_heatmaps=True)[0]

        return examine

    def test_a_tumour_with_its_lesion(self, examine: Callable[..., Examination]) -> None:
        found = examine()
        assert (found.verdict, found.tumor, found.in_distribution) == ("tumor", True, True)
        assert found.possible == (found.label,)
        assert found.lesion is not None
        assert found.lesion.peak == pytest.approx((0.6, 0.55), abs=0.1)  # the spot of draw_head
        assert found.heatmap is not None
        assert found.warnings == ()

    def test_a_picture_unlike_the_known_ones(self, examine: Callable[..., Examination]) -> None:
        found = examine(refusal=Refusal(distance_above=0.0))
        assert (found.verdict, found.in_distribution) == ("not-recognised", False)
        assert (found.lesion, found.heatmap) == (None, None)
        assert [one.code for one in found.warnings] == ["not-a-scan"]

    def test_no_tumour_no_lesion(self, examine: Callable[..., Examination]) -> None:
        found = examine(decision=replace(LESION_NETWORK["decision"], tumor_from=1.0))
        assert (found.verdict, found.label, found.tumor) == ("no-tumor", "notumor", False)
        assert (found.lesion, found.heatmap, found.warnings) == (None, None, ())

    def test_what_is_left_open_is_said(self, examine: Callable[..., Examination]) -> None:
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
        self, examine: Callable[..., Examination], peak: float | None
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


def test_the_example_of_the_docstring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    assert doctest.testmod(brainscan.examine) == (0, 3)


Ask = Callable[[Flask, bytes, Callable[..., dict[str, Any]]], Any]


def post(path: str, *fields: str) -> Ask:
    """Post a scan as a form with these fields, each of which is on."""

    def ask(app: Flask, scan: bytes, form: Callable[..., dict[str, Any]]) -> Any:
        parts = [(field, None, b"1") for field in fields]
        headers = {"Accept": "text/html"}
        return app.test_client().post(
            path, **form(("image", "a.jpg", scan), *parts), headers=headers
        )

    return ask


def infer(app: Flask, scan: bytes, _: object) -> Any:
    data = [base64.b64encode(scan).decode()]
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": data}
    return app.test_client().post("/v2/models/mobilenet-v2/infer", json={"inputs": [tensor]})


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count how often pictures are decoded and heads traced."""
    found: Counter[str] = Counter()
    jpeg = FORMATS["JPEG"]

    def read(data: bytes, max_pixels: int) -> Any:
        found["decoded"] += 1
        return jpeg.read(data, max_pixels)

    def trace(grey: Any) -> Any:
        found["traced"] += 1
        return trace_head(grey)

    monkeypatch.setitem(FORMATS, "JPEG", replace(jpeg, read=read))
    monkeypatch.setattr("brainscan.scan.picture.trace_head", trace)
    return found


@pytest.mark.parametrize(
    "ask",
    [
        post("/api/predict", "heatmap"),
        infer,
        post("/", "heatmap", "preview"),
        post("/parts", "heatmap"),
        post("/compare", "heatmap", "preview"),
        post("/compare/parts"),
        post("/how"),
        post("/report"),
        post("/many"),
    ],
    ids=["api", "v2", "page", "parts", "compare", "compare-parts", "how", "report", "many"],
)
def test_a_picture_is_decoded_and_traced_once(
    app: Flask, scan: bytes, form: Callable[..., dict[str, Any]], counts: Counter[str], ask: Ask
) -> None:
    assert ask(app, scan, form).status_code == 200
    assert counts == {"decoded": 1, "traced": 1}


def test_by_the_command_as_well(
    app: Flask, scan: bytes, tmp_path: Path, counts: Counter[str]
) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(scan)
    arguments = ["predict", str(tmp_path), "--heatmaps", str(tmp_path / "heat")]
    assert app.test_cli_runner().invoke(args=arguments).exit_code == 0
    assert counts == {"decoded": 2, "traced": 2}
