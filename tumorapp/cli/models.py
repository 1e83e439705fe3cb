"""`flask models`: what can be trained, and what is installed to be served."""

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from flask import current_app
from flask.cli import AppGroup

from brainscan import Model
from brainscan.bundle import (
    BundleError,
    Card,
    installed_versions,
    pin_version,
    read_bundle,
    read_served,
    remove_version,
    survey_bundles,
)
from brainscan.engine import Engine, EngineError, choose_engine
from brainscan.opening import open_version
from tumorapp.cli.backend import check_backend, load_backend
from tumorapp.cli.evaluate import ask
from tumorapp.cli.installed import (
    COLUMNS,
    describe_change,
    describe_reload,
    describe_versions,
    lay_out,
)
from tumorapp.cli.own_classes import own_classes_options
from tumorapp.cli.remote import models_root, open_store, publishing_root

if TYPE_CHECKING:
    from training.data.folders import ScanTree
    from training.examine import Evaluation

models_commands = AppGroup("models", help="List, choose, check, remove, import and export models.")


@models_commands.command(
    "architectures",
    epilog="""
\b
Examples:
  flask models architectures
  flask models architectures 'cnn-*'
  flask models architectures 'efficientnet-b[0-3]'
""",
)
@click.argument("pattern", default="*")
def architectures_command(pattern: str) -> None:
    """List the architectures that can be trained, or those whose name matches PATTERN.

    Parameters are those of four classes (two for one that tells tumour from healthy) at the default
    size, in pixels. Pretrained ones take --weights in flask train.
    """
    from training.models import list_architectures

    known = list_architectures()
    chosen = [one for one in known if fnmatchcase(one.name, pattern)]
    if not chosen:
        names = ", ".join(one.name for one in known)
        raise click.ClickException(
            f"No architecture's name matches {pattern!r}. Known ones: {names}."
        )
    click.echo(lay_out([chosen[0]._fields, *chosen], numbers=(1,)))


@models_commands.command("list")
def list_command() -> None:
    """List the installed models: each version, whether it is served and why, and its figures.

    "verified" means that every file is as it was published; `flask models verify` runs them too.
    """
    root = models_root()
    installed = survey_bundles(root)
    rows = [row for name, one in installed.items() for row in describe_versions(root, name, one)]
    if not rows:
        click.echo(f"No model is installed in {root}. `flask train` makes one.")
        return
    click.echo(lay_out([COLUMNS, *rows], numbers=(1, 3, 5)))
    for one in installed.values():
        if one.fault:
            click.echo(one.fault, err=True)


@models_commands.command("activate")
@click.argument("name")
@click.argument("version")
def activate_command(name: str, version: str) -> None:
    """Serve VERSION of model NAME, whatever is published later; "newest" ends that."""
    number = None if version == "newest" else _read_number(version)
    if number is not None:
        open_version(_find(name, number), _choose_engine())
    store = open_store()
    if store is None:
        pin_version(models_root(), name, number)
    else:
        _check_installed(name, number)
        store.pin(name, number)
    chosen = f"{name}/{number} is active." if number else f"The newest {name} is active."
    click.echo(f"{chosen} {describe_reload(remote=store is not None)}")


@models_commands.command("remove")
@click.argument("name")
@click.argument("version", type=int)
@click.option("--yes", is_flag=True, help="Even if it is the one that is served.")
def remove_command(name: str, version: int, *, yes: bool) -> None:
    """Delete VERSION of model NAME, from the disk or the store."""
    _check_installed(name, version)
    found = survey_bundles(models_root())[name]
    served = read_served(models_root(), name)
    if not yes and (len(found.stamps) == 1 or (served and version == served.version)):
        which = "only version" if len(found.stamps) == 1 else "version that is served"
        raise click.ClickException(
            f"{name}/{version} is the {which} of its model. Nothing was removed; --yes removes it "
            "anyway."
        )
    store = open_store()
    if store is None:
        remove_version(models_root(), name, version)
    else:
        store.remove((name, version), pinned=found.pinned == version)
    click.echo(f"Removed {name}/{version}. {describe_reload(remote=store is not None)}")


@models_commands.command("verify")
@click.argument("name", required=False)
@click.argument("version", type=int, required=False)
@click.pass_context
def verify_command(context: click.Context, name: str | None, version: int | None) -> None:
    """Check that files are as published and that graphs answer as their cards say.

    Everything that is installed, or model NAME, or one VERSION of it. The exit status is 1 if
    something is wrong.
    """
    installed = installed_versions(models_root())
    if name is not None:
        _check_installed(name, version)
        installed = {name: installed[name] if version is None else [version]}
    open_bundle, wrong = _choose_engine(), 0
    for each, versions in installed.items():
        for number in versions:
            try:
                open_version(models_root() / each / str(number), open_bundle)
            except (BundleError, EngineError) as error:
                wrong += 1
                click.echo(f"{each}/{number}: {error}")
            else:
                click.echo(
                    f"{each}/{number}: its card and its files are as they were published, and its "
                    "answers match its card."
                )
    context.exit(1 if wrong else 0)


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


@models_commands.command(
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
        evaluations.append(_measure(Model(card, _choose_engine()(folder, card)), trees))

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


@models_commands.command(
    "export",
    epilog="""
\b
Examples:
  flask models export binary-cnn --format tflite
  flask models export lesion-lite0 2 --format onnx --into exports/
""",
)
@click.argument("name")
@click.argument("version", type=int, required=False)
@click.option(
    "--format",
    "kind",
    required=True,
    type=click.Choice(["onnx", "tflite", "savedmodel", "openvino"]),
)
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Folder that takes NAME-VERSION.  [default: this one]",
)
def export_command(name: str, version: int | None, kind: str, into: Path) -> None:
    """Write model NAME for other programs: the VERSION that is served, or another one.

    It takes scans as they are prepared for the model, and its answers are checked against those of
    the served graph.
    """
    _check_installed(name, version)
    if version is None:
        served = read_served(models_root(), name)
        if served is None:
            raise click.ClickException(f"No good version of {name} is installed.")
        version = served.version
    from training.interchange import export_model

    bundle = _find(name, version)
    card = read_bundle(bundle)
    target, difference = export_model(bundle, card, kind, into)
    side = card.scan.size
    click.echo(
        f"Written: {target}. Its answers differ from those of {name}/{version} by at most "
        f"{difference:.2g}.\nIt takes scans, float32 (batch, {side}, {side}, 1), 0 to 255, and "
        f"gives the probabilities of {', '.join(card.classes)}"
        f"{' and a lesion map' if card.decision and card.decision.lesion else ''}."
    )


def _find(name: str, version: int) -> Path:
    _check_installed(name, version)
    return models_root() / name / str(version)


def _check_installed(name: str, version: int | None) -> None:
    """Refuse a version that is not installed; without one, a name of which there is none."""
    installed = installed_versions(models_root())
    if name not in installed or version not in (None, *installed[name]):
        asked = name if version is None else f"{name}/{version}"
        known = ", ".join(f"{one}/{n}" for one, versions in installed.items() for n in versions)
        raise click.ClickException(f"{asked} is not installed. Installed: {known or 'none'}.")


def _read_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise click.ClickException(f'The version is {text!r}. Give its number, or "newest".')
    return int(text)


def _choose_engine() -> Callable[[Path, Card], Engine]:
    config = current_app.config
    return choose_engine(config["ENGINE"], config["INFERENCE_THREADS"], config["GRAPH"])
