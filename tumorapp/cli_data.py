"""`flask data`: fetch the public data sets and look for what is wrong with a folder of scans."""

from pathlib import Path

import click
from flask import current_app
from flask.cli import AppGroup

data_commands = AppGroup("data", help="Fetch data sets and audit them.")


@data_commands.command(
    "fetch",
    epilog="""
\b
Examples:
  flask data fetch nickparvar
  flask data fetch figshare --into /data/scans
""",
)
@click.argument("name")
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    help="Folder that takes the data set's own folder.  [default: instance/data]",
)
def fetch_command(name: str, into: Path | None) -> None:
    """Download data set NAME: sartaj, nickparvar, preetviradiya, br35h or figshare."""
    from training.data.fetch import fetch
    from training.data.sources import DataError

    try:
        folder = fetch(name, into or Path(current_app.instance_path) / "data")
    except DataError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{name} is in {folder}")


@data_commands.command(
    "audit",
    epilog="""
\b
Examples:
  flask data audit instance/data/nickparvar
  flask data audit instance/data/sartaj instance/data/figshare
""",
)
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--exclude", multiple=True, metavar="PATTERN", help="As in flask train.")
def audit_command(folders: tuple[Path, ...], exclude: tuple[str, ...]) -> None:
    """Count classes, near-duplicates, leaks between Training and Testing, and contradictions."""
    from training.data.dataset import describe_problems, load_dataset
    from training.data.sources import DataError
    from training.scan import ScanSpecification

    try:
        dataset = load_dataset(
            folders,
            ScanSpecification(size=96),
            Path(current_app.instance_path) / "cache",
            binary=False,
            exclude=exclude,
        )
    except DataError as error:
        raise click.ClickException(str(error)) from error
    for line in describe_problems(dataset):
        click.echo(line)
