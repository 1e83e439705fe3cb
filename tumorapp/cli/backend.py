"""What the commands that train share: Keras and its backend, weights, and being stopped."""

import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"  # TensorFlow's: 0 shows all of its log, 3 hardly any
_STDERR = 2

_BACKENDS = ("tensorflow", "jax", "torch")


def check_backend() -> None:
    """Refuse a backend that Keras would fail to load with a traceback."""
    backend = os.environ.get("KERAS_BACKEND")
    if backend and backend not in _BACKENDS:
        raise click.ClickException(
            f"KERAS_BACKEND is {backend!r}. Set it to {', '.join(_BACKENDS[:-1])} or "
            f"{_BACKENDS[-1]}, or unset it."
        )
    if backend and importlib.util.find_spec(backend) is None:
        raise click.ClickException(
            f"KERAS_BACKEND is {backend!r}, which is not installed. Install it, or unset "
            "KERAS_BACKEND."
        )


def load_backend() -> None:
    """Import Keras without TensorFlow's log, unless `TF_CPP_MIN_LOG_LEVEL` asks for it.

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
    """Discard what is written to the standard error, also by code that is not Python."""
    kept = os.dup(_STDERR)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), _STDERR)
        yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)


class Weights(click.Path):
    """What a pretrained network starts from: "imagenet", "none", or a path."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Take a named start as it is, and check anything else as a path."""
        return value if value in ("imagenet", "none") else super().convert(value, param, ctx)


@contextmanager
def stoppable(advice: str) -> Iterator[None]:
    """Let Ctrl-C, `kill` and `docker stop` end a command, and say how to go on."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\nStopped. {advice}", err=True)
        sys.exit(128 + signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)
