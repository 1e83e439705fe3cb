"""Loads the bundles as the service starts, and what is published or chosen while it runs.

Each worker looks for itself, in a thread of its own: a look costs the sizes and times of the
bundles' files, or a few requests to an object store, and needs neither a signal nor a process that
knows of the others. A request never waits for it.
"""

import logging
import threading
import weakref

from flask import Flask

from tumorapp.catalog import Catalog
from tumorapp.feature import Feature

logger = logging.getLogger(__name__)

_SECONDS = 2  # between two looks
_STORE_SECONDS = 30  # where each look costs requests to an object store
_SECONDS_TO_END = 10


def watch(catalog: Catalog, seconds: float, *, at_once: bool = False) -> None:
    """Let a catalog look for changes every so many seconds, as long as it exists."""
    ended = threading.Event()
    held = weakref.ref(catalog)
    thread = threading.Thread(
        target=_look_again, args=(held, seconds, ended, at_once), name="reload", daemon=True
    )
    # Also called at the exit: a runtime must not be taken down while a thread is using it.
    weakref.finalize(catalog, _end, thread, ended)
    thread.start()


def _look_again(
    held: weakref.ref[Catalog], seconds: float, ended: threading.Event, at_once: bool
) -> None:
    while not ended.wait(0 if at_once else seconds):
        at_once = False
        catalog = held()
        if catalog is None:
            return
        try:
            catalog.refresh()
        except Exception:  # a later look may succeed, and what is served goes on
            logger.exception("The bundles could not be looked through.")
        del catalog  # while it waits, the application may go


def _end(thread: threading.Thread, ended: threading.Event) -> None:
    ended.set()
    if thread is not threading.current_thread():
        thread.join(_SECONDS_TO_END)  # longer, it can only be waiting for a store


def _start(app: Flask) -> None:
    catalog: Catalog = app.extensions["catalog"]
    # A store may be slow, and gunicorn kills a worker that takes a minute to start.
    catalog.load(follow=False)
    remote = bool(app.config["MODELS_URL"])
    watch(catalog, _STORE_SECONDS if remote else _SECONDS, at_once=remote)


FEATURE = Feature("reload", start=_start)
