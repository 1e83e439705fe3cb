"""`flask data augment` as a person types it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from flask import Flask
from PIL import Image

from brainscan.scan import ScanSpecification, read_scan
from training.data.variants import draw_sheet

Run = Callable[..., Result]


@pytest.fixture
def run(app: Flask) -> Run:
    def run(*arguments: object) -> Result:
        return app.test_cli_runner().invoke(args=["data", "augment", *map(str, arguments)])

    return run


@pytest.fixture
def head(tmp_path: Path, scan: bytes) -> Path:
    path = tmp_path / "head.jpg"
    path.write_bytes(scan)
    return path


def test_the_variants_of_a_scan_as_one_picture(run: Run, head: Path, tmp_path: Path) -> None:
    result = run(head, "--preview", tmp_path / "sheet.PNG")
    assert result.exit_code == 0, result.output
    assert result.output == f"The variants of {head} are in {tmp_path / 'sheet.PNG'}\n"
    prepared = read_scan(head.read_bytes(), ScanSpecification(224)).pixels
    with Image.open(tmp_path / "sheet.PNG") as picture:
        assert picture.format == "PNG"
        assert np.array_equal(np.asarray(picture), draw_sheet(prepared))


def test_a_crop_that_fell_back_is_said(run: Run, tmp_path: Path) -> None:
    noise = np.zeros((64, 64), np.uint8)
    noise[30:34, 30:34] = 200
    Image.fromarray(noise).save(tmp_path / "speck.png")
    result = run(tmp_path / "speck.png", "--preview", tmp_path / "sheet.png")
    assert result.exit_code == 0, result.output
    assert "No clear outline of a head was found" in result.stderr


@pytest.mark.parametrize(
    ("name", "preview", "message"),
    [
        ("text.jpg", "sheet.png", "text.jpg: The file is not an image that can be read."),
        ("head.jpg", "sheet.jpg", "sheet.jpg. Pass a name that ends in .png."),
        ("head.jpg", "sheet", "The preview is a PNG file. Received: "),
        ("head.jpg", "nowhere/sheet.png", "nowhere to write sheet.png into. Make it first."),
        ("head.jpg", "head.jpg/sheet.png", "There is no folder "),
    ],
)
def test_what_cannot_be_drawn_is_explained(
    run: Run, head: Path, name: str, preview: str, message: str
) -> None:
    folder = head.parent
    (folder / "text.jpg").write_text("no image")
    result = run(folder / name, "--preview", folder / preview)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["head.jpg", "text.jpg"]
