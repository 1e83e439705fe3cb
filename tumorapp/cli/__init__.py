"""The commands of `flask`: one module each, which imports what is heavy when the command runs."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from tumorapp.cli.data import data_commands
from tumorapp.cli.deidentify import deidentify_command
from tumorapp.cli.evaluate import evaluate_command
from tumorapp.cli.import_model import import_command
from tumorapp.cli.jobs import jobs_commands
from tumorapp.cli.keys import keys_commands
from tumorapp.cli.models import models_commands
from tumorapp.cli.pacs import dicom_commands, dicomweb_commands
from tumorapp.cli.predict import predict_command
from tumorapp.cli.quantize import quantize_command
from tumorapp.cli.remote import pull_command, push_command
from tumorapp.cli.study import study_command
from tumorapp.cli.train import train_command
from tumorapp.cli.tune import tune_command
from tumorapp.feature import Feature

_OUR_PACKAGES = ("brainscan", "training", "tumorapp")


def _explain_errors(command: click.Command) -> None:
    """Let a command, and those below it, end with a message where a person can act on it."""
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        _explain_errors(inner)
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
        except Exception as error:
            ours = type(error).__module__.partition(".")[0] in _OUR_PACKAGES
            if ours or isinstance(error, ValueError):
                raise click.ClickException(str(error)) from error
            if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
                raise click.ClickException(
                    f"{error}. Make room or change the folder, then run the same command again."
                ) from error
            raise

    return run


for _command in (import_command, quantize_command, pull_command, push_command):
    models_commands.add_command(_command)
_COMMANDS: tuple[click.Command, ...] = (
    data_commands,
    train_command,
    tune_command,
    models_commands,
    predict_command,
    evaluate_command,
    deidentify_command,
    study_command,
    keys_commands,
    jobs_commands,
    dicomweb_commands,
    dicom_commands,
)
for _command in _COMMANDS:
    _explain_errors(_command)

FEATURE = Feature("commands", commands=_COMMANDS)
