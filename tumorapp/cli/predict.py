"""`flask predict`: the scans of files and folders, as a table, a CSV file and pictures."""

import io
import os
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
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

from brainscan import (
    Answer,
    Archive,
    Examination,
    ImageFile,
    Model,
    ScanError,
    SeriesExamination,
    examine_files,
)
from brainscan.archive import is_archive
from brainscan.heatmap import lay_over
from brainscan.scan.folders import find_images
from brainscan.scan.formats import list_endings, read_slices
from brainscan.series import find_series, name_series
from tumorapp.api.schemas import write_outcome
from tumorapp.catalog import get_catalog
from tumorapp.prediction_table import list_rows, open_table
from tumorapp.uploads import clean_name, shorten

if TYPE_CHECKING:
    from tumorapp import client

_ENDINGS_NAMED = 5
_ABOUT_THE_FILE = (400, 413, 415, 422)
_WHOLE = 2**16  # pixels: no picture's side is longer
_NO_PART_OF_A_NAME = re.compile(r"[^\w.-]+")
_EXAMPLES = """
\b
Examples:
  flask predict scan.jpg
  flask predict scans/ more/scan.png --model binary-cnn
  flask predict head.nii.gz study/ export.zip
  flask predict scans/ --csv predictions.csv --heatmaps heatmaps/
  flask predict scans/ --server http://127.0.0.1:8000
"""


@dataclass(frozen=True)
class _Source:
    """A file, in a folder or in a ZIP.

    Attributes:
        name: as it is shown.
        read: gives its bytes; raises OSError, ScanError.
        target: of its pictures: a path below the folder of pictures, without an ending.
    """

    name: str
    read: Callable[[], bytes]
    target: Path


@dataclass(frozen=True)
class _Found:
    """What became of a picture or a series.

    Attributes:
        written: its prediction or its error, as the API writes either.
        pictures: where they were asked for, what has a heat map with it over it, by the name of
            its file and its place in that.
    """

    written: Mapping[str, Any]
    pictures: Mapping[tuple[str, int], NDArray[np.uint8]]


@dataclass(frozen=True)
class _Predictor:
    """A model, here or on a server.

    Attributes:
        predict: files that belong together, and whether heat maps are wanted → what was found.
    """

    name: str
    version: str
    classes: Sequence[str]
    predict: Callable[[Sequence[ImageFile], bool], list[_Found]]


