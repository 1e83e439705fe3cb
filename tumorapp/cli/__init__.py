"""The commands of `flask`: one module each, which imports what is heavy when the command runs."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from tumorapp.cli.data import data_commands
from tumorapp.cli.models import models_commands
from tumorapp.cli.predict import predict_command
from tumorapp.cli.quantize import quantize_command
from tumorapp.cli.study import study_command
from tumorapp.cli.train import train_command
from tumorapp.feature import Feature


def _explain_missing_packages(command: click.Command) -> None:
    """Let a command, and those below it, say what to do where a package is not installed."""
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        _explain_missing_packages(inner)
    if command.callback is not None:
        command.callback = _explained(command.callback)
    for parameter in command.params:
        if parameter.callback is not None:
            parameter.callback = _explained(parameter.callback)


def _explained(callback: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(callback)
    def run(*arguments: Any, **options: Any) -> Any:
        try:
            return callback(*arguments, **options)
        except ModuleNotFoundError as error:
            raise click.ClickException(
                f"This command needs the packages of requirements.txt (missing: {error.name}). "
                "`make dev` installs them, and more, into .venv/dev: use .venv/dev/bin/flask."
            ) from error

    return run


models_commands.add_command(quantize_command)
_COMMANDS: tuple[click.Command, ...] = (
    data_commands,
    train_command,
    models_commands,
    predict_command,
    study_command,
)
for _command in _COMMANDS:
    _explain_missing_packages(_command)

FEATURE = Feature("commands", commands=_COMMANDS)
