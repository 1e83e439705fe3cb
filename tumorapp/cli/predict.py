"""`flask predict`: the scans of files, folders and stores, as a table, a file and pictures."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import click
from flask import current_app
from flask.cli import with_appcontext
from tqdm import tqdm

from brainscan import Model
from brainscan.processes import WORTH_PROCESSES, spread
from brainscan.scan.formats import list_endings
from brainscan.storage import is_url
from tumorapp.bulk.listing import Listing
from tumorapp.bulk.predict import Row
from tumorapp.bulk.process import Bundle, predict_sources
from tumorapp.bulk.sources import Source
from tumorapp.catalog import get_catalog
from tumorapp.cli.cluster import ray_option
from tumorapp.file_names import clean_name

if TYPE_CHECKING:
    from tumorapp.bulk.results import Results

_ENDINGS_NAMED = 5
_BATCH = 32  # files, at least, that are predicted together
_EXAMPLES = """
\b
Examples:
  flask predict scan.jpg
  flask predict scans/ more/scan.png --model binary-cnn
  flask predict head.nii.gz study/ export.zip
  flask predict scans/ --out predictions.csv --heatmaps heatmaps/
  flask predict s3://bucket/scans/ --out s3://bucket/predictions/ --resume
  flask predict scans/ --server http://127.0.0.1:8000
  flask predict s3://bucket/scans/ --out s3://bucket/predictions/ --ray 10.0.0.1:6379
"""


@dataclass(frozen=True)
class _Predictor:
    """A model, here or on a server.

    Attributes:
        work: batches of groups of files → the rows of each group, in order.
    """

    name: str
    version: str
    classes: Sequence[str]
    work: Callable[[Iterable[list[list[Source]]]], Iterable[list[list[Row]]]]


class _Place(click.Path):
    """A path, or a URL of what `brainscan.storage` opens; file:// becomes a path."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value.startswith("file://"):
            value = unquote(urlsplit(value).path)
        return value if is_url(value) else str(super().convert(value, param, ctx))


@click.command("predict", epilog=_EXAMPLES)
@click.argument("places", nargs=-1, required=True, type=_Place(exists=True), metavar="PATH…")
@click.option("--model", metavar="NAME", help="The model that predicts; else the default one.")
@click.option(
    "--out",
    type=_Place(),
    metavar="PLACE",
    help="Write a row for each scan, series and slice into a file (NAME.csv or NAME.parquet), or "
    "in parts into a folder, as Parquet. PLACE and PATH may be URLs: s3://, gs:// or file://.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with a run into --out that was stopped: what has rows there stays as it is.",
)
@click.option(
    "--heatmaps",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Write each scan, of a series each slice with the tumour, with its heat map over it into "
    "FOLDER, as PNG.",
)
@ray_option
@click.option("--server", metavar="URL", help="Ask the TumorApp at this address.")
@click.option(
    "--api-key",
    envvar="TUMORAPP_API_KEY",
    metavar="KEY",
    help="Its API key. Better set TUMORAPP_API_KEY: others on the machine can see a command line.",
)
@with_appcontext
def predict_command(
    places: tuple[str, ...],
    model: str | None,
    out: str | None,
    resume: bool,
    heatmaps: Path | None,
    cluster: str | None,
    server: str | None,
    api_key: str | None,
) -> None:
    """Predict scans: image files, volumes, ZIPs, and folders with all that is below them.

    The DICOM files of a series are predicted together, and so are the slices of a volume. A file
    that cannot be read is listed and skipped; the exit code is then 1. Files of a folder whose
    names are not those of images are left out, and counted at the end.
    """
    if resume and not out:
        raise click.UsageError("--resume goes on with the results in --out. Give that, too.")
    if server and cluster:
        raise click.UsageError("--server and --ray both say where to predict. Give one of them.")
    if cluster:  # whose processes have other current folders
        places = tuple(one if is_url(one) else str(Path(one).absolute()) for one in places)
        heatmaps = heatmaps and heatmaps.absolute()
    with closing(Listing(places)) as listing:
        others = listing.count_others()
        listed = ", ".join(list_endings())
        left_out = f"Files left out: {others.total()} ({_list_endings(others)})." if others else ""
        if not listing.count():
            raise click.ClickException(
                f"No images were found. Accepted: names that end in {listed}. {left_out}".rstrip()
            )
        count = listing.count()
        if server:
            chosen = _ask(server, model, api_key, heatmaps)
        else:
            chosen = _open(model, count, heatmaps, cluster)
        listing.find_series()
        results = None
        if out:
            from tumorapp.bulk.results import Results  # which takes a while to import

            model_of_rows = chosen.name, chosen.version
            results = Results(out, model_of_rows, chosen.classes, resume=resume)
            listing.leave_out(results.list_names())
        if resume:
            done = count - listing.count()
            click.echo(f"{done} of {count} files have rows already.", err=True)
        skipped = _predict(chosen, listing, results)
    if left_out:
        click.echo(f"{left_out} Names of images end in {listed}.", err=True)
    if skipped:
        raise click.ClickException(f"{skipped} of {count} files were skipped; see above.")


