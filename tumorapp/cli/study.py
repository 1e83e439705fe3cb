"""`flask study`: the source documents' models, trained and compared with the printed figures."""

import shlex
import sys
from pathlib import Path

import click
from flask import current_app

from brainscan.bundle.protocols import PROTOCOLS
from brainscan.bundle.study import BUDGETS, Budget, read_study
from tumorapp.cli.backend import Weights, check_backend, stoppable
from tumorapp.cli.cluster import find_workers, ray_option
from tumorapp.cli.installed import lay_out

STUDIES = ("000", "001", "002", "004", "beyond", "all")
_EXAMPLES = """
\b
Examples:
  flask study --list
  flask study 000 --budget full --only 'ann-*' --protocol variants-75-25
  flask study 000 --only 'cnn-1-conv-*'
  flask study 002 --only '*mobilenet-v2*' --weights instance/weights
  flask study 001 --budget full --protocol grouped
  KERAS_BACKEND=jax flask study all --budget full
  flask study all --budget full --ray 10.0.0.1:6379
  flask study all --tables-only
"""


@click.command("study", epilog=_EXAMPLES)
@click.argument("document", type=click.Choice(STUDIES), required=False)
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
    default="reduced",
    show_default=True,
    help="full: the document's own settings; unvaried: those without variants of scans; reduced: "
    "128 px and 25 epochs at most; own: the architecture's own recipe, as flask train has it.",
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
    type=Weights(exists=True, file_okay=False),
    default="imagenet",
    show_default=True,
    metavar="imagenet|none|FOLDER",
    help="What pretrained networks start from; a folder is searched for each network's own file.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "mixed_bfloat16"]),
    default="float32",
    show_default=True,
    help="What to compute in; a budget of own chooses itself. On a CPU with AMX, mixed_bfloat16 "
    "trains plain CNNs up to three times as fast, but EfficientNet-Lite0 more slowly.",
)
@ray_option
@click.option("--fresh", is_flag=True, help="Also train finished rows again.")
@click.option("--tables-only", is_flag=True, help="Train nothing, only write the tables.")
@click.option(
    "--list",
    "listed",
    is_flag=True,
    help="Train nothing, only list the rows of DOCUMENT, or of all, and what was measured of them.",
)
def study_command(
    document: str | None,
    data: tuple[Path, ...],
    budget: Budget,
    only: tuple[str, ...],
    protocol: str | None,
    weights: str,
    precision: str,
    cluster: str | None,
    fresh: bool,
    tables_only: bool,
    listed: bool,
) -> None:
    """Train every row of DOCUMENT's tables that has no result yet, and compare.

    Each finished row is kept immediately, with its report, and the tables are written again.
    The same command continues where it was stopped. A row that cannot be trained does not stop the
    others; it is listed at the end, with the reason.
    """
    study = Path(current_app.config["STUDY_DIR"])
    if listed:
        click.echo(_list_rows(document or "all", only, study))
        return
    if document is None:
        raise click.UsageError(
            f"Missing argument 'DOCUMENT'. Choose from {', '.join(STUDIES)}; --list lists their "
            "rows."
        )
    check_backend()
    from training.study.plan import Plan
    from training.study.rows import choose_rows
    from training.study.run import run_study
    from training.study.table import write_tables

    if tables_only:
        for problem in read_study(study).problems:
            click.echo(f"{study}/{problem}. The row counts as not trained.", err=True)
        write_tables(study)
        click.echo(f"Tables: {study / 'README.md'}")
        return
    plans = [
        Plan(
            row,
            budget,
            Path(current_app.instance_path),
            study,
            data=data,
            protocol=protocol or "",
            weights=weights,
            precision=precision,
            fresh=fresh,
            command=shlex.join(["flask", *sys.argv[1:]]),
        )
        for row in choose_rows(document, only)
    ]
    with (
        find_workers(cluster) as workers,
        stoppable("Finished rows are kept; the same command continues."),
    ):
        failures = run_study(plans, study, click.echo, workers)
    click.echo(f"Tables: {study / 'README.md'}")
    if failures:
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in failures.items())
        raise click.ClickException(f"{len(failures)} of {len(plans)} rows were not run:{reasons}")


def _list_rows(document: str, only: tuple[str, ...], study: Path) -> str:
    """Lay out a line for each row: its identifier, its name, and its accuracy there and here."""
    from training.study.rows import choose_rows
    from training.study.table import results_of

    found = read_study(study).results
    rows = [
        (
            row.slug,
            row.name,
            "" if row.published.accuracy is None else f"{row.published.accuracy:.4f}",
            ", ".join(
                f"{one.argmax_accuracy:.4f} ({one.budget}, {one.measurement.protocol})"
                for one in results_of(row, found)
            ),
        )
        for row in choose_rows(document, only)
    ]
    return lay_out([("row", "name", "published", "measured here"), *rows], numbers=(2,))
