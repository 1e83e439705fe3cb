"""`flask keys`: make, list and remove the keys of the API."""

import re
from typing import TYPE_CHECKING

import click
from flask import current_app
from flask.cli import AppGroup

if TYPE_CHECKING:
    from tumorapp.keys import KeyFile

keys_commands = AppGroup("keys", help="Make, list and remove the keys of the API.")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@keys_commands.command("add")
@click.argument("name")
def add_command(name: str) -> None:
    """Make a key for NAME and show it; it cannot be shown again.

    A service with TUMORAPP_API_KEYS=on accepts it immediately. NAME says whose it is; the log and
    the rate limit use it.
    """
    if not _NAME.fullmatch(name):
        raise click.ClickException(
            f"{name!r} is not accepted. Give a name of at most 64 letters, digits, dots, dashes "
            "and underscores, a letter or digit first."
        )
    secret = _file().add(name)
    click.echo(secret)
    click.echo(
        "Store it safely: only its hash is kept here, so it cannot be shown again. Send it as\n"
        f"  Authorization: Bearer {secret[:12]}…",
        err=True,
    )
    if current_app.config["API_KEYS"] == "off":
        click.echo("The service does not ask for keys yet: TUMORAPP_API_KEYS is off.", err=True)


@keys_commands.command("list")
def list_command() -> None:
    """List the keys: names, and when they were made (UTC)."""
    keys = _file().read()
    if not keys:
        click.echo("There are no keys. `flask keys add NAME` makes one.")
        return
    width = max(map(len, keys))
    for name, key in keys.items():
        click.echo(f"{name:{width}}  {key.created}")


@keys_commands.command("remove")
@click.argument("name")
def remove_command(name: str) -> None:
    """Remove the key of NAME; the service refuses it from now on."""
    _file().remove(name)
    click.echo(f"Removed the key {name}.")


def _file() -> "KeyFile":
    from tumorapp.keys import KeyFile

    return KeyFile(current_app.config["KEYS_FILE"])