def _ask(url: str, name: str | None, api_key: str | None, heatmaps: Path | None) -> _Predictor:
    """Choose the model of that name, or the default one, of a TumorApp that runs elsewhere."""
    from tumorapp.cli.predict_there import choose_model, predict_there
    from tumorapp.client import Client

    server = click.get_current_context().with_resource(Client(url, api_key=api_key))
    model = choose_model(server, url, name)
    max_pixels: int = current_app.config["MAX_PIXELS"]
    predict = partial(predict_there, server, model, max_pixels, heatmaps)
    return _Predictor(model.name, model.version, model.classes, partial(map, predict))


def _open(name: str | None, count: int, heatmaps: Path | None, cluster: str | None) -> _Predictor:
    """Choose the model of that name, or the default one: for many files, in several processes."""
    config = current_app.config
    model = get_catalog().get(name)
    bundle: Model | Bundle = model
    work: Callable[..., Iterable[Any]] = map
    if cluster and model.folder:
        from brainscan import cluster as ray

        click.get_current_context().with_resource(ray.connect(cluster, model.folder))
        sent = Path(*model.folder.parts[-2:])
        bundle, work = Bundle(sent, config["ENGINE"], config["GRAPH"]), ray.spread
    elif count >= WORTH_PROCESSES and model.folder and config["ENGINE"] == "openvino":
        bundle, work = Bundle(model.folder, config["ENGINE"], config["GRAPH"]), spread
    predict = partial(predict_sources, bundle, config["MAX_PIXELS"], heatmaps)
    card = model.card
    return _Predictor(card.name, str(card.version), card.classes, partial(work, predict))


def _list_endings(counts: Counter[str]) -> str:
    """Name the most frequent endings: files of some archives are numbered by theirs."""
    named = counts.most_common(_ENDINGS_NAMED)
    words = [f"{count} {clean_name(ending) or 'without ending'}" for ending, count in named]
    rest = counts.total() - sum(count for _, count in named)
    return ", ".join([*words, *([f"{rest} with others"] if rest else [])])


def _predict(model: _Predictor, listing: Listing, results: "Results | None") -> int:
    """Predict files, reporting each series as it is done; returns how many were skipped."""
    width, skipped = listing.measure_names(), 0
    click.echo(
        f"{'file':{width}}  {'verdict':18}  label         confidence  slices  showing       ml"
        "  warnings"
    )
    under_way: deque[list[list[Source]]] = deque()  # batches are taken ahead of their rows

    def take() -> Iterator[list[list[Source]]]:
        for batch in _batch(listing.list_groups()):
            under_way.append(batch)
            yield batch

    with tqdm(total=listing.count(), unit="scan") as progress:
        for rows_of_groups in model.work(take()):
            rows = [row for group in rows_of_groups for row in group]
            if results:
                results.add(rows)
            skipped += sum("error" in row for row in rows)
            lines = (
                f"{whole['file']:{width}}  {_write_line(whole, slices)}".rstrip()
                for whole, slices in _split(rows)
            )
            tqdm.write("\n".join(lines))
            progress.update(sum(map(len, under_way.popleft())))
    if results:
        results.finish()
    return skipped


def _batch(groups: Iterable[list[Source]]) -> Iterator[list[list[Source]]]:
    """Put groups together until they have enough files to be predicted together."""
    batch: list[list[Source]] = []
    for group in groups:
        batch.append(group)
        if sum(map(len, batch)) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _split(rows: Sequence[Row]) -> Iterator[tuple[Row, Sequence[Row]]]:
    """Give the row of each picture and series, and those of its slices, which follow it."""
    place = 0
    while place < len(rows):
        first = place + 1
        place = first + rows[place].get("slices", 0)
        yield rows[first - 1], rows[first:place]


def _write_line(whole: Row, slices: Sequence[Row]) -> str:
    """Write a verdict with its label and confidence, which say nothing of another picture."""
    if reason := whole.get("error"):
        return f"skipped: {reason}"
    verdict, label, confidence = whole["verdict"], whole["label"], f"{whole['confidence']:.4f}"
    if verdict == "not-recognised":
        label = confidence = "-"
    showing = sum(one["shows_tumor"] for one in slices)
    numbers = (len(slices), showing, whole["volume_ml"] or "-") if slices else ("-", "-", "-")
    of_series = f"{numbers[0]:>6}  {numbers[1]:>7}  {numbers[2]:>7}"
    return f"{verdict:18}  {label:12}  {confidence:>10}  {of_series}  {whole['warnings']}"
