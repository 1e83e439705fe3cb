"""`flask predict`: the scans of files and folders, as a table, a CSV file and pictures."""

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click
from flask import current_app
from flask.cli import with_appcontext
from tqdm import tqdm

from brainscan.heatmap import lay_over
from brainscan.scan import decode_scan
from tumorapp.catalog import Catalog
from tumorapp.errors import ConfigurationError, ProblemError
from tumorapp.inference import Prediction, Upload, predict_scans
from tumorapp.prediction_table import fill_row, open_table

if TYPE_CHECKING:
    from tumorapp import client

_ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
_LISTED = ", ".join(_ENDINGS)
_ENDINGS_NAMED = 5
_ABOUT_THE_FILE = (400, 413, 415, 422)
_EXAMPLES = """
\b
Examples:
  flask predict scan.jpg
  flask predict scans/ more/scan.png --model binary-cnn
  flask predict scans/ --csv predictions.csv --heatmaps heatmaps/
  flask predict scans/ --server http://127.0.0.1:8000
"""


class _SkippedError(Exception):
    """A server refused a file; the message says why."""


@dataclass(frozen=True)
class _Predictor:
    """A model, here or on a server.

    Attributes:
        predict: gives the prediction of a file's bytes, with its heat map where that is wanted.
    """

    name: str
    version: str
    classes: Sequence[str]
    predict: Callable[[bytes, bool], "Prediction | client.Prediction"]


