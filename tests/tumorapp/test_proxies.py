"""Behind the proxies of deploy/: their very files, the real nginx and Caddy, the real gunicorn."""

import base64
import contextlib
import io
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from tests.tumorapp.pages import Page, image
from tests.tumorapp.servers import find_port, write_config
from tumorapp.client import Client, ProblemError, UnreachableError

PROJECT = Path(__file__).parents[2]
DEPLOY = PROJECT / "deploy"
SECONDS_TO_START = 60
LOGIN = ("ward", "open sesame")
# The same for Caddy, with the fewest rounds: `caddy hash-password` takes seconds, also to check it.
LOGIN_HASH = "$2b$04$//bqFEAYv2lau/piPp8TQucm5.8CnX5Temw6PaBVTFx8pfuJ2i1lu"
UPLOAD = 20 * 2**20  # bytes that TumorApp accepts by default
LARGE = bytes(UPLOAD - 1), bytes(UPLOAD // 5)  # a job that is more than a request may be otherwise
FORGED = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "gopher",
    "X-Forwarded-Prefix": "/evil",
    "Forwarded": "for=203.0.113.9;host=evil.example;proto=gopher",
}
IMAGE = {"Content-Type": "image/jpeg"}

pytestmark = pytest.mark.slow

Publish = Callable[..., Path]
Serve = Callable[..., AbstractContextManager[Any]]


@dataclass(frozen=True)
class Proxy:
    """A running nginx or Caddy in front of a running gunicorn."""

    name: str
    service: Any
    folder: Path
    port: int
    plain_port: int
    authority: Path  # the certificate that its own is checked against

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def ask(self, path: str, data: Any = None, **options: Any) -> requests.Response:
        """Get a path, or post to it, with the login."""
        options = {"auth": LOGIN, "verify": self.authority, **options}
        method = "GET" if data is None else "POST"
        return requests.request(method, self.url + path, data=data, timeout=60, **options)

    def connect(self, sent: bytes) -> ssl.SSLSocket:
        """Send bytes as they are over TLS."""
        context = ssl.create_default_context(cafile=str(self.authority))
        plain = socket.create_connection(("localhost", self.port), timeout=60)
        connection = context.wrap_socket(plain, server_hostname="localhost")
        connection.sendall(sent)
        return connection


def find_program(name: str) -> str:
    program = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip(f"{name} is not installed: apt-get install {name}")
    return program


def replace(text: str, *changes: tuple[str, str]) -> str:
    """Change a file where a person would; each must be there."""
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


@contextlib.contextmanager
def run(proxy: Proxy, command: list[str], **variables: str) -> Iterator[Proxy]:
    log = proxy.folder / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **variables}, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + SECONDS_TO_START
        while True:
            with contextlib.suppress(OSError):
                proxy.ask("/healthz")
                break
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(log.read_text())
            time.sleep(0.05)
        yield proxy
    finally:
        process.terminate()
        process.wait(timeout=30)


def run_nginx(
    service: Any, folder: Path, *changes: tuple[str, str]
) -> AbstractContextManager[Proxy]:
    program = find_program("nginx")
    key, certificate, logins = (folder / name for name in ("site.key", "site.pem", "logins"))
    request = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost"
    )
    files = "-addext subjectAltName=DNS:localhost -keyout", str(key), "-out", str(certificate)
    command = [*request.split(), *files[0].split(), *files[1:]]
    subprocess.run(command, check=True, capture_output=True)
    hashed = subprocess.check_output(["openssl", "passwd", "-6", LOGIN[1]], text=True)
    logins.write_text(f"{LOGIN[0]}:{hashed}")
    proxy = Proxy("nginx", service, folder, find_port(), find_port(), certificate)
    site = replace(
        (DEPLOY / "nginx.conf").read_text(),
        *changes,
        ("server_name scans.example.org", "server_name localhost"),
        ("/etc/ssl/certs/scans.example.org.pem", str(certificate)),
        ("/etc/ssl/private/scans.example.org.key", str(key)),
        ("/etc/nginx/tumorapp.logins;", f"{logins};"),
        ("listen 80;", f"listen 127.0.0.1:{proxy.plain_port};"),
        ("listen 443 ssl", f"listen 127.0.0.1:{proxy.port} ssl"),
        ("http://127.0.0.1:8000", service.url),
    )
    (folder / "site.conf").write_text(site)
    # What Debian's nginx.conf has around it, in a folder of its own. What nginx would write to disk
    # it would write to `disk`, in folders that stay.
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder}/disk/{kind} 1 2; " for kind in kinds)
    (folder / "disk").mkdir()
    (folder / "nginx.conf").write_text(
        f"user root; daemon off; pid {folder}/pid; error_log stderr;\n"
        f"events {{}}\nhttp {{ access_log off; {paths} include {folder}/site.conf; }}\n"
    )
    return run(proxy, [program, "-e", "stderr", "-c", str(folder / "nginx.conf")])


