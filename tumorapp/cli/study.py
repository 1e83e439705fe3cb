"""`flask study`: trains the models of the source documents; compares them with printed figures."""

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import click
from flask import current_app

from brainscan.bundle.study import BUDGETS, Budget, read_study
from tumorapp.cli.backend import check_backend
from tumorapp.cli.train import PROTOCOLS

STUDIES = ("000", "001", "002", "004", "beyond", "all")
_EXAMPLES = """
\b
Examples:
  flask study 000 --budget quick
  flask study 000 --only 'cnn-1-conv-*'
  flask study 002 --only '*mobilenet-v2*' --weights instance/weights
  flask study 001 --budget full --protocol grouped
  KERAS_BACKEND=jax flask study all --budget full
  flask study all --tables-only
"""


@click.command("study", epilog=_EXAMPLES)
@click.argument("document", type=click.Choice(STUDIES))
@click.option(
    "--data",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Folder with a subfolder for each class; may be given more than once to merge sets.  "
    "[default: the document's own set below instance/data, as flask data fetch lays it out]",
)
@click.option(
    "--budget",
    type=click.Choice(BUDGETS),
    default="quick",
    show_default=True,
    help="full: the document's own settings; quick: 64 or 96 px and few epochs, labelled so; "
    "own: the architecture's own recipe, as flask train has it.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="PATTERN",
    help="Rows whose model, name, or identifier matches, such as 'cnn-1-conv-*' or '*frozen*'.",
)
@click.option(
    "--protocol",
    type=click.Choice(PROTOCOLS),
    help="How scans are divided; gives rows of its own, next to those of the document's protocol.  "
    "[default: the document's]",
)
@click.option(
    "--weights",
    default="imagenet",
    show_default=True,
    metavar="imagenet|none|FOLDER",
    help="What pretrained networks start from; a folder is searched for each network's own file.",
)
@click.option("--fresh", is_flag=True, help="Train finished rows again, too.")
@click.option("--tables-only", is_flag=True, help="Train nothing, only write the tables.")
def study_command(
    document: str,
    data: tuple[Path, ...],
    budget: str,
    only: tuple[str, ...],
    protocol: str | None,
    weights: str,
    fresh: bool,
    tables_only: bool,
) -> None:
    """Train every row of DOCUMENT's tables that has no result yet, and compare.

    Each row that is finished is kept at once, with its report, and the tables are written again.
    Stopped at any moment, the same command resumes where it was. A row that cannot be trained does
    not stop the others: the end lists it, with the reason.
    """
    check_backend()
    from training.study.plan import Plan
    from training.study.rows import choose_rows
    from training.study.run import run_study
    from training.study.table import write_tables

    study = Path(current_app.config["STUDY_DIR"])
    try:
        if tables_only:
            for problem in read_study(study).problems:
                click.echo(f"{study}/{problem}. The row counts as not trained.", err=True)
            write_tables(study)
            click.echo(f"Tables: {study / 'README.md'}")
            return
        _check_weights(weights)
        plans = [
            Plan(
                row,
                cast(Budget, budget),  # click.Choice allows no other
                Path(current_app.instance_path),
                study,
                data=data,
                protocol=protocol or "",
                weights=weights,
                fresh=fresh,
                command=shlex.join(["flask", *sys.argv[1:]]),
            )
            for row in choose_rows(document, only)
        ]
        with _terminated_like_interrupted():
            failures = run_study(plans, study, click.echo)
    except KeyboardInterrupt:
        click.echo("\nStopped. Finished rows are kept; the same command resumes.", err=True)
        sys.exit(128 + signal.SIGINT)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(
            f"{error}. Finished rows are kept. Make room or change the folder, then run the same "
            "command again."
        ) from error
    click.echo(f"Tables: {study / 'README.md'}")
    if failures:
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in failures.items())
        raise click.ClickException(f"{len(failures)} of {len(plans)} rows were not run:{reasons}")


def _check_weights(weights: str) -> None:
    if weights not in ("imagenet", "none") and not Path(weights).is_dir():
        raise click.ClickException(
            f"There is no weights folder {weights}. Pass --weights imagenet, none, or a folder "
            "that holds a file for each pretrained network."
        )


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let `kill` and `docker stop` end a study as Ctrl-C does, the process of its row included."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
