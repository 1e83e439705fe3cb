"""`flask models quantize`: a faster int8 graph next to a model's own."""

from pathlib import Path

import click
from flask import current_app
from flask.cli import with_appcontext

from brainscan.bundle import read_bundle
from tumorapp.cli.configuration_file import config_option
from tumorapp.cli.installed import describe_change, find_served
from tumorapp.cli.own_classes import own_classes_options
from tumorapp.cli.remote import publishing_root
from tumorapp.cli.train import train_command


@click.command(
    "quantize",
    epilog="""
\b
Examples:
  flask models quantize binary-cnn --data instance/data/nickparvar --data instance/data/sartaj \\
      --data instance/data/figshare --data instance/data/preetviradiya
  flask models quantize lesion-lite0 --config docs/models.yaml
""",
)
@click.argument("name")
@click.option(
    "--data",
    multiple=True,
    type=click.Path(path_type=Path),
    help="As in the command that trained it, which its card holds.",
)
@click.option("--exclude", multiple=True, metavar="PATTERN", help="As in that command.")
@config_option(ignored=train_command.params)
@own_classes_options
@with_appcontext
def quantize_command(
    name: str,
    data: tuple[Path, ...],
    exclude: tuple[str, ...],
    tumor_free: str | None,  # noqa: ARG001  the decorator acts on it
) -> None:
    """Give the version of model NAME that is served an int8 graph, and publish both as a new one.

    The graph is made with scans of the training part. It is published only where, on the validation
    part, its accuracy is within 0.2 points of the other's and a scan's probabilities differ by at
    most 0.005 on average; and where, on the test part, its accuracy is again within 0.2 points and
    it is faster.
    """
    if not data:
        raise click.UsageError("Missing option '--data' or '--config'.")
    root = publishing_root()
    served = find_served(root, name)
    from training.quantize import quantize_bundle

    cache = Path(current_app.instance_path) / "cache"
    bundle = quantize_bundle(served, data, cache, exclude, tell=click.echo)
    graphs = read_bundle(bundle).graphs
    for precision in ("fp16", "int8"):
        found = getattr(graphs, precision)
        right = "" if found.accuracy is None else f"accuracy {found.accuracy:.4f}, "
        click.echo(f"{precision}: {right}{found.milliseconds:.2f} ms of processor time a scan.")
    click.echo(f"Published {bundle}. {describe_change(bundle)}")
