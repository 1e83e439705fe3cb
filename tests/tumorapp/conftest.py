"""A real gunicorn, Redis and browser for the tests that need one."""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIApplication

import pytest
import requests
from click.testing import Result
from flask import Flask
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from werkzeug.serving import make_server

from tumorapp import create_app

PROJECT = Path(__file__).parents[2]
SECONDS_TO_START = 60

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)

FORGET = """async () => {
  localStorage.clear();
  sessionStorage.clear();
  for (const { name } of await indexedDB.databases()) indexedDB.deleteDatabase(name);
}"""

Page = Any  # playwright is not there wherever this file is read


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


Serve = Callable[..., AbstractContextManager[Service]]


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _serve(
    models: Path, folder: Path, config: str = "gunicorn.conf.py", **variables: str
) -> Iterator[Service]:
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


@pytest.fixture(scope="session")
def service(
    tmp_path_factory: pytest.TempPathFactory, publish_model: Callable[..., Path]
) -> Iterator[Service]:
    """A gunicorn with `binary-cnn` and `mobilenet-v2`; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("service")
    for name in ("binary-cnn", "mobilenet-v2"):
        publish_model(folder / "models", name)
    with _serve(folder / "models", folder) as running:
        yield running


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
        command = ["redis-server", str(PROJECT / "deploy" / "redis.conf"), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        client = Redis.from_url(self.url, retry=Retry(ConstantBackoff(0.05), 200))
        with client:  # it may still be loading
            client.ping()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server")
    server = RedisServer(tmp_path_factory.mktemp("redis"), find_port())
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[RedisServer]:
    """A redis-server that knows nothing yet."""
    yield redis_server
    if redis_server.process.poll() is not None:  # a test that killed it has failed
        redis_server.start()
    with Redis.from_url(redis_server.url) as client:
        client.flushall()


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    """Run a command of `flask` in this process, where nothing is published yet."""
    app = create_app({"MODELS_DIR": tmp_path / "models", "STUDY_DIR": tmp_path / "study"})
    app.instance_path = str(tmp_path / "instance")

    def run(*arguments: object) -> Result:
        with app.app_context():
            return app.test_cli_runner().invoke(args=[str(one) for one in arguments])

    return run


@pytest.fixture(scope="module")
def address(app: Flask) -> Iterator[str]:
    with serve_here(app) as address:
        yield f"{address}/"


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


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed: pip install playwright"
    )
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=list(BROWSER_OPTIONS))
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What the browser complains of, which fails the test."""
    found: list[str] = []
    yield found
    # The page tells the visitor that a request was refused or did not get through: not a fault.
    assert [text for text in found if not text.startswith("Failed to load resource")] == []


def listen(page: Page, complaints: list[str]) -> Page:
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    return page


@pytest.fixture
def open_page(browser: Any, address: str, complaints: list[str]) -> Iterator[Callable[..., Page]]:
    """Open the page in a context of its own."""
    with contextlib.ExitStack() as stack:

        def open_page(path: str = "", **options: Any) -> Page:
            context = stack.enter_context(browser.new_context(**options))
            context.set_default_timeout(10_000)
            page = listen(context.new_page(), complaints)
            page.goto(address + path)
            return page

        yield open_page


@pytest.fixture(scope="session")
def tab(browser: Any) -> Iterator[tuple[Page, list[str]]]:
    """A tab that several tests use in turn, as to open one takes half a second; what it says."""
    said: list[str] = []
    with browser.new_context() as context:
        context.set_default_timeout(10_000)
        yield listen(context.new_page(), said), said


@pytest.fixture
def page(tab: tuple[Page, list[str]], address: str, complaints: list[str]) -> Iterator[Page]:
    """The page, to a visitor who comes for the first time."""
    page, said = tab
    page.goto(address)
    yield page
    page.unroute_all(behavior="ignoreErrors")
    page.context.set_offline(False)
    for popup in page.context.pages[1:]:
        popup.close()
    page.evaluate(FORGET)
    page.goto("about:blank")
    complaints += said
    said.clear()
