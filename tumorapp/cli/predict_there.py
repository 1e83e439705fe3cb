"""`flask predict --server`: a TumorApp that runs elsewhere predicts, and names stay here."""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from brainscan import ImageFile, ScanError
from brainscan.heatmap import lay_over
from brainscan.scan.formats import read_slices
from brainscan.series import name_series
from tumorapp.api.schemas import write_outcome
from tumorapp.bulk.heatmaps import Pictures, write_pictures
from tumorapp.bulk.predict import Outcome, Row
from tumorapp.bulk.sources import Source
from tumorapp.prediction_table import list_rows

if TYPE_CHECKING:
    from tumorapp.client import Client, Model, Prediction

_ABOUT_THE_FILE = (400, 413, 415, 422)


def choose_model(server: "Client", url: str, name: str | None) -> "Model":
    """Choose the model of that name, or the default one; raises ClickException without one."""
    models = server.models()
    for model in models:
        if model.name == name or (name is None and model.default):
            return model
    wanted = f"model named {name!r}" if name else "default model"
    raise click.ClickException(
        f"{url} has no {wanted}. It serves: {', '.join(model.name for model in models) or 'none'}."
    )


def predict_there(
    server: "Client",
    model: "Model",
    max_pixels: int,
    heatmaps: Path | None,
    groups: Sequence[Sequence[Source]],
) -> list[list[Row]]:
    """Let a server predict groups of files, and give their rows.

    Args:
        server: predicts.
        model: of that server.
        max_pixels: of a picture that a heat map is laid over.
        heatmaps: the folder of the pictures; None for none.
        groups: each in a request of its own.
    """
    known = {"model": model.name, "version": model.version}
    rows = []
    for group in groups:
        files = [source.read() for source in group]
        outcomes: list[Outcome] = [
            write_outcome(one) for one in files if isinstance(one, ScanError)
        ]
        sent = [file for file in files if isinstance(file, ImageFile)]
        if sent:
            draw = None
            if heatmaps:
                targets = {source.name: source.target for source in group}
                draw = partial(_draw, sent, max_pixels, heatmaps, targets)
            outcomes += _ask(server, model.name, sent, draw)
        rows.append([known | row for outcome in outcomes for row in list_rows(outcome)])
    return rows


def _ask(
    server: "Client",
    model: str,
    files: Sequence[ImageFile],
    draw: Callable[["Prediction"], None] | None,
) -> list[Outcome]:
    """Send files that belong together in one request: as a ZIP, in which one may be bad.

    The server gets numbers instead of their names.
    """
    from tumorapp.client import Failure, ProblemError

    names = {f"{number}": file.name for number, file in enumerate(files)}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, file in zip(names, files, strict=True):
            archive.writestr(number, file.data)
    try:
        answer = server.predict_archive(packed.getvalue(), model=model, heatmap=draw is not None)
    except ProblemError as error:
        if error.status not in _ABOUT_THE_FILE:
            raise
        return [_describe(files[0].name, error.code, str(error).removeprefix("body: "))]
    outcomes = []
    for one in answer.predictions:
        if isinstance(one, Failure):
            detail = one.detail.removeprefix(f"{one.filename}: ")
            outcomes.append(_describe(names[one.filename], one.code, detail))
            continue
        named = _rename(one, names)
        outcomes.append(asdict(named))
        if draw:
            draw(named)
    return outcomes


def _describe(name: str, code: str, detail: str) -> Outcome:
    return {"filename": name, "error": {"code": code, "detail": detail}}


def _rename(found: "Prediction", names: Mapping[str, str]) -> "Prediction":
    """Give a prediction with the names that the files have here."""
    slices = tuple(replace(one, filename=names[one.filename]) for one in found.slices)
    name = name_series(one.filename for one in slices) if slices else names[found.filename]
    return replace(found, filename=name, slices=slices)


def _draw(
    files: Sequence[ImageFile],
    max_pixels: int,
    folder: Path,
    targets: Mapping[str, str],
    found: "Prediction",
) -> None:
    """Lay heat maps over a picture, or over the slices of a series that show the tumour."""
    maps = {(one.filename, one.frame): one.heatmap for one in found.slices if one.shows_tumor}
    if not found.slices:
        maps = {(found.filename, 0): found.heatmap}
    marks = {place: mark for place, mark in maps.items() if mark}
    marked = {name for name, _ in marks}
    pictures: Pictures = {
        (file.name, place.frame): lay_over(picture.grey, marks[file.name, place.frame])
        for file in files
        if file.name in marked
        for picture, place in read_slices(file.data, max_pixels=max_pixels)
        if (file.name, place.frame) in marks and not isinstance(picture, ScanError)
    }
    write_pictures(folder, targets, pictures, (one.filename for one in found.slices))
