"""Keras and its backend, loaded without what TensorFlow writes of processors and drivers."""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"  # TensorFlow's: 0 shows all of its log, 3 hardly any
_STDERR = 2


def load_backend() -> None:
    """Import Keras; whoever has set `TF_CPP_MIN_LOG_LEVEL` gets the log that it asks for.

    TensorFlow heeds it only once it is loaded, and has written six lines by then.
    """
    if _LEVEL in os.environ:
        importlib.import_module("keras")
        return
    os.environ[_LEVEL] = "3"
    with _silenced_stderr():
        importlib.import_module("keras")


@contextmanager
def _silenced_stderr() -> Iterator[None]:
    """Discard what is written to the standard error, also by what is no Python."""
    kept = os.dup(_STDERR)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), _STDERR)
        yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)
