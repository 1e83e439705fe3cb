"""A real gunicorn for the tests that need one."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

PROJECT = Path(__file__).parents[2]
SECONDS_TO_START = 60


@dataclass(frozen=True)
class Service:
    """A running gunicorn: where it answers, and what it writes."""

    process: subprocess.Popen[bytes]
    url: str
    output: Path
    errors: Path

    def ask(
        self, path: str, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> requests.Response:
        """Get a path, or post bytes to it, on a connection of its own."""
        method = "GET" if data is None else "POST"
        return requests.request(method, self.url + path, data=data, headers=headers, timeout=30)

    def workers(self) -> list[int]:
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        return [int(number) for number in Path(children).read_text().split()]


Serve = Callable[..., AbstractContextManager[Service]]


@contextlib.contextmanager
def _serve(models: Path, folder: Path, **variables: str) -> Iterator[Service]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {"HOST": "127.0.0.1", "PORT": str(port), "TUMORAPP_MODELS_DIR": str(models)}
    output, errors = folder / "output.log", folder / "errors.log"
    with output.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py", "wsgi:app"],
            cwd=PROJECT,
            env={**os.environ, **own, **variables},
            stdout=out,
            stderr=err,
        )
    service = Service(process, f"http://127.0.0.1:{port}", output, errors)
    try:
        _wait_until_it_answers(service)
        yield service
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _wait_until_it_answers(service: Service) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and service.process.poll() is None:
        try:
            service.ask("/healthz")
        except requests.ConnectionError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"gunicorn did not answer: {service.errors.read_text()}")


@pytest.fixture(scope="session")
def serve() -> Serve:
    """Run gunicorn: `with serve(models, folder_for_its_logs, WEB_CONCURRENCY="2") as service:`."""
    return _serve