def run_caddy(
    service: Any, folder: Path, *changes: tuple[str, str]
) -> AbstractContextManager[Proxy]:
    program = find_program("caddy")
    authority = folder / "caddy" / "pki" / "authorities" / "local" / "root.crt"
    proxy = Proxy("caddy", service, folder, find_port(), find_port(), authority)
    own = (
        f"{{\nadmin off\nskip_install_trust\n"
        f"http_port {proxy.plain_port}\nhttps_port {proxy.port}\n}}\n"
    )
    (folder / "Caddyfile").write_text(own + replace((DEPLOY / "Caddyfile").read_text(), *changes))
    return run(
        proxy,
        [program, "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")],
        HOME=str(folder),
        XDG_DATA_HOME=str(folder),
        XDG_CONFIG_HOME=str(folder),
        TUMORAPP_SITE="localhost",
        TUMORAPP_LOGIN=LOGIN[0],
        TUMORAPP_LOGIN_HASH=LOGIN_HASH,
        TUMORAPP_UPSTREAM=service.url.removeprefix("http://"),
    )


RUN = {"nginx": run_nginx, "caddy": run_caddy}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, publish_model: Publish) -> Path:
    folder = tmp_path_factory.mktemp("models")
    publish_model(folder, "mobilenet-v2")
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, models: Path, serve: Serve) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("service")
    with serve(models, folder, TUMORAPP_PROXIES="1", TUMORAPP_LOG_FORMAT="json") as running:
        yield running


