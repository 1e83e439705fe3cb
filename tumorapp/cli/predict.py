"""`flask predict`: the scans of files and folders, as a table, a CSV file and pictures."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
import cv2
import numpy as np
from flask import current_app
from flask.cli import with_appcontext
from numpy.typing import NDArray
from tqdm import tqdm

from brainscan import ImageFile, Model, ScanError
from brainscan.heatmap import lay_over
from brainscan.scan import read_picture
from brainscan.scan.folders import find_images
from brainscan.scan.formats import list_endings
from tumorapp.api.schemas import PredictionSchema
from tumorapp.catalog import get_catalog
from tumorapp.prediction_table import fill_row, open_table
from tumorapp.uploads import clean_name

if TYPE_CHECKING:
    from tumorapp import client

_ENDINGS_NAMED = 5
_ABOUT_THE_FILE = (400, 413, 415, 422)
_PREDICTION = PredictionSchema(exclude=("heatmap",))
_EXAMPLES = """
\b
Examples:
  flask predict scan.jpg
  flask predict scans/ more/scan.png --model binary-cnn
  flask predict scans/ --csv predictions.csv --heatmaps heatmaps/
  flask predict scans/ --server http://127.0.0.1:8000
"""

# A prediction or an error, as the API writes either; and the scan with its heat map over it, where
# that was asked for and the model gives one.
_Found = tuple[Mapping[str, Any], NDArray[np.uint8] | None]


@dataclass(frozen=True)
class _Predictor:
    """A model, here or on a server.

    Attributes:
        predict: a file, and whether its picture is wanted → what was found.
    """

    name: str
    version: str
    classes: Sequence[str]
    predict: Callable[[ImageFile, bool], _Found]


csv_option = click.option(
    "--csv",
    "table",
    # Lazily: an old file stays until there is something to write.
    type=click.File("w", encoding="utf-8", lazy=True),
    metavar="FILE",
    help="Write a row for each scan into FILE.",
)


@click.command("predict", epilog=_EXAMPLES)
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="PATH…"
)
@click.option("--model", metavar="NAME", help="The model that predicts; else the default one.")
@csv_option
@click.option(
    "--heatmaps",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Write each scan with its heat map over it into FOLDER, as PNG.",
)
@click.option("--server", metavar="URL", help="Ask the TumorApp at this address.")
@click.option(
    "--api-key",
    envvar="TUMORAPP_API_KEY",
    metavar="KEY",
    help="Its API key. Better set TUMORAPP_API_KEY: others on the machine can see a command line.",
)
@with_appcontext
def predict_command(
    paths: tuple[Path, ...],
    model: str | None,
    table: TextIO | None,
    heatmaps: Path | None,
    server: str | None,
    api_key: str | None,
) -> None:
    """Predict scans: image files, and folders with all that is below them.

    A file that cannot be read is listed and skipped; the exit code is then 1. Files of a folder
    whose names are not those of images are left out, and counted at the end.
    """
    files, others = find_images(paths)
    listed = ", ".join(list_endings())
    left_out = f"Files left out: {others.total()} ({_list_endings(others)})." if others else ""
    if not files:
        raise click.ClickException(
            f"No images were found. Accepted: names that end in {listed}. {left_out}".rstrip()
        )
    chosen = _ask_server(server, model, api_key) if server else _open_model(model)
    skipped = _predict_files(chosen, files, table, heatmaps)
    if left_out:
        click.echo(f"{left_out} Names of images end in {listed}.", err=True)
    if skipped:
        raise click.ClickException(f"{skipped} of {len(files)} files were skipped; see above.")


def _open_model(name: str | None) -> _Predictor:
    """Open the model of that name, or the default one, in this process."""
    model = get_catalog().get(name)
    card = model.card
    return _Predictor(card.name, str(card.version), card.classes, partial(_predict_here, model))


def _predict_here(model: Model, file: ImageFile, wants_picture: bool) -> _Found:
    max_pixels: int = current_app.config["MAX_PIXELS"]
    try:
        reading = model.read(file, max_pixels=max_pixels, keep_picture=wants_picture)
    except ScanError as error:
        return _describe_problem(file, error.code, str(error)), None
    [found] = model.conclude([reading], want_heatmaps=wants_picture)
    picture = None
    if wants_picture and found.heatmap is not None:
        picture = lay_over(found.picture.grey, found.heatmap)
    return _PREDICTION.dump(found), picture


def _ask_server(url: str, name: str | None, api_key: str | None) -> _Predictor:
    """Choose the model of that name, or the default one, of a TumorApp that runs elsewhere."""
    from tumorapp.client import Client

    server = click.get_current_context().with_resource(Client(url, api_key=api_key))
    models = server.models()
    for model in models:
        if model.name == name or (name is None and model.default):
            predict = partial(_predict_there, server, model.name)
            return _Predictor(model.name, model.version, model.classes, predict)
    wanted = f"model named {name!r}" if name else "default model"
    raise click.ClickException(
        f"{url} has no {wanted}. It serves: {', '.join(model.name for model in models) or 'none'}."
    )


def _predict_there(
    server: "client.Client", model: str, file: ImageFile, wants_picture: bool
) -> _Found:
    from tumorapp.client import ProblemError

    try:
        [found] = server.predict(file.data, model=model, heatmap=wants_picture).predictions
    except ProblemError as error:
        if error.status not in _ABOUT_THE_FILE:
            raise
        return _describe_problem(file, error.code, str(error).removeprefix("image 1: ")), None
    picture = None
    if found.heatmap is not None:
        max_pixels: int = current_app.config["MAX_PIXELS"]
        picture = lay_over(read_picture(file.data, max_pixels=max_pixels).grey, found.heatmap)
    return asdict(found), picture


def _describe_problem(file: ImageFile, code: str, detail: str) -> dict[str, Any]:
    detail = detail.removeprefix(f"{file.name}: ")
    return {"filename": file.name, "error": {"code": code, "detail": detail}}


def _list_endings(counts: Counter[str]) -> str:
    """Name the most frequent endings: files of some archives are numbered by theirs."""
    named = counts.most_common(_ENDINGS_NAMED)
    words = [f"{count} {clean_name(ending) or 'without ending'}" for ending, count in named]
    rest = counts.total() - sum(count for _, count in named)
    return ", ".join([*words, *([f"{rest} with others"] if rest else [])])


def _predict_files(
    model: _Predictor, files: Sequence[Path], table: TextIO | None, heatmaps: Path | None
) -> int:
    """Predict files one by one, reporting each as it is done; returns how many were skipped."""
    names = [clean_name(click.format_filename(file)) for file in files]
    width = max(map(len, names))
    writer = open_table(model.classes, table) if table else None
    top = Path(os.path.commonpath([file.resolve().parent for file in files]))
    skipped = 0
    click.echo(f"{'file':{width}}  {'verdict':18}  label         confidence  warnings")
    for path, name in zip(tqdm(files, unit="scan"), names, strict=True):
        found: Mapping[str, Any]
        try:
            found, picture = model.predict(ImageFile(name, path.read_bytes()), bool(heatmaps))
            if heatmaps and picture is not None:
                _write_picture(heatmaps / path.resolve().relative_to(top), picture)
        except OSError as error:
            found = {"filename": name, "error": {"code": "not-read", "detail": str(error)}}
        cells = fill_row(found)
        if reason := cells.get("error"):
            skipped += 1
            line = f"{name:{width}}  skipped: {reason}"
        else:
            line = f"{name:{width}}  {_write_answer(found)}  {cells['warnings']}"
        tqdm.write(line.rstrip())
        if writer:
            writer.writerow({"file": name, "model": model.name, "version": model.version, **cells})
    return skipped


def _write_answer(found: Mapping[str, Any]) -> str:
    """Write a verdict with its label and confidence, which say nothing of another picture."""
    verdict = found["verdict"]
    if verdict == "not-recognised":
        return f"{verdict:18}  {'-':12}  {'-':>10}"
    return f"{verdict:18}  {found['label']:12}  {found['confidence']:10.4f}"


def _write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write the picture of a file below the folder of pictures, where the file is below its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f"{path.name}.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
