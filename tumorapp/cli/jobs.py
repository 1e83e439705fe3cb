"""`flask jobs`: erase old jobs while no service runs."""

import sqlite3
from typing import TYPE_CHECKING

import click
from flask import current_app
from flask.cli import AppGroup

if TYPE_CHECKING:
    from tumorapp.jobs.runner import Jobs

jobs_commands = AppGroup("jobs", help="Erase old jobs of the API.")


@jobs_commands.command("clean-up")
def clean_up_command() -> None:
    """Erase jobs older than TUMORAPP_JOB_HOURS, as a running service does every minute."""
    from tumorapp.jobs.runner import MOST_KEPT

    jobs: Jobs | None = current_app.extensions.get("jobs")
    if jobs is None:
        raise click.ClickException("There are no jobs: TUMORAPP_JOBS is off. Set it to on.")
    try:
        jobs.store.sweep(MOST_KEPT)
    except (OSError, sqlite3.Error) as error:
        raise click.ClickException(
            f"The jobs in {jobs.store.place} cannot be reached: {str(error).rstrip('.')}. "
            "Run the same command again once they can."
        ) from error