@pytest.fixture(scope="module")
def nginx(service: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with run_nginx(service, tmp_path_factory.mktemp("nginx")) as running:
        yield running


@pytest.fixture(scope="module", params=list(RUN))
def proxy(
    request: pytest.FixtureRequest, service: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    with RUN[request.param](service, tmp_path_factory.mktemp(request.param)) as running:
        yield running


def archive(*members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for number, data in enumerate(members):
            packed.writestr(f"{number}.jpg", data)
    return file.getvalue()


def start_job(proxy: Proxy, data: bytes) -> str:
    answer = proxy.ask("/api/jobs", data, headers={"Content-Type": "application/zip"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def erase_job(proxy: Proxy, job: str) -> None:
    address = f"{proxy.url}/api/jobs/{job}"
    assert requests.delete(address, auth=LOGIN, verify=proxy.authority, timeout=60).ok


def test_encrypted_and_with_a_login(proxy: Proxy) -> None:
    plain = requests.get(
        f"http://localhost:{proxy.plain_port}/how", allow_redirects=False, timeout=30
    )
    assert plain.is_permanent_redirect
    assert plain.headers["Location"].startswith("https://localhost")
    for login in (None, (LOGIN[0], "guessed")):
        for path in ("/", "/healthz", "/api/models", "/static/page.css"):
            assert proxy.ask(path, auth=login).status_code == 401, path
    page = proxy.ask("/")
    assert page.status_code == 200
    assert "TumorApp" in page.text
    assert "max-age" in page.headers["Strict-Transport-Security"]


def test_it_predicts(proxy: Proxy, scan: bytes) -> None:
    through = proxy.ask("/api/predict", scan, headers=IMAGE)
    directly = proxy.service.ask("/api/predict", scan, headers=IMAGE)
    assert through.json() == directly.json()
    in_pieces = proxy.ask("/api/predict", iter([scan[:100], scan[100:]]), headers=IMAGE)
    assert in_pieces.json() == directly.json()


def test_what_a_client_says_of_itself_is_not_believed(proxy: Proxy, scan: bytes) -> None:
    headers = {**FORGED, "Content-Type": "application/zip"}
    answer = proxy.ask("/api/jobs", archive(scan), headers=headers)
    assert answer.status_code == 202
    assert answer.headers["Location"].removeprefix(proxy.url).startswith("/api/jobs/")
    assert "Strict-Transport-Security" in answer.headers
    erase_job(proxy, answer.json()["id"])
    for path in ("/", "/api/openapi.json"):
        assert "evil" not in proxy.ask(path, headers=FORGED).text


def send(proxy: Proxy, size: int, in_pieces: bool) -> requests.Response:
    data = bytes(size)
    pieces = (data[start : start + 2**16] for start in range(0, size, 2**16))
    return proxy.ask("/api/predict", pieces if in_pieces else data, headers=IMAGE)


@pytest.mark.parametrize("in_pieces", [False, True])
def test_nginx_writes_nothing_and_refuses_what_is_far_too_large(
    nginx: Proxy, in_pieces: bool
) -> None:
    by_service = send(nginx, UPLOAD + 1, in_pieces)
    assert by_service.status_code == 413
    assert "20 MB" in by_service.json()["detail"]
    by_nginx = send(nginx, UPLOAD + 2 * 2**20, in_pieces)
    assert by_nginx.status_code == 413
    assert "text/html" in by_nginx.headers["Content-Type"]
    assert not list((nginx.folder / "disk").rglob("[0-9]*"))  # nothing was written


def test_the_client_says_that_it_was_too_large(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, scan: bytes
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(proxy.authority))
    with Client(proxy.url.replace("//", f"//{LOGIN[0]}:{LOGIN[1]}@"), retries=0) as client:
        assert client.predict(scan)
        # Caddy ends the connection while the client is still sending, which may break.
        refusals = ProblemError if proxy.name == "nginx" else (ProblemError, UnreachableError)
        with pytest.raises(refusals, match=r"A proxy .* refused .*22\.0 MB.* smaller images"):
            client.predict(bytes(22 * 2**20))


@pytest.mark.browser
def test_the_pages_say_that_it_was_too_large_for_nginx(
    browser: Any, service: Any, tmp_path: Path, scan: bytes
) -> None:
    as_it_comes = ("client_max_body_size 21m", "client_max_body_size 1m")
    login = {"username": LOGIN[0], "password": LOGIN[1]}
    with (
        run_nginx(service, tmp_path, as_it_comes) as proxy,
        browser.new_context(ignore_https_errors=True, http_credentials=login) as context,
    ):
        page: Page = context.new_page()
        for path in ("", "how"):
            page.goto(f"{proxy.url}/{path}")
            page.set_input_files("#image", image(scan + bytes(2**20)))
            page.get_by_role("alert").filter(has_text="too large for a proxy").wait_for()


def test_a_job_may_be_larger(proxy: Proxy) -> None:
    erase_job(proxy, start_job(proxy, archive(*LARGE)))


def test_results_come_while_a_job_runs(proxy: Proxy, scan: bytes) -> None:
    job = start_job(proxy, archive(*[scan] * 300))
    with proxy.ask(f"/api/jobs/{job}/results?format=ndjson", stream=True) as answer:
        line = next(filter(None, answer.iter_lines()))
        state = proxy.ask(f"/api/jobs/{job}").json()
    assert "probabilities" in json.loads(line)
    assert state["done"] < state["total"]
    erase_job(proxy, job)


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "//metrics",
        "/./metrics",
        "/api/../metrics",
        "/%6detrics",
        "/metrics?a",
        "/metrics/",
    ],
)
def test_metrics_are_not_for_everybody(proxy: Proxy, path: str) -> None:
    prepared = requests.Request("GET", proxy.url, auth=LOGIN).prepare()
    prepared.url = proxy.url + path
    with requests.Session() as session:
        answer = session.send(prepared, verify=str(proxy.authority), timeout=30)
    assert answer.status_code in (400, 404)
    assert "tumorapp_" not in answer.text


# A second request inside the first, for a server that disagrees about where the first one ends.
HIDDEN = b"PATCH /api/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("length", "coding"),
    [
        (b"Content-Length: %d", b"Transfer-Encoding: chunked"),
        (b"Content-Length: %d", b"Transfer-Encoding: xchunked"),
        (b"Content-Length: %d", b"Transfer-Encoding : chunked"),
        (b"Content-Length: %d", b"Transfer-Encoding:\x0bchunked"),
        (b"Content-Length: %d", b"X: y\r\n Transfer-Encoding: chunked"),
        (b"Content-Length: %d", b"Content-Length: 5"),
        (b"Content-Length: 5", b"Content_Length: %d"),
        (b"Content-Length: +%d", b"X: y"),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
        (b"Transfer-Encoding: chunked, identity", b"X: y"),
    ],
)
def test_no_request_is_smuggled_in(proxy: Proxy, length: bytes, coding: bytes) -> None:
    body = b"0\r\n\r\n" + HIDDEN
    lines = b"\r\n".join([length, coding]).replace(b"%d", str(len(body)).encode())
    secret = base64.b64encode(":".join(LOGIN).encode())
    head = b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += b"Authorization: Basic " + secret + b"\r\nContent-Type: image/jpeg\r\n"
    with proxy.connect(head + lines + b"\r\n\r\n" + body) as connection:
        answer = b""
        with contextlib.suppress(OSError):
            while data := connection.recv(2**16):
                answer += data
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501 "))
    assert answer.count(b"HTTP/1.1 ") == 1
    assert proxy.ask("/healthz").ok
    assert "PATCH" not in proxy.service.output.read_text()


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory, models: Path, serve: Serve) -> Iterator[Any]:
    """A service that waits for a request for two seconds, not for ten."""
    folder = tmp_path_factory.mktemp("hasty")
    config = write_config(folder, "tumorapp.server.clients", SECONDS_OF_PATIENCE=2)
    with serve(models, folder, config, TUMORAPP_PROXIES="1") as running:
        yield running


@pytest.mark.parametrize("name", list(RUN))
def test_a_slow_client_holds_nobody_up_and_is_let_go(
    name: str, hasty: Any, tmp_path: Path, scan: bytes
) -> None:
    secret = base64.b64encode(":".join(LOGIN).encode()).decode()
    head = (
        "POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
        f"Authorization: Basic {secret}\r\nContent-Length: 100000\r\n\r\n"
    )
    with RUN[name](hasty, tmp_path) as proxy:
        with contextlib.ExitStack() as stack:
            slow = [
                stack.enter_context(proxy.connect(head.encode() + scan[:1000])) for _ in range(30)
            ]  # more than there are threads
            assert proxy.ask("/api/predict", scan, headers=IMAGE).ok
            # Caddy itself waits for the rest without end, in a connection that costs it little.
            for connection in slow if name == "nginx" else ():
                assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
        assert proxy.ask("/api/predict", scan, headers=IMAGE).ok


# As docs/configuration.md says: either the proxy passes the path on, or it names what it removed.
PASSED_ON = {
    "nginx": [("location / ", "location /scans/ "), ("location = /", "location = /scans/")],
    "caddy": [("path /api", "path /scans/api"), ("respond /metrics", "respond /scans/metrics")],
}
PASS = "        proxy_pass http://127.0.0.1:8000"
REMOVED = [
    ('X-Forwarded-Prefix ""', "X-Forwarded-Prefix /scans"),
    ("location = /", "location = /scans/"),
    (f"JOB_MB\n{PASS}", f"JOB_MB\n{PASS}/api/jobs"),
    (f"location / {{\n{PASS}", f"location /scans/ {{\n{PASS}/"),
]


@pytest.fixture(scope="module")
def below(tmp_path_factory: pytest.TempPathFactory, models: Path, serve: Serve) -> Iterator[Any]:
    """A service whose proxies pass the path on."""
    options = {"TUMORAPP_PROXIES": "1", "SCRIPT_NAME": "/scans", "TUMORAPP_RATE_LIMIT": "20/day"}
    with serve(models, tmp_path_factory.mktemp("below"), **options) as running:
        yield running


@pytest.mark.parametrize("name", list(RUN))
def test_below_a_path(name: str, below: Any, tmp_path: Path, scan: bytes) -> None:
    with RUN[name](below, tmp_path, *PASSED_ON[name]) as proxy:
        check_path(proxy, scan)


def test_below_a_path_that_nginx_removes(service: Any, tmp_path: Path, scan: bytes) -> None:
    with run_nginx(service, tmp_path, *REMOVED) as proxy:
        check_path(proxy, scan)


def check_path(proxy: Proxy, scan: bytes) -> None:
    page = proxy.ask("/scans/", headers=FORGED).text
    addresses = re.findall('(?:src|href)="(/[^"]+)"', page)
    assert all(address.startswith("/scans/") for address in addresses)
    assert proxy.ask(next(address for address in addresses if "page.css" in address)).ok
    assert proxy.ask("/scans/api/predict", scan, headers=IMAGE).ok
    kind = {**FORGED, "Content-Type": "application/zip"}
    job = proxy.ask("/scans/api/jobs", archive(*LARGE), headers=kind)
    assert job.status_code == 202
    assert job.headers["Location"].removeprefix(proxy.url).startswith("/scans/api/jobs/")
    assert proxy.ask("/scans/metrics").status_code == 404


@pytest.mark.parametrize(("name", "own"), [("nginx", "127.0.0.2"), ("caddy", "127.0.0.3")])
def test_a_client_cannot_choose_its_address(
    name: str, own: str, below: Any, tmp_path: Path
) -> None:
    with RUN[name](below, tmp_path) as proxy, requests.Session() as session:
        session.mount("https://", FromAddress(own))  # of which nothing was counted so far
        chosen = ({**FORGED, "X-Forwarded-For": f"203.0.113.{number}"} for number in range(21))
        found = [
            session.get(
                f"{proxy.url}/api/models",
                headers=headers,
                auth=LOGIN,
                verify=proxy.authority,
                timeout=30,
            ).status_code
            for headers in chosen
        ]
    assert found == [200] * 20 + [429]


class FromAddress(HTTPAdapter):
    """Sends from an address of this machine."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, source_address=(self._address, 0))
