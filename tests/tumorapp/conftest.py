"""A real gunicorn, Redis and browser for the tests that need one."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from redis import Redis

from tests.cards import VERDICTS
from tests.tumorapp.pacs import ORTHANC, PLUGINS, Orthanc, run_orthanc
from tests.tumorapp.servers import RedisServer, Service, find_port, run_gunicorn, serve_here
from tumorapp import create_app
from tumorapp.jobs.runner import Jobs

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


Serve = Callable[..., AbstractContextManager[Service]]


@pytest.fixture(scope="session")
def serve() -> Serve:
    """Run gunicorn: `with serve(models, folder_for_its_logs, WEB_CONCURRENCY="2") as service:`."""
    return run_gunicorn


@pytest.fixture(scope="session")
def service(
    tmp_path_factory: pytest.TempPathFactory, publish_model: Callable[..., Path]
) -> Iterator[Service]:
    """A gunicorn with `binary-cnn` and `mobilenet-v2`; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("service")
    for name in ("binary-cnn", "mobilenet-v2"):
        publish_model(folder / "models", name)
    with run_gunicorn(folder / "models", folder) as running:
        yield running


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
def jobs_app(models_dir: Path, tmp_path: Path) -> Iterator[Flask]:
    """An application with tight bounds on jobs."""
    settings = {"MAX_JOB_MB": 1, "MAX_JOB_IMAGES": 10, "MAX_JOBS": 2, "MAX_PIXELS": 100_000}
    app = create_app({"MODELS_DIR": models_dir, "JOBS_DIR": tmp_path / "jobs", **settings})
    yield app
    app.extensions["jobs"].close()


@pytest.fixture
def jobs(jobs_app: Flask, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """Give the jobs of that application, which wait for `jobs.run_next()`: no thread runs them."""
    jobs: Jobs = jobs_app.extensions["jobs"]
    monkeypatch.setattr(jobs, "start", lambda: None)
    return jobs


@pytest.fixture(scope="module")
def running_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    if ORTHANC is None or not list(PLUGINS.glob("*DicomWeb*")):
        pytest.skip("Orthanc is not installed: apt-get install orthanc orthanc-dicomweb")
    with run_orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture
def orthanc(running_orthanc: Orthanc) -> Orthanc:
    """An Orthanc that is empty."""
    running_orthanc.empty()
    return running_orthanc


@pytest.fixture(scope="module")
def pacs_app(tmp_path_factory: pytest.TempPathFactory, publish_model: Callable[..., Path]) -> Flask:
    """An application whose model takes every single slice for a tumour."""
    root = tmp_path_factory.mktemp("models")
    publish_model(root, "mobilenet-v2", **VERDICTS["tumor"])
    return create_app({"MODELS_DIR": root, "JOBS_DIR": root / "jobs"})


@pytest.fixture
def memory() -> Iterator[Any]:
    """What a worker of a PACS has done: nothing yet."""
    from tumorapp.pacs.worker import State  # with packages that few tests need

    with contextlib.closing(State(None)) as state:
        yield state


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
