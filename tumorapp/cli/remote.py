"""`flask models pull` and `push`; and where the other commands find and publish models."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
from flask import current_app, g
from flask.cli import with_appcontext

from brainscan.bundle import installed_versions
from tumorapp.cli.installed import find_served
from tumorapp.models_folder import make_mirror

if TYPE_CHECKING:
    from brainscan.bundle.remote import RemoteBundles


def models_root() -> Path:
    """Give the folder of the installed models, after fetching what is new in a store."""
    root: Path = current_app.config["MODELS_DIR"]
    mirror = make_mirror(current_app)
    if mirror is not None and "followed" not in g:
        for (name, version), reason in mirror.follow().items():
            click.echo(f"Not fetched: {name}/{version}: {reason}", err=True)
        g.followed = True
    return root


def open_store() -> "RemoteBundles | None":
    """Give the store that holds the models; None where they are in a folder."""
    if not (url := current_app.config["MODELS_URL"]):
        return None
    from brainscan.bundle.remote import RemoteBundles

    return RemoteBundles(url)


def publishing_root() -> Path:
    """Give the folder in which models are published; refuse to publish straight into a store."""
    if url := current_app.config["MODELS_URL"]:
        raise click.ClickException(
            f"TUMORAPP_MODELS_DIR is {url}, but models are published in a folder. Set it to a "
            f"folder, run the same command again, then: flask models push NAME --to {url}"
        )
    return models_root()


@click.command("pull")
@with_appcontext
def pull_command() -> None:
    """Fetch and verify the models of a store, as the service does when it starts.

    TUMORAPP_MODELS_DIR is the store's URL, TUMORAPP_MODELS_CACHE the folder to fill.
    """
    if not current_app.config["MODELS_URL"]:
        raise click.ClickException(
            "TUMORAPP_MODELS_DIR is a folder. Set it to a URL such as s3://bucket/models."
        )
    found = installed_versions(models_root())
    if not found:
        raise click.ClickException(f"{current_app.config['MODELS_URL']} has no intact model.")
    names = ", ".join(f"{name}/{one}" for name, versions in found.items() for one in versions)
    click.echo(f"{models_root()} has {names}.")


@click.command(
    "push",
    epilog="""
\b
Examples:
  flask models push lesion-lite0 --to s3://bucket/models
  flask models push lesion-lite0 2 --to gs://bucket/models
""",
)
@click.argument("name")
@click.argument("version", type=int, required=False)
@click.option("--to", "url", required=True, metavar="URL", help="The store: s3://… or gs://…")
@with_appcontext
def push_command(name: str, version: int | None, url: str) -> None:
    """Copy VERSION of model NAME into an object store; by default, the one that is served here."""
    from brainscan.bundle.remote import RemoteBundles

    root = models_root()
    bundle = find_served(root, name) if version is None else root / name / str(version)
    new = RemoteBundles(url).push(bundle)
    click.echo(f"{name}/{bundle.name} {'is' if new else 'was already'} in {url}.")
