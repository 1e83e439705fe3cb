"""`flask models import`: a Keras model from elsewhere becomes a bundle."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from flask.cli import with_appcontext

from brainscan import Model
from brainscan.bundle import Card, read_bundle
from tumorapp.cli.backend import check_backend, load_backend
from tumorapp.cli.evaluate import ask
from tumorapp.cli.installed import describe_change, lay_out
from tumorapp.cli.models import choose_configured_engine
from tumorapp.cli.own_classes import own_classes_options
from tumorapp.cli.remote import publishing_root

if TYPE_CHECKING:
    from training.data.folders import ScanTree
    from training.examine import Evaluation


def _check_name(
    context: click.Context,  # noqa: ARG001  click hands it over
    parameter: click.Parameter,  # noqa: ARG001
    name: str,
) -> str:
    """Refuse a name that no card may have."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name):
        raise click.BadParameter(
            f"{name!r} is not accepted. Give small letters a-z, digits, - and dots, the first a "
            "letter or a digit."
        )
    return name


@click.command(
    "import",
    epilog="""
\b
Examples:
  flask models import cnn.h5 --name cnn --classes glioma,meningioma,no_tumor,pituitary --scale 0..1
  flask models import net.keras --name net --classes a,b --tumor-free a --scale 0..255 --logits
""",
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--name",
    required=True,
    callback=_check_name,
    help="The model's name here: a-z, 0-9, - and dots.",
)
@click.option(
    "--classes",
    required=True,
    metavar="A,B,…",
    help="In the order of its outputs. For one sigmoid neuron: the class of 0, then that of 1.",
)
@click.option(
    "--scale",
    required=True,
    type=click.Choice(["0..1", "0..255", "-1..1", "imagenet", "bgr-means"]),
    help="The range of the pixels it was trained on; or imagenet: ImageNet's mean and deviation, "
    "as PyTorch has them; or bgr-means: its means of blue, green and red, as Keras's VGG and "
    "ResNet50 have them. One that scales them itself takes 0..255.",
)
@click.option(
    "--size", type=int, help="Width of its input in pixels, where its file leaves it open."
)
@own_classes_options
@click.option(
    "--data",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Labelled folder, as for flask evaluate, to measure it on: names in a wrong order show.",
)
@click.option("--logits", is_flag=True, help="Its last layer has no softmax or sigmoid.")
@click.option("--crop", is_flag=True, help="It was trained on scans cropped around the head.")
@with_appcontext
def import_command(
    file: Path,
    name: str,
    classes: str,
    data: tuple[Path, ...],
    tumor_free: str | None,
    **options: Any,
) -> None:
    """Make a bundle of a Keras model, FILE (.keras or HDF5), and publish it.

    Only Keras's own layers are accepted: Lambda layers and other code are refused. Its answers are
    compared with those of the file; its accuracy is not known, and its card says so. With --data it
    is measured first, and published then.
    """
    from training.data.folders import read_trees

    root, trees = publishing_root(), read_trees(data)
    check_backend()
    load_backend()
    from training.import_model import ImportRequest, import_model

    names = tuple(part.strip() for part in classes.split(","))
    healthy = None if tumor_free == "none" else tumor_free
    request = ImportRequest(file, name, names, models=root, tumor_free=healthy, **options)
    evaluations: list[Evaluation] = []

    def measure(card: Card, folder: Path) -> None:
        evaluations.append(_measure(Model(card, choose_configured_engine()(folder, card)), trees))

    bundle = import_model(request, measure if trees else None)
    card = read_bundle(bundle)
    click.echo(f"Published {bundle}. {describe_change(bundle)}")
    if tumor_free is None and all(map(card.is_tumor, card.classes)):
        click.echo("Each of its classes counts as a tumour; --tumor-free names one that does not.")
    if evaluations:
        _advise_order(card, evaluations[-1])
        return
    click.echo("Nothing was measured: do not trust it until you have tested it on labelled scans.")


def _measure(model: Model, trees: "list[ScanTree]") -> "Evaluation":
    """Tell the accuracy on labelled scans."""
    from training.examine import evaluate_answers

    evaluation = evaluate_answers(model, *ask(model, trees))
    measured, classes = evaluation.card.measurement, evaluation.card.classes
    if measured is None:
        return evaluation
    low, high = measured.intervals.accuracy
    click.echo(
        f"On {measured.scans} scans of these folders: accuracy {measured.accuracy:.4f} (95 % "
        f"interval {low:.4f} to {high:.4f}). Folders (rows) and answers (columns):\n"
    )
    rows = [
        (name, *map(str, counts)) for name, counts in zip(classes, measured.confusion, strict=True)
    ]
    click.echo(lay_out([("", *classes), *rows], numbers=range(1, len(classes) + 1)) + "\n")
    return evaluation


def _advise_order(card: Card, evaluation: "Evaluation") -> None:
    """Say whether another order of the classes would have fitted the scans better."""
    from training.examine import find_better_order

    if better := find_better_order(card, evaluation):
        order, accuracy = better
        click.echo(
            f"In the order --classes {','.join(order)} it would be right on {accuracy:.4f}. If "
            f"that is the order of its outputs, remove this version (flask models remove "
            f"{card.name} {card.version}) and import it again."
        )
