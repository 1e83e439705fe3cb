"""`flask models`: what can be trained."""

import gc
from fnmatch import fnmatchcase

import click
from flask.cli import AppGroup
from tqdm import tqdm

models_commands = AppGroup("models", help="Look at models.")

_HEADER = ("name", "parameters", "size", "document", "pretrained", "summary")


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
    size, in pixels, counted by building each. Pretrained ones take --weights in flask train.
    """
    from training.models import Architecture, architectures

    def describe(one: Architecture) -> tuple[str, ...]:
        network = one.build(one.size, 2 if one.binary else 4, None)
        pretrained = "yes" if one.pretrained else "no"
        parameters = f"{network.count_params():,}"
        del network
        gc.collect()  # the largest takes 0.8 GB, and a model refers to itself
        return one.name, parameters, str(one.size), one.document, pretrained, one.summary

    known = architectures()
    chosen = [one for name, one in known.items() if fnmatchcase(name, pattern)]
    if not chosen:
        raise click.ClickException(
            f"No architecture's name matches {pattern!r}. Known ones: {', '.join(known)}."
        )
    progress = tqdm(chosen, desc="Building", unit="model", leave=False)
    rows = [_HEADER, *map(describe, progress)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, parameters, *others in rows:
        cells = [name.ljust(widths[0]), parameters.rjust(widths[1])]
        cells += [cell.ljust(width) for cell, width in zip(others, widths[2:], strict=True)]
        click.echo("  ".join(cells).rstrip())
