"""`--class NAME=CLASS` and `--tumor-free NAME`: what the names of a person's folders mean."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

_NONE = "none"


def _read(
    _context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    """Read `Gliom=glioma` into name and class."""
    found = {}
    for text in given:
        name, _, label = (part.strip() for part in text.partition("="))
        if not name or not label or "=" in label:
            raise click.BadParameter(f"{text!r} is not a folder and its class, as Gliom=glioma is.")
        found[name] = label
    return found


def join_names(classes_of: dict[str, str], tumor_free: str | None) -> dict[str, str]:
    """Give what names mean by both options, as `training.data.sources.own_classes` takes it."""
    healthy = {tumor_free: "notumor"} if tumor_free and tumor_free != _NONE else {}
    return classes_of | healthy


def own_classes_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add both options to a command, and let its folders have the names that they give.

    The command gets `tumor_free`: the name, "none", or None.
    """

    @wraps(command)
    def run(*arguments: Any, classes_of: dict[str, str], **options: Any) -> Any:
        from training.data.sources import own_classes

        with own_classes(join_names(classes_of, options["tumor_free"])):
            return command(*arguments, **options)

    for option in (
        click.option(
            "--tumor-free",
            metavar="NAME",
            help="The folder or class without a tumour: short for --class NAME=notumor. none says "
            "that each class is a tumour.",
        ),
        click.option(
            "--class",
            "classes_of",
            multiple=True,
            callback=_read,
            metavar="NAME=CLASS",
            help="What a folder's name means, such as Gliom=glioma; repeat the option for more.",
        ),
    ):
        run = option(run)
    return run