csv_option = click.option(
    "--csv",
    "table",
    # Lazily: an old file stays until there is something to write.
    type=click.File("w", encoding="utf-8", lazy=True),
    metavar="FILE",
    help="Write a row for each scan, series and slice into FILE.",
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
    help="Write each scan, of a series each slice with the tumour, with its heat map over it into "
    "FOLDER, as PNG.",
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
    """Predict scans: image files, volumes, ZIPs, and folders with all that is below them.

    The DICOM files of a series are predicted together, and so are the slices of a volume. A file
    that cannot be read is listed and skipped; the exit code is then 1. Files of a folder whose
    names are not those of images are left out, and counted at the end.
    """
    files, others = find_images(paths)
    listed = ", ".join(list_endings())
    left_out = f"Files left out: {others.total()} ({_list_endings(others)})." if others else ""
    if not files:
        raise click.ClickException(
            f"No images were found. Accepted: names that end in {listed}. {left_out}".rstrip()
        )
    chosen = _ask_server(server, model, api_key) if server else _open_model(model)
    with ExitStack() as archives:
        sources = list(_list_sources(files, archives))
        skipped = _predict_sources(chosen, sources, table, heatmaps)
    if left_out:
        click.echo(f"{left_out} Names of images end in {listed}.", err=True)
    if skipped:
        raise click.ClickException(f"{skipped} of {len(sources)} files were skipped; see above.")


def _list_sources(files: Sequence[Path], archives: ExitStack) -> Iterator[_Source]:
    """List files, and instead of a ZIP those in it, which stays open."""
    top = Path(os.path.commonpath([file.resolve().parent for file in files]))
    for path in files:
        name = clean_name(click.format_filename(path))
        # Where the file is below its own folder, its pictures are below that of pictures.
        source = _Source(name, path.read_bytes, path.resolve().relative_to(top))
        try:
            file = archives.enter_context(path.open("rb"))
            beginning = file.read(4)
            if not is_archive(beginning):
                file.close()
                yield source
                continue
            archive = Archive(file)
        except OSError:
            yield source  # reading it gives the error
        except ScanError as error:
            yield replace(source, read=partial(_refuse, error))
        else:
            for member in archive.members:
                inner = shorten(member.name)
                yield _Source(
                    f"{name}/{inner}",
                    partial(archive.read, member.position),
                    source.target / _NO_PART_OF_A_NAME.sub("_", inner).lstrip("."),
                )


def _refuse(error: ScanError) -> bytes:
    raise error


def _group(sources: Sequence[_Source]) -> list[list[_Source]]:
    """Put the files of each series together, in the order of their first files."""
    groups: dict[str, list[_Source]] = {}
    for source in sources:
        series = ""
        with suppress(OSError, ScanError):  # examining it gives the error
            series = find_series(source.read())
        groups.setdefault(series or f"file {source.name}", []).append(source)
    return list(groups.values())


def _open_model(name: str | None) -> _Predictor:
    """Open the model of that name, or the default one, in this process."""
    model = get_catalog().get(name)
    card = model.card
    return _Predictor(card.name, str(card.version), card.classes, partial(_predict_here, model))


def _predict_here(model: Model, files: Sequence[ImageFile], wants_heatmaps: bool) -> list[_Found]:
    found = examine_files(
        model,
        files,
        max_pixels=current_app.config["MAX_PIXELS"],
        longest_kept=_WHOLE if wants_heatmaps else 0,
        want_heatmaps=wants_heatmaps,
    )
    return [_Found(write_outcome(one), _draw(one) if wants_heatmaps else {}) for one in found]


def _draw(found: Answer | ScanError) -> dict[tuple[str, int], NDArray[np.uint8]]:
    """Lay its heat map over a picture, and over each slice of a series that shows the tumour."""
    shown: Sequence[Examination] = []
    if isinstance(found, SeriesExamination):
        shown = [one for one in found.slices if one.shows]
    elif isinstance(found, Examination):
        shown = [found]
    return {
        (one.name, one.reading.place.frame if one.reading.place else 0): lay_over(
            one.picture.grey, one.heatmap
        )
        for one in shown
        if one.heatmap is not None
    }


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
    server: "client.Client", model: str, files: Sequence[ImageFile], wants_heatmaps: bool
) -> list[_Found]:
    """Send files that belong together in one request: as a ZIP, in which one may be bad.

    The server gets numbers instead of their names.
    """
    from tumorapp.client import ProblemError

    names = {f"{number}": file.name for number, file in enumerate(files)}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, file in zip(names, files, strict=True):
            archive.writestr(number, file.data)
    try:
        answer = server.predict_archive(packed.getvalue(), model=model, heatmap=wants_heatmaps)
    except ProblemError as error:
        if error.status not in _ABOUT_THE_FILE:
            raise
        detail = str(error).removeprefix("body: ")
        return [_Found(_describe(name_series(names.values()), error.code, detail), {})]
    return [_translate(one, names, files) for one in answer.predictions]


def _translate(
    found: "client.Prediction | client.Failure",
    names: Mapping[str, str],
    files: Sequence[ImageFile],
) -> _Found:
    """Give what a server says, with the names and the pictures that the files have here."""
    from tumorapp.client import Failure

    if isinstance(found, Failure):
        detail = found.detail.removeprefix(f"{found.filename}: ")
        return _Found(_describe(names[found.filename], found.code, detail), {})
    slices = tuple(replace(one, filename=names[one.filename]) for one in found.slices)
    name = name_series(one.filename for one in slices) if slices else names[found.filename]
    marks = {(one.filename, one.frame): one.heatmap for one in slices if one.shows_tumor}
    if not slices:
        marks = {(name, 0): found.heatmap}
    pictures = _lay_over(files, {place: mark for place, mark in marks.items() if mark})
    return _Found(asdict(replace(found, filename=name, slices=slices)), pictures)


