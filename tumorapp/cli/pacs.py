"""`flask dicomweb` and `flask dicom`: answer the head MR series of a PACS."""

import logging
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from flask import current_app
from flask.cli import AppGroup
from flask.logging import default_handler

from brainscan.files import lock
from tumorapp.catalog import get_catalog
from tumorapp.config import ROOT
from tumorapp.logs import choose_formatter

if TYPE_CHECKING:
    from tumorapp.pacs.worker import State, Store, Worker

T = TypeVar("T", bound=Any)

dicomweb_commands = AppGroup("dicomweb", help="Answer the head MR series of a DICOMweb server.")
dicom_commands = AppGroup("dicom", help="Answer the head MR series that a PACS sends (C-STORE).")

_state_option = click.option(
    "--state",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / "instance" / "pacs",
    show_default="instance/pacs",
    help="The folder that keeps what was answered and what failed.",
)
_model_option = click.option(
    "--model", metavar="NAME", help="The model that answers; else the default one."
)


@dicomweb_commands.command("watch")
@click.option(
    "--url",
    envvar="TUMORAPP_DICOMWEB_URL",
    required=True,
    help="The server's address, such as http://USER:PASSWORD@127.0.0.1:8042/dicom-web. Better set "
    "TUMORAPP_DICOMWEB_URL: others on the machine can see a command line.",
)
@click.option(
    "--changes",
    metavar="URL",
    help="Orthanc's own address: new studies are taken from its feed of changes, not by QIDO.",
)
@click.option("--store", is_flag=True, help="Store the answers (STOW); else they are only logged.")
@click.option(
    "--since", type=click.DateTime(["%Y-%m-%d"]), help="Only studies of this day and later."
)
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=30,
    show_default=True,
    help="Seconds between looks.",
)
@click.option(
    "--once", is_flag=True, help="Answer what is there now, and what has failed before, and end."
)
@_model_option
@_state_option
def watch_command(
    url: str,
    changes: str | None,
    store: bool,
    since: datetime | None,
    every: float,
    once: bool,
    model: str | None,
    folder: Path,
) -> None:
    """Answer the head MR series of a DICOMweb server, each once by each version of the model.

    A report, and where a tumour is found its segmentation and a picture, are stored in the study.
    """
    from tumorapp.pacs.dicomweb import Changes, Search, Server

    server = _close_at_end(Server(url))
    day = since.date() if since else None
    worker = _make_worker(folder, model, server.store if store else None)
    source = (
        Changes(server, changes, day, worker.state)
        if changes
        else Search(server, day, at_once=once)
    )
    if not once:
        worker.run(source, every)
    if failed := worker.run_once(source):
        raise click.ClickException(f"Studies that failed: {failed}; see above.")


@dicom_commands.command("listen")
@click.option("--port", type=click.IntRange(1, 65535), default=11112, show_default=True)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="The address; 0.0.0.0 for all."
)
@click.option("--aet", default="TUMORAPP", show_default=True, help="The AE title of this node.")
@click.option(
    "--store-url",
    envvar="TUMORAPP_DICOMWEB_URL",
    help="Store the answers at this address (STOW); else, unless they are sent, they are written "
    "into the folder answers next to the state.",
)
@click.option("--send", metavar="AET@HOST:PORT", help="Send them to this node instead (C-STORE).")
@click.option(
    "--quiet",
    type=click.FloatRange(min=0.1),
    default=60,
    show_default=True,
    help="Seconds without a new file after which a study is complete.",
)
@_model_option
@_state_option
def listen_command(
    port: int,
    host: str,
    aet: str,
    store_url: str | None,
    send: str | None,
    quiet: float,
    model: str | None,
    folder: Path,
) -> None:
    """Be a destination of a PACS: answer the head MR series that are sent to it.

    What is received is kept on the disk until it is answered.
    """
    from tumorapp.pacs.cstore import Destination, Folder, Spool, listen
    from tumorapp.pacs.dicomweb import Server

    store: Store = Folder(folder / "answers").store
    if send:
        store = Destination.read(send, aet).store
    elif store_url:
        store = _close_at_end(Server(store_url)).store
    worker = _make_worker(folder, model, store)
    spool = Spool(folder / "received", quiet)
    with listen(spool, aet, host, port):
        click.echo(f"{aet} listens at {host}:{port}.", err=True)
        worker.run(spool, min(quiet, 5))


@click.command("failures")
@_state_option
def failures_command(folder: Path) -> None:
    """List the studies that failed, and when they are tried again.

    A study is named by the first 16 digits of its UID's SHA-256: printf %s UID | sha256sum
    """
    for failure in _open_state(folder).list_failures():
        due = datetime.fromtimestamp(failure.due, UTC).astimezone()
        click.echo(
            f"{failure.study}  {failure.model}  {failure.code}  attempts: {failure.attempts}  "
            f"again at {due:%Y-%m-%d %H:%M:%S %z}"
        )


dicomweb_commands.add_command(failures_command)
dicom_commands.add_command(failures_command)


def _make_worker(folder: Path, model: str | None, store: "Store | None") -> "Worker":
    """Make a worker that logs, and records predictions, as the service does."""
    from tumorapp.pacs.worker import State, Worker

    default_handler.setFormatter(choose_formatter(current_app.config["LOG_FORMAT"]))
    current_app.logger.setLevel(logging.INFO)
    for name in ("reload", "audit"):
        start = current_app.extensions["features"][name].start
        start(current_app._get_current_object())  # type: ignore[attr-defined]
    catalog, max_pixels = get_catalog(), current_app.config["MAX_PIXELS"]
    catalog.get(model)
    state = _open_state(folder) if store else _close_at_end(State(None))
    if store:
        click.get_current_context().with_resource(lock(folder / "lock", wait=False))
    return Worker(lambda: catalog.get(model), state, store, max_pixels)


def _open_state(folder: Path) -> "State":
    from tumorapp.pacs.worker import State

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return _close_at_end(State(folder / "state.db"))


def _close_at_end(resource: T) -> T:
    return click.get_current_context().with_resource(closing(resource))
