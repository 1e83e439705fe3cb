"""`flask evaluate`: the report of a published model on labelled folders."""

from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click
from flask import current_app
from flask.cli import with_appcontext

from brainscan import Model
from tumorapp.api.schemas import PredictionSchema
from tumorapp.catalog import get_catalog
from tumorapp.cli.own_classes import own_classes_options
from tumorapp.prediction_table import fill_row, open_table

if TYPE_CHECKING:
    from training.data.folders import ScanTree
    from training.examine import Answer, Evaluation

_KNOWN = ("truth", "right", "source", "plane", "group", "seen")
_EXAMPLES = """
\b
Examples:
  flask evaluate --model lesion-lite0 my-scans/
  flask evaluate my-scans/ more-scans/ --csv answers.csv --report evaluation/
  flask evaluate meine-bilder/ --class Gliom=glioma --tumor-free gesund
  flask evaluate --model binary-cnn my-scans/ --seen instance/data/nickparvar \\
      --seen instance/data/sartaj
"""


@click.command("evaluate", epilog=_EXAMPLES)
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR…")
@click.option("--model", metavar="NAME", help="The model to evaluate; else the default one.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="As in flask train.")
@own_classes_options
@click.option(
    "--seen",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder that the model was trained on: near-duplicates of its scans, mirrored ones too, "
    "are counted, and accuracy is given with and without them. Repeat the option for more.",
)
@click.option(
    "--csv",
    "table",
    # Lazily: an old file stays until there is something to write.
    type=click.File("w", encoding="utf-8", lazy=True),
    metavar="FILE",
    help="Write a row for each scan into FILE.",
)
@click.option(
    "--report",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Write the report with its plots into FOLDER instead of printing it.",
)
@with_appcontext
def evaluate_command(
    folders: tuple[Path, ...],
    model: str | None,
    exclude: tuple[str, ...],
    seen: tuple[Path, ...],
    table: TextIO | None,
    report: Path | None,
    tumor_free: str | None,  # noqa: ARG001  the decorator acts on it
) -> None:
    """Measure a published model on labelled folders: a subfolder for each class.

    The graph that is served answers, and the figures are those of a training's report: accuracy
    with intervals, confusion matrix, calibration, each folder and plane, verdicts, and how well the
    model points where tumours are outlined (slices.csv, or NAME_mask.png next to a scan).
    """
    from training.data.folders import read_trees
    from training.examine import evaluate_answers
    from training.report import describe_evaluation, write_evaluation

    trees = read_trees(folders, exclude=exclude)
    seen_trees = read_trees(seen)
    chosen = get_catalog().get(model)
    answers, skipped = ask(chosen, trees)
    thumbnails = None
    if seen_trees:
        from training.data.cache import prepare_arrays

        files = [scan.path for tree in seen_trees for scan in tree.scans]
        cache = Path(current_app.instance_path) / "cache"
        thumbnails = prepare_arrays(files, chosen.card.scan, cache).thumbnails
    evaluation = evaluate_answers(chosen, answers, skipped, thumbnails)
    if table:
        _write_table(table, chosen, evaluation)
    if report is None:
        click.echo(describe_evaluation(evaluation))
        return
    write_evaluation(report, evaluation)
    click.echo(f"Report: {report / 'README.md'}")


def ask(model: Model, trees: "list[ScanTree]") -> "tuple[list[Answer], list[tuple[str, str]]]":
    """Ask a model about all scans of some folders; gives also each that cannot be read, and why."""
    from training.examine import Answer, examine_trees

    for note in (note for tree in trees for note in tree.notes):
        click.echo(note, err=True)
    answers: list[Answer] = []
    skipped: list[tuple[str, str]] = []
    scans = [scan for tree in trees for scan in tree.scans]
    found = examine_trees(model, trees, current_app.config["MAX_PIXELS"])
    for scan, one in zip(scans, found, strict=True):
        if isinstance(one, Answer):
            answers.append(one)
        else:
            skipped.append((scan.name, str(one).removeprefix(f"{scan.name}: ")))
    return answers, skipped


def _write_table(table: TextIO, model: Model, evaluation: "Evaluation") -> None:
    """Write a row for each scan: what is known of it, and the answer as `flask predict` has it."""
    card, schema = model.card, PredictionSchema(exclude=("heatmap",))
    writer = open_table(card.classes, table, _KNOWN)
    for row, one in enumerate(evaluation.answers):
        known = (
            one.scan.label,
            bool(evaluation.right[row]),
            one.source,
            one.plane,
            int(evaluation.groups[row]),
            "" if evaluation.seen is None else bool(evaluation.seen[row]),
        )
        writer.writerow(
            {
                "file": one.scan.name,
                **dict(zip(_KNOWN, known, strict=True)),
                "model": card.name,
                "version": card.version,
                **fill_row(schema.dump(one.found)),
            }
        )
    for name, reason in evaluation.skipped:
        writer.writerow({"file": name, "error": reason})