@click.command("predict", epilog=_EXAMPLES)
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="PATH…"
)
@click.option("--model", metavar="NAME", help="The model that predicts; else the default one.")
@click.option(
    "--csv",
    "table",
    type=click.File(
        "w", encoding="utf-8", lazy=True
    ),  # an old one stays until there is something to write
    metavar="FILE",
    help="Write a row for each scan into FILE.",
)
@click.option(
    "--heatmaps",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Write each scan with its heat map over it into FOLDER, as PNG.",
)
@click.option("--server", metavar="URL", help="Ask the TumorApp that runs there.")
@click.option(
    "--api-key",
    envvar="TUMORAPP_API_KEY",
    metavar="KEY",
    help="The key, where that TumorApp asks for one. Better given as TUMORAPP_API_KEY: others on "
    "the machine can read a command.",
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

    A file that cannot be read is listed and skipped; the exit code is then 1. Of a folder's files
    that are no images by their names, the end says how many there are.
    """
    files, others = _find_files(paths)
    left_out = f"Files left out: {others.total()} ({_list_endings(others)})." if others else ""
    if not files:
        raise click.ClickException(
            f"No images were found: their names end in {_LISTED}. {left_out}".rstrip()
        )
    with contextlib.ExitStack() as stack:
        there = _ask_server(server, model, api_key) if server else None
        chosen = stack.enter_context(there) if there else _open_model(model)
        skipped = _predict_files(chosen, files, table, heatmaps)
    if left_out:
        click.echo(f"{left_out} Names of images end in {_LISTED}.", err=True)
    if skipped:
        raise click.ClickException(f"{skipped} of {len(files)} files were skipped; see above.")


def _open_model(name: str | None) -> _Predictor:
    """Open the model of that name, or the default one, in this process."""
    catalog: Catalog = current_app.extensions["catalog"]
    try:
        model = catalog.get(name)
    except (ProblemError, ConfigurationError) as error:
        raise click.ClickException(str(error)) from error
    max_pixels = current_app.config["MAX_PIXELS"]

    def predict(data: bytes, heatmap: bool) -> Prediction:
        uploads = [Upload("image", data)]
        return predict_scans(model, uploads, heatmap=heatmap, max_pixels=max_pixels)[0]

    return _Predictor(model.card.name, str(model.card.version), model.card.classes, predict)


@contextlib.contextmanager
def _ask_server(url: str, name: str | None, api_key: str | None) -> Iterator[_Predictor]:
    """Choose the model of that name, or the default one, of a TumorApp that runs elsewhere."""
    from tumorapp import client

    try:
        with client.Client(url, api_key=api_key) as server:
            models = server.models()
            for model in models:
                if model.name == name or (name is None and model.default):
                    predict = partial(_predict_there, server, model.name)
                    yield _Predictor(model.name, model.version, model.classes, predict)
                    return
    except client.ClientError as error:
        raise click.ClickException(str(error)) from error
    raise click.ClickException(
        f"{url} serves no {f'model named {name!r}' if name else 'default model'}. "
        f"It serves: {', '.join(model.name for model in models) or 'none'}."
    )


def _predict_there(
    server: "client.Client", model: str, data: bytes, heatmap: bool
) -> "client.Prediction":
    from tumorapp.client import ProblemError

    try:
        return server.predict(data, model=model, heatmap=heatmap).predictions[0]
    except ProblemError as error:
        if error.status not in _ABOUT_THE_FILE:
            raise
        raise _SkippedError(str(error).removeprefix("image 1: ")) from error


def _find_files(paths: Sequence[Path]) -> tuple[list[Path], Counter[str]]:
    """List the files that were named, and the images in the folders that were.

    Links that lead nowhere count as files: somebody will miss them.

    Returns:
        The files, and how often each ending comes among the folders' other files.
    """
    found: dict[Path, None] = {}  # as sets that keep the order
    others: dict[Path, None] = {}
    for path in paths:
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in inside:
            if file == path:
                found[file] = None
            elif not file.name.startswith(".") and (file.is_file() or not file.exists()):
                known = file.suffix.lower() in _ENDINGS
                (found if known else others)[file] = None
    return list(found), Counter(file.suffix.lower() for file in others if file not in found)


def _list_endings(counts: Counter[str]) -> str:
    """Name the most frequent endings: files of some archives are numbered by theirs."""
    named = counts.most_common(_ENDINGS_NAMED)
    words = [f"{count} {ending or 'without ending'}" for ending, count in named]
    rest = counts.total() - sum(count for _, count in named)
    return ", ".join([*words, *([f"{rest} with others"] if rest else [])])


def _predict_files(
    model: _Predictor, files: Sequence[Path], table: TextIO | None, heatmaps: Path | None
) -> int:
    """Predict files one by one, reporting each as it is done; returns how many were skipped."""
    names = [click.format_filename(file) for file in files]
    width = max(map(len, names))
    writer = open_table(model.classes, table) if table else None
    top = Path(os.path.commonpath([file.resolve().parent for file in files]))
    skipped = 0
    click.echo(f"{'file':{width}}  label         confidence  warnings")
    for file, name in zip(tqdm(files, unit="scan"), names, strict=True):
        row: dict[str, object] = {"file": name, "model": model.name, "version": model.version}
        try:
            found = _predict_file(
                model, file, heatmaps and heatmaps / file.resolve().relative_to(top)
            )
        except (ProblemError, _SkippedError, OSError) as error:
            skipped += 1
            own = isinstance(error, ProblemError)
            reason = str((own and error.__cause__) or error)  # without the name before it
            row["error"] = reason
            line = f"{name:{width}}  skipped: {reason}"
        else:
            row |= fill_row(
                label=found.label,
                tumor=found.tumor,
                confidence=found.confidence,
                probabilities=found.probabilities,
                warnings=found.warnings,
            )
            warnings = " ".join(found.warnings)
            line = f"{name:{width}}  {found.label:12}  {found.confidence:10.4f}  {warnings}"
        tqdm.write(line.rstrip())
        if writer:
            writer.writerow(row)
    return skipped


def _predict_file(
    model: _Predictor, file: Path, picture: Path | None
) -> "Prediction | client.Prediction":
    """Predict one file; where a picture is asked for, write it beside its neighbours' ones."""
    data = file.read_bytes()
    found = model.predict(data, picture is not None)
    if picture is not None and found.heatmap is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        grey = decode_scan(data, max_pixels=current_app.config["MAX_PIXELS"])
        picture.with_name(f"{picture.name}.png").write_bytes(lay_over(grey, found.heatmap))
    return found
