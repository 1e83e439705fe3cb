"""`flask models import`: what is refused, and what labelled scans show of an import."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import Result
from flask import Flask
from PIL import Image

from brainscan.bundle import Card, installed_versions
from tests.conversion import converting_here
from tumorapp import create_app


def run(app: Flask, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(args=["models", "import", *arguments])


@pytest.mark.parametrize("name", ["My_Bin", "-net", "über", "_"])
def test_a_name_that_no_model_may_have(
    app: Flask, tmp_path: Path, make_card: Callable[..., Card], name: str
) -> None:
    (tmp_path / "net.h5").touch()
    options = ["--classes", "no,yes", "--scale", "0..1"]
    result = run(app, str(tmp_path / "net.h5"), "--name", name, *options)
    assert result.exit_code == 2
    assert f"{name!r} is not accepted. Give small letters a-z, digits, - and" in result.output
    with pytest.raises(ValueError, match="name"):
        Card.from_json(make_card(name).to_json())


def test_a_file_that_cannot_be_imported(app: Flask, tmp_path: Path) -> None:
    file = tmp_path / "model.keras"
    file.write_bytes(b"nothing")
    options = ["--name", "mine", "--classes", "no,yes", "--scale", "0..1"]
    result = run(app, str(file), *options)
    assert result.exit_code == 1
    assert "cannot load model.keras" in result.output


@pytest.mark.slow
def test_an_import_measured_on_labelled_scans_shows_swapped_classes(
    tmp_path: Path,
) -> None:
    """A network that tells dark pictures from bright ones, imported the wrong way round."""
    net = keras.Sequential(
        [
            keras.layers.Input((32, 32, 1)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(1, "sigmoid"),
        ]
    )
    net.layers[-1].set_weights([np.array([[100.0]]), np.array([-20.0])])
    net.save(tmp_path / "net.keras")
    random = np.random.default_rng(0)
    inside = np.hypot(*np.meshgrid(*[np.linspace(-1, 1, 64)] * 2)) < 0.75
    for folder, grey in (("gesund", 60), ("Gliom", 200)):
        (tmp_path / "scans" / folder).mkdir(parents=True)
        for number in range(4):
            picture = np.where(inside, random.normal(grey, 15, (64, 64)), 2).astype(np.uint8)
            Image.fromarray(picture).save(tmp_path / "scans" / folder / f"{number}.png")
    options = ("--name", "net", "--scale", "0..1", "--data", str(tmp_path / "scans"))
    known = ("--tumor-free", "gesund", "--class", "Gliom=glioma")
    app = create_app({"MODELS_DIR": tmp_path / "models"})
    file = str(tmp_path / "net.keras")
    with converting_here():
        swapped = run(app, file, "--classes", "Gliom,gesund", *options, *known)
        right = run(app, file, "--classes", "gesund,Gliom", *options, *known)
        unknown = run(app, file, "--classes", "gesund,stroke", *options, *known)
    assert swapped.exit_code == 0, swapped.output
    assert swapped.stdout.startswith("On 8 scans of these folders: accuracy 0.0000")
    assert swapped.stdout.index("Published") < swapped.stdout.index("In the order")
    assert "In the order --classes notumor,glioma it would be right on 1.0000" in swapped.stdout
    assert "flask models remove net 1" in swapped.stdout
    assert "accuracy 1.0000" in right.stdout
    assert "In the order" not in right.stdout
    assert "net does not know the classes glioma. It" in unknown.stderr
    assert installed_versions(tmp_path / "models") == {"net": [1, 2]}
