"""The real servers that tests start: gunicorn, Redis, and one in this process."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIApplication

import pytest
import requests
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from werkzeug.serving import make_server

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

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str, bytes]:
        """Send any request on a connection of its own; give status, content type and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.headers.get_content_type(), response.read()

    def predict(self, data: bytes, query: str = "") -> tuple[int, dict[str, Any]]:
        answer = self.ask(f"/api/predict?{query}", data, {"Content-Type": "image/jpeg"})
        return answer.status_code, answer.json()

    def connect(self, sent: bytes) -> socket.socket:
        """Open a connection, and send bytes as they are."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        connection.sendall(sent)
        return connection

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        return self.output.read_text() + self.errors.read_text()

    def workers(self) -> list[int]:
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        return [int(number) for number in Path(children).read_text().split()]


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def run_gunicorn(
    models: Path, folder: Path, config: str = "gunicorn.conf.py", **variables: str
) -> Iterator[Service]:
    """Run gunicorn on a folder of models; its logs go to another folder."""
    port = find_port()
    own = {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "WEB_CONCURRENCY": "1",  # the tests of several say so
        "TUMORAPP_MODELS_DIR": str(models),
        "TUMORAPP_JOBS_DIR": str(folder / "jobs"),
    }
    output, errors = folder / "output.log", folder / "errors.log"
    with output.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--config", config, "wsgi:app"],
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


def write_config(folder: Path, module: str, **constants: float) -> str:
    """Write a configuration of gunicorn whose workers have other constants in a module."""
    lines = (
        f"exec(open({str(PROJECT / 'gunicorn.conf.py')!r}).read())",
        "begin = post_fork",
        "def post_fork(server, worker):",
        "    begin(server, worker)",
        f"    import {module} as changed",
        *(f"    changed.{name} = {value}" for name, value in constants.items()),
    )
    (folder / "changed.conf.py").write_text("\n".join(lines))
    return str(folder / "changed.conf.py")


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


@dataclass
class RedisServer:
    """A redis-server, which keeps what it was told where it is killed and started again."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = ["--port", str(self.port), "--dir", str(self.folder)]
        options += ["--appendfsync", "always"]  # else a busy disk may lose its last two seconds
        command = ["redis-server", str(PROJECT / "deploy" / "redis.conf"), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        client = Redis.from_url(self.url, retry=Retry(ConstantBackoff(0.05), 200))
        with client:  # it may still be loading
            client.ping()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def serve_here(app: WSGIApplication) -> Iterator[str]:
    """Serve an application from a thread of this process."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
