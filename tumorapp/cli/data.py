"""`flask data`: fetch the public data sets, look for what is wrong, show how scans are varied."""

from pathlib import Path

import click
from flask import current_app
from flask.cli import AppGroup

from brainscan import Message
from brainscan.scan import ScanError, ScanSpecification, read_scan
from tumorapp.cli.own_classes import own_classes_options

_PREVIEW_SIDE = 224  # document 000's

data_commands = AppGroup("data", help="Fetch data sets, audit them, and see how scans are varied.")


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
    from training.data.sources import SOURCES

    folder = fetch(name, into or Path(current_app.instance_path) / "data")
    source = SOURCES[name]
    click.echo(f"{source.title} is in {folder}. Licence: {source.licence}.")


@data_commands.command(
    "audit",
    epilog="""
\b
Examples:
  flask data audit instance/data/nickparvar
  flask data audit meine-bilder --class Gliom=glioma --tumor-free gesund
  flask data audit instance/data/sartaj instance/data/figshare \\
      --html instance/audit.html --manifest instance/scans.csv
""",
)
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--exclude", multiple=True, metavar="PATTERN", help="As in flask train.")
@own_classes_options
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page with thumbnails of what was found.",
)
@click.option(
    "--manifest",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a table of all scans as CSV, for you to edit and for flask train --manifest.",
)
def audit_command(
    folders: tuple[Path, ...],
    exclude: tuple[str, ...],
    html: Path | None,
    manifest: Path | None,
    tumor_free: str | None,  # noqa: ARG001  the decorator acts on it
) -> None:
    """Look for what is wrong with the scans of FOLDERS before a model is trained on them.

    Copies and leaks between Training and Testing, contradictions, suspected labels, CT among MR,
    files that cannot be read, and whether the set or the plane gives the class away.
    """
    from training.data.audit.findings import describe
    from training.data.audit.page import write_page
    from training.data.audit.run import audit_trees
    from training.data.folders import read_trees
    from training.data.manifest import write_manifest

    for path in filter(None, (html, manifest)):
        _check_folder(path)
    audit = audit_trees(read_trees(folders, exclude=exclude))
    for line in describe(audit):
        click.echo(line)
    if html:
        write_page(html, audit)
        click.echo(f"The page is {html}.")
    if manifest:
        write_manifest(manifest, audit.list_rows())
        click.echo(
            f"The manifest is {manifest}. It leaves out {len(audit.left_out):,} scans. Edit it, "
            "and pass it to flask train --manifest."
        )


@data_commands.command(
    "augment",
    epilog="""
\b
Examples:
  flask data augment instance/data/nickparvar/Training/glioma/Tr-gl_0010.jpg --preview sheet.png
""",
)
@click.argument("scan", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--preview",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The picture to write; its name ends in .png.",
)
def augment_command(scan: Path, preview: Path) -> None:
    """Draw the 21 variants of SCAN that training shows (document 000's recipe) as one picture.

    The scan is cropped and resized as for training first.
    """
    from PIL import Image

    from training.data.variants import draw_sheet

    if preview.suffix.lower() != ".png":
        raise click.ClickException(
            f"The preview is a PNG file. Received: {preview}. Pass a name that ends in .png."
        )
    _check_folder(preview)
    try:
        prepared = read_scan(scan.read_bytes(), ScanSpecification(_PREVIEW_SIDE))
    except ScanError as error:
        raise error.about(str(scan)) from error
    Image.fromarray(draw_sheet(prepared.pixels)).save(preview)
    if not prepared.found_head:
        click.echo(f"{scan}: {Message('no-head-outline')}", err=True)
    click.echo(f"The variants of {scan} are in {preview}")


def _check_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise click.ClickException(
            f"There is no folder {path.parent} to write {path.name} into. Make it first."
        )