def _lay_over(
    files: Sequence[ImageFile], marks: Mapping[tuple[str, int], bytes]
) -> dict[tuple[str, int], NDArray[np.uint8]]:
    """Lay heat maps over slices, by the names of their files and their places in those."""
    max_pixels: int = current_app.config["MAX_PIXELS"]
    marked = {name for name, _ in marks}
    return {
        (file.name, place.frame): lay_over(picture.grey, marks[file.name, place.frame])
        for file in files
        if file.name in marked
        for picture, place in read_slices(file.data, max_pixels=max_pixels)
        if (file.name, place.frame) in marks and not isinstance(picture, ScanError)
    }


def _describe(name: str, code: str, detail: str) -> dict[str, Any]:
    return {"filename": name, "error": {"code": code, "detail": detail}}


def _list_endings(counts: Counter[str]) -> str:
    """Name the most frequent endings: files of some archives are numbered by theirs."""
    named = counts.most_common(_ENDINGS_NAMED)
    words = [f"{count} {clean_name(ending) or 'without ending'}" for ending, count in named]
    rest = counts.total() - sum(count for _, count in named)
    return ", ".join([*words, *([f"{rest} with others"] if rest else [])])


def _predict_sources(
    model: _Predictor, sources: Sequence[_Source], table: TextIO | None, heatmaps: Path | None
) -> int:
    """Predict files, reporting each series as it is done; returns how many were skipped."""
    width = max(len(source.name) for source in sources)
    writer = open_table(model.classes, table, series=True) if table else None
    skipped = 0
    click.echo(
        f"{'file':{width}}  {'verdict':18}  label         confidence  slices  showing       ml"
        "  warnings"
    )
    with tqdm(total=len(sources), unit="scan") as progress:
        for group in _group(sources):
            name = name_series(source.name for source in group)
            try:
                files = [ImageFile(source.name, source.read()) for source in group]
                found = model.predict(files, bool(heatmaps))
                if heatmaps:
                    _write_pictures(heatmaps, group, found)
            except ScanError as error:  # of a ZIP: what cannot be unpacked is in no series
                found = [_Found(write_outcome(error.about(name)), {})]
            except OSError as error:
                found = [_Found(_describe(name, "not-read", str(error)), {})]
            for one in found:
                name = one.written["filename"]
                whole, *slices = list_rows(one.written)
                skipped += "error" in whole
                tqdm.write(f"{name:{width}}  {_write_line(one.written, whole)}".rstrip())
                if writer:
                    known = {"file": name, "model": model.name, "version": model.version}
                    writer.writerows(known | row for row in (whole, *slices))
            progress.update(len(group))
    return skipped


def _write_line(found: Mapping[str, Any], cells: Mapping[str, object]) -> str:
    """Write a verdict with its label and confidence, which say nothing of another picture."""
    if reason := cells.get("error"):
        return f"skipped: {reason}"
    verdict, label, confidence = found["verdict"], found["label"], f"{found['confidence']:.4f}"
    if verdict == "not-recognised":
        label = confidence = "-"
    slices = found.get("slices") or ()
    showing = sum(one["shows_tumor"] for one in slices)
    numbers = (len(slices), showing, found["volume_ml"] or "-") if slices else ("-", "-", "-")
    of_series = f"{numbers[0]:>6}  {numbers[1]:>7}  {numbers[2]:>7}"
    return f"{verdict:18}  {label:12}  {confidence:>10}  {of_series}  {cells['warnings']}"


def _write_pictures(folder: Path, group: Sequence[_Source], found: Sequence[_Found]) -> None:
    """Write pictures below a folder; the name of a volume's slice has its number."""
    targets = {source.name: source.target for source in group}
    for one in found:
        files = Counter(each["filename"] for each in one.written.get("slices", ()))
        for (name, frame), picture in one.pictures.items():
            path = folder / targets[name]
            path.parent.mkdir(parents=True, exist_ok=True)
            number = f"-{frame + 1:03}" if files[name] > 1 else ""
            data = cv2.imencode(".png", picture)[1].tobytes()
            path.with_name(f"{path.name}{number}.png").write_bytes(data)
