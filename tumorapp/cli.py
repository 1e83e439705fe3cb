"""The commands of `flask`: one module each, which imports what is heavy when the command runs."""

from flask import Flask

from tumorapp.cli_data import data_commands
from tumorapp.cli_predict import predict_command
from tumorapp.cli_train import train_command


def init_app(app: Flask) -> None:
    """Add the commands to an application."""
    for command in (data_commands, train_command, predict_command):
        app.cli.add_command(command)
