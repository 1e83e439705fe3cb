"""`flask predict`: the scans of files and folders, as a table, a CSV file and pictures."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import click
from flask import current_app
from flask.cli import with_appcontext
from tqdm import tqdm

from training.bundle import Card
from training.scan import decode_scan
from tumorapp.catalog import Catalog, LoadedModel
from tumorapp.errors import ConfigurationError, ProblemError
from tumorapp.heatmap import lay_over
from tumorapp.inference import Prediction, Upload, predict_scans

_ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
_LISTED = ", ".join(_ENDINGS)
_EXAMPLES = """
\b
Examples:
  flask predict scan.jpg
  flask predict scans/ more/scan.png --model binary-cnn
  flask predict scans/ --csv predictions.csv --heatmaps heatmaps/
"""


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
@with_appcontext
def predict_command(
    paths: tuple[Path, ...], model: str | None, table: TextIO | None, heatmaps: Path | None
) -> None:
    """Predict scans: image files, and folders with all that is below them.

    A file that cannot be read is listed and skipped; the exit code is then 1.
    """
    files = _find_files(paths)
    if not files:
        raise click.ClickException(f"No images were found: their names end in {_LISTED}.")
    catalog: Catalog = current_app.extensions["catalog"]
    try:
        chosen = catalog.get(model)
    except (ProblemError, ConfigurationError) as error:
        raise click.ClickException(str(error)) from error
    skipped = _predict_files(chosen, files, table, heatmaps)
    if skipped:
        raise click.ClickException(f"{skipped} of {len(files)} files were skipped; see above.")


def _find_files(paths: Sequence[Path]) -> list[Path]:
    """List the files that were named, and the images in the folders that were."""
    found: dict[Path, None] = {}  # as a set that keeps the order
    for path in paths:
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in inside:
            is_image = file.suffix.lower() in _ENDINGS and not file.name.startswith(".")
            if file == path or (is_image and file.is_file()):
                found[file] = None
    return list(found)


def _predict_files(
    model: LoadedModel, files: Sequence[Path], table: TextIO | None, heatmaps: Path | None
) -> int:
    """Predict files one by one, reporting each as it is done; returns how many were skipped."""
    names = [click.format_filename(file) for file in files]
    width = max(map(len, names))
    writer = _open_table(model.card, table) if table else None
    top = Path(os.path.commonpath([file.resolve().parent for file in files]))
    skipped = 0
    click.echo(f"{'file':{width}}  label         confidence  warnings")
    for file, name in zip(tqdm(files, unit="scan"), names, strict=True):
        row: dict[str, object] = {"file": name, "model": model.card.name}
        try:
            found = _predict_file(
                model, file, heatmaps and heatmaps / file.resolve().relative_to(top)
            )
        except (ProblemError, OSError) as error:
            skipped += 1
            reason = str(error.__cause__ or error)  # without the name, which stands before it
            row["error"] = reason
            line = f"{name:{width}}  skipped: {reason}"
        else:
            row |= _as_row(found, model.card.version)
            warnings = " ".join(found.warnings)
            line = f"{name:{width}}  {found.label:12}  {found.confidence:10.4f}  {warnings}"
        tqdm.write(line.rstrip())
        if writer:
            writer.writerow(row)
    return skipped


def _predict_file(model: LoadedModel, file: Path, picture: Path | None) -> Prediction:
    """Predict one file; where a picture is asked for, write it beside its neighbours' ones."""
    data = file.read_bytes()
    max_pixels = current_app.config["MAX_PIXELS"]
    [found] = predict_scans(
        model, [Upload(file.name, data)], heatmap=picture is not None, max_pixels=max_pixels
    )
    if picture is not None and found.heatmap is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        grey = decode_scan(data, max_pixels=max_pixels)
        picture.with_name(f"{picture.name}.png").write_bytes(lay_over(grey, found.heatmap))
    return found


def _open_table(card: Card, table: TextIO) -> "csv.DictWriter[str]":
    columns = ["file", "model", "version", "label", "tumor", "confidence"]
    columns += [_column(label) for label in card.classes]
    writer = csv.DictWriter(table, [*columns, "warnings", "error"], lineterminator="\n")
    writer.writeheader()
    return writer


def _column(label: str) -> str:
    """Name the column of a class's probability: a class, too, may be called tumor."""
    return f"p_{label}"


def _as_row(found: Prediction, version: int) -> dict[str, object]:
    return {
        "version": version,
        "label": found.label,
        "tumor": found.tumor,
        "confidence": found.confidence,
        **{_column(label): value for label, value in found.probabilities.items()},
        "warnings": " ".join(found.warnings),
    }
