"""`flask models`: what can be trained, and what is installed to be served."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

import click
from flask import current_app
from flask.cli import AppGroup

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
from tumorapp.cli.installed import (
    COLUMNS,
    describe_reload,
    describe_versions,
    find_served,
    lay_out,
)
from tumorapp.cli.remote import models_root, open_store

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
        open_version(_find(name, number), choose_configured_engine())
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
    open_bundle, wrong = choose_configured_engine(), 0
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
    bundle = find_served(models_root(), name) if version is None else _find(name, version)
    from training.interchange import export_model

    card = read_bundle(bundle)
    target, difference = export_model(bundle, card, kind, into)
    side = card.scan.size
    click.echo(
        f"Written: {target}. Its answers differ from those of {name}/{bundle.name} by at most "
        f"{difference:.2g}.\nIt takes scans, float32 (batch, {side}, {side}, 1), 0 to 255, and "
        f"gives the probabilities of {', '.join(card.classes)}"
        f"{' and a lesion map' if card.decision and card.decision.lesion else ''}."
    )


def _find(name: str, version: int) -> Path:
    _check_installed(name, version)
    return models_root() / name / str(version)


def _check_installed(name: str, version: int | None) -> None:
    """Refuse a version that is not installed; without one, a name that is not."""
    installed = installed_versions(models_root())
    if name not in installed or version not in (None, *installed[name]):
        asked = name if version is None else f"{name}/{version}"
        known = ", ".join(f"{one}/{n}" for one, versions in installed.items() for n in versions)
        raise click.ClickException(f"{asked} is not installed. Installed: {known or 'none'}.")


def _read_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise click.ClickException(f'The version is {text!r}. Give its number, or "newest".')
    return int(text)


def choose_configured_engine() -> Callable[[Path, Card], Engine]:
    """Give what opens a bundle as a service with these settings does."""
    config = current_app.config
    return choose_engine(config["ENGINE"], config["INFERENCE_THREADS"], config["GRAPH"])
