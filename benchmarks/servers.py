"""Starts the servers that the benchmarks load, and measures them from outside."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SECONDS_TO_START = 120


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        port: of 127.0.0.1.
        process: id of its first process, which leads a process group.
        seconds: from its start until it was ready.
    """

    port: int
    process: int
    seconds: float

    def rest(self) -> None:
        """Pause all its processes, so that they do not disturb the server under load."""
        os.killpg(self.process, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let them continue."""
        os.killpg(self.process, signal.SIGCONT)


def find_port() -> int:
    """Find a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextlib.contextmanager
def run_tumorapp(settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Start this project's own server, as `make run` does, until every model is loaded."""
    port = find_port()
    command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
    address = {"HOST": "127.0.0.1", "PORT": str(port)}
    with run_server(command, port, "/readyz", {**address, **(settings or {})}) as server:
        yield server


@contextlib.contextmanager
def run_server(
    command: Sequence[str], port: int, path: str, settings: Mapping[str, str]
) -> Iterator[Server]:
    """Start a server; it is ready when `path` is answered with 200, 404 or 405."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        env={**os.environ, **settings},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not is_ready(port, path):
            if process.poll() is not None or time.perf_counter() - start > _SECONDS_TO_START:
                raise SystemExit(f"This server did not start: {' '.join(command)}")
            time.sleep(0.01)
        yield Server(port, process.pid, time.perf_counter() - start)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGCONT)
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def is_ready(port: int, path: str = "/readyz") -> bool:
    """Tell whether a server answers a GET, which it does once its models are loaded."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status in {200, 404, 405}
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def measure_memory(parent: int) -> float:
    """Give the resident memory, in MB, of the largest child of a process."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    pages = [int(Path(f"/proc/{child}/statm").read_text().split()[1]) for child in children]
    return max(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6
