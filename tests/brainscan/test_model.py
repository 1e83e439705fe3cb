"""A model examines files and folders, and each picture is read once."""

import base64
import doctest
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

import brainscan.model
from brainscan import ImageFile, Model, ScanError, open_model
from brainscan.scan.formats import FORMATS
from brainscan.scan.picture import trace_head

Publish = Callable[..., Path]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, publish_model: Publish) -> Model:
    return open_model(publish_model(tmp_path_factory.mktemp("models")))


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


def test_the_example_of_the_docstring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    assert doctest.testmod(brainscan.model) == (0, 3)


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
