"""The headers, other sites, hosts, proxies, and what never reaches a disk."""

import ast
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request
from flask.testing import FlaskClient

from tumorapp import create_app
from tumorapp.errors import ConfigurationError
from tumorapp.keys import KeyFile
from tumorapp.security import HEADERS

PROJECT = Path(__file__).parents[2]
BROWSER = {"Accept": "text/html"}
Form = Callable[..., dict[str, Any]]


@pytest.fixture
def make_client(app: Flask) -> Callable[..., FlaskClient]:
    """Give a client of an application with other settings that serves the same models."""

    def make(**settings: object) -> FlaskClient:
        return create_app({"MODELS_DIR": app.config["MODELS_DIR"], **settings}).test_client()

    return make


MakeClient = Callable[..., FlaskClient]


def test_the_usual_headers(client: FlaskClient) -> None:
    headers = client.get("/").headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "camera=()" in headers["Permissions-Policy"]
    assert "Set-Cookie" not in headers


def test_the_policy_lets_no_foreign_and_no_inline_code_run() -> None:
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_encryption_is_asked_for_again_where_there_is_some(client: FlaskClient) -> None:
    assert "Strict-Transport-Security" not in client.get("/").headers
    encrypted = client.get("/", base_url="https://localhost")
    assert encrypted.headers["Strict-Transport-Security"] == "max-age=31536000"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:81"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "null"},
        {"Origin": "file://localhost"},
        {"Origin": "http://[::1"},
        {"Origin": ""},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "path", ["/", "/parts", "/api/predict", "/v2/models/mobilenet-v2/infer", "/nothing"]
)
def test_another_site_cannot_send_a_form(
    client: FlaskClient, form: Form, scan: bytes, path: str, headers: dict[str, str]
) -> None:
    response = client.post(path, **form(("image", "scan.jpg", scan)), headers=headers)
    assert response.status_code == 403
    assert "another site" in response.get_data(as_text=True)
    assert client.get(path, headers=headers).status_code != 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://hidden-by-a-proxy"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://localhost"},
        {"Origin": "http://LOCALHOST"},
        {"Origin": "http://localhost:8000", "Host": "Localhost.:8000"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/", "/api/predict"])
def test_the_own_page_and_programs_can(
    client: FlaskClient, form: Form, scan: bytes, path: str, headers: dict[str, str]
) -> None:
    response = client.post(path, **form(("image", "scan.jpg", scan)), headers=headers)
    assert response.status_code == 200


def test_any_host_will_do_unless_some_are_trusted(
    client: FlaskClient, make_client: MakeClient
) -> None:
    assert client.get("/api/models", base_url="http://any.example").status_code == 200
    trusting = make_client(TRUSTED_HOSTS="Scans.example, .clinic.example")
    hosts = ["scans.example", "scans.example:8000", "a.clinic.example", "127.0.0.1:8000"]
    hosts += ["SCANS.example", "scans.example.", "Scans.Example.:8000", "a.Clinic.example."]
    for host in hosts:
        assert trusting.get("/healthz", base_url=f"http://{host}").status_code == 200, host
    for host in ("evil.example", "scans.example.evil.example", "xscans.example"):
        for path in ("/", "/api/models", "/healthz", "/static/page.css"):
            with trusting.get(path, base_url=f"http://{host}") as response:
                assert response.status_code == 400, (host, path)


FORWARDED = {
    "X-Forwarded-For": "203.0.113.9, 198.51.100.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "scans.example",
}


@pytest.mark.parametrize(
    ("proxies", "expected"),
    [
        (0, "127.0.0.1 http localhost"),
        (1, "198.51.100.7 https scans.example"),
        (2, "203.0.113.9 http localhost"),  # the other two name one proxy only
    ],
)
def test_forwarded_headers_are_believed_of_as_many_proxies_as_there_are(
    app: Flask, proxies: int, expected: str
) -> None:
    behind = create_app({"MODELS_DIR": app.config["MODELS_DIR"], "PROXIES": proxies})
    behind.add_url_rule(
        "/me", "me", lambda: f"{request.remote_addr} {request.scheme} {request.host}"
    )
    assert behind.test_client().get("/me", headers=FORWARDED).text == expected


@pytest.mark.parametrize(
    ("proxies", "prefix", "expected"),
    [
        (0, "/scans", "/"),
        (1, "/scans", "/scans/"),
        (1, "/a/b-c_d.e~/", "/a/b-c_d.e~/"),
        (1, "/evil, /scans", "/scans/"),
        (1, "/", "/"),
    ],
)
def test_addresses_begin_with_the_prefix_that_a_proxy_names(
    make_client: MakeClient, proxies: int, prefix: str, expected: str
) -> None:
    client = make_client(PROXIES=proxies)
    headers = {**BROWSER, "X-Forwarded-Prefix": prefix}
    for path in ("/", "/models", "/how", "/api/docs", "/nothing"):
        page = client.get(path, headers=headers).text
        links = re.findall(r'(?:src|href|action|data-\w+)="(/[^"]*)"', page)
        assert len(links) > 5
        assert {link.startswith(expected) for link in links} == {True}, path
    document = client.get("/api/openapi.json", headers=headers).get_json()
    [server] = document.get("servers", [{"url": "/"}])  # as OpenAPI has it
    assert server["url"] == (expected.rstrip("/") or "/")


@pytest.mark.parametrize(
    "prefix", ["/a/../b", "/..", "/./a", "//evil.example", "scans", "/a b", "https://evil.example"]
)
@pytest.mark.parametrize("path", ["/", "/api/models", "/nothing"])
def test_a_prefix_that_is_not_a_path_is_refused(
    make_client: MakeClient, prefix: str, path: str
) -> None:
    headers = {**BROWSER, "X-Forwarded-Prefix": prefix}
    answer = make_client(PROXIES=1).get(path, headers=headers)
    assert answer.status_code == 400
    assert "is not a path such as /tumorapp" in answer.text
    assert f'="{prefix}' not in answer.text


APP = "https://app.example"
PREFLIGHT = {
    "Origin": APP,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type,x-api-key",
}


class TestOtherOrigins:
    """What a page of another site may do, once its origin is named."""

    @pytest.fixture
    def sharing(self, make_client: MakeClient, tmp_path: Path) -> FlaskClient:
        return make_client(
            CORS_ORIGINS=f"{APP}, http://LOCALHOST:3000",
            API_KEYS="on",
            KEYS_FILE=tmp_path / "keys.json",
        )

    def test_it_may_ask_and_send_and_read(
        self, sharing: FlaskClient, tmp_path: Path, scan: bytes
    ) -> None:
        key = KeyFile(tmp_path / "keys.json").add("app")
        for origin in (APP, "http://localhost:3000"):
            may = sharing.options("/api/predict", headers={**PREFLIGHT, "Origin": origin})
            assert may.status_code == 200
            assert may.access_control_allow_origin == origin
            assert {"POST", "DELETE"} <= set(may.access_control_allow_methods)
            assert set(may.access_control_allow_headers) == {"content-type", "x-api-key"}
            asked = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
            sent = {"data": scan, "content_type": "image/jpeg"}
            refused = sharing.post("/api/predict", **sent, headers=asked)
            assert refused.status_code == 401  # and readable
            answer = sharing.post("/api/predict", **sent, headers={**asked, "X-API-Key": key})
            assert answer.status_code == 200
            for one in (refused, answer):
                assert one.access_control_allow_origin == origin
                assert "X-Request-ID" in one.access_control_expose_headers
                assert "Origin" in one.vary
                assert not one.access_control_allow_credentials

    @pytest.mark.parametrize(
        "origin", ["https://evil.example", f"{APP}.evil.example", "null", f"{APP}:8443"]
    )
    def test_a_wrong_origin(self, sharing: FlaskClient, scan: bytes, origin: str) -> None:
        may = sharing.options("/api/predict", headers={**PREFLIGHT, "Origin": origin})
        answer = sharing.post("/api/predict", data=scan, headers={"Origin": origin})
        assert (answer.status_code, answer.get_json()["code"]) == (403, "cross-site")
        assert "TUMORAPP_CORS_ORIGINS" in answer.get_json()["detail"]
        for one in (may, answer):
            assert one.access_control_allow_origin is None
            assert "Origin" in one.vary  # what a cache keeps is not for the right one

    def test_the_pages_are_not_shared(self, sharing: FlaskClient, form: Form, scan: bytes) -> None:
        sent = form(("image", "scan.jpg", scan))
        for path in ("/", "/many", "/report"):
            answer = sharing.post(path, **sent, headers={"Origin": APP})
            assert answer.status_code == 403
            assert answer.access_control_allow_origin is None

    def test_off_by_default(self, client: FlaskClient) -> None:
        for path in ("/api/predict", "/v2"):
            may = client.options(path, headers=PREFLIGHT)
            assert not [name for name, _ in may.headers if name.startswith("Access-Control")]

    @pytest.mark.parametrize(
        "origins", ["*", "app.example", f"{APP}/", f"{APP}/page", f"{APP},", "https://*.example"]
    )
    def test_what_is_not_an_origin_is_refused(self, make_client: MakeClient, origins: str) -> None:
        with pytest.raises(ConfigurationError, match=r"such as https://app\.example"):
            make_client(CORS_ORIGINS=origins)


def test_an_api_without_pages(make_client: MakeClient, scan: bytes) -> None:
    client = make_client(PAGES="off")
    for path in ("/", "/parts", "/models", "/api/docs"):
        response = client.get(path, headers=BROWSER)
        assert response.status_code == 404, path
        assert response.mimetype == "application/problem+json"
        assert "page" not in response.get_json()["detail"]
    answer = client.post("/api/predict", data=scan, content_type="image/jpeg")
    assert answer.status_code == 200
    assert client.get("/api/openapi.json").status_code == 200


PROGRAM = """
import json, sys, threading
from wsgi import create_app
client = create_app().test_client()
scan = sys.stdin.buffer.read()
written = []
def note(event, arguments):
    if threading.current_thread().name == "jobs":
        return  # it looks at its folder from time to time, and these requests give it nothing
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        written.append(str(arguments[0]))
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & 3:
        written.append(str(arguments[0]))
    elif event in ("os.mkdir", "os.rename", "tempfile.mkstemp", "tempfile.mkdtemp"):
        written.append(event)
answers = []
import io
from werkzeug.datastructures import FileStorage
sent = [{"image": FileStorage(io.BytesIO(scan + bytes(size)), "../../../tmp/evil.jpg")}
        for size in (0, 5_000_000)]
sys.addaudithook(note)
from werkzeug.test import encode_multipart
for fields in sent:
    boundary, body = encode_multipart(fields)
    kind = f"multipart/form-data; boundary={boundary}"
    for path in ("/api/predict", "/"):
        answers.append(client.post(path, data=body, content_type=kind).status_code)
answers.append(client.post("/api/predict", data=scan, content_type="image/jpeg").status_code)
print(json.dumps([answers, written]))
"""


def test_uploads_are_never_written(run_program: Callable[..., Any], scan: bytes) -> None:
    answers, written = json.loads(run_program(PROGRAM, scan).stdout)
    assert answers == [200] * len(answers)
    assert written == []


LISTENER = """
import os, sys
OUTWARD = ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname",
           "urllib.Request", "subprocess.Popen", "os.fork", "os.posix_spawn")
def note(event, arguments):
    if event in OUTWARD:
        os.write(2, f"{event} {arguments}\\n".encode())  # that of a forked process, too
sys.addaudithook(note)
from wsgi import create_app
client = create_app().test_client()
scan = sys.stdin.buffer.read()
answer = client.post("/api/predict?heatmap=1", data=scan, content_type="image/jpeg")
answers = [answer, client.get("/"), client.get("/models"), client.get("/metrics")]
import training.graph_comparison
print(*(answer.status_code for answer in answers))
"""


def test_nobody_is_told_that_it_runs(
    run_program: Callable[..., Any], scan: bytes, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    # Where this variable is set, OpenVINO would keep quiet by itself.
    done = run_program(LISTENER, scan, CI="", HOME=str(home))
    assert done.stderr.decode() == ""
    assert done.stdout.split() == [b"200"] * 4
    assert list(home.iterdir()) == []


def test_nothing_unpickles_or_loads_code() -> None:
    for file in [*PROJECT.glob("tumorapp/**/*.py"), *PROJECT.glob("training/**/*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert not re.search(r"\b(pickle|dill|joblib|marshal)\.loads?$", called), file
                assert called not in {"eval", "exec"}, file
                given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert given.get("allow_pickle", "False") == "False", file
                # Keras's own default is to refuse code, too.
                assert given.get("safe_mode", "True") == "True", file
                if called == "torch.load":
                    assert given["weights_only"] == "True", file


def test_keys_and_limits_are_not_loaded_unless_they_are_on(
    run_program: Callable[..., Any],
) -> None:
    done = run_program("import sys; from wsgi import app; print(*sys.modules)")
    loaded = set(done.stdout.decode().split())
    optional = {"flask_cors", "flask_limiter", "limits", "tumorapp.keys", "tumorapp.limits"}
    assert not optional & loaded


def test_each_promise_has_its_test() -> None:
    text = (PROJECT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?!promise|---)(.+) \|$", text, flags=re.MULTILINE)
    assert len(rows) >= 15
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)(?:::(\w+))?`", row)
        assert named, row
        for file, *names in named:
            path = PROJECT / file
            assert path.is_file(), file
            known = {
                node.name
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.FunctionDef | ast.ClassDef)
            }
            assert {name for name in names if name} <= known, (file, names)


def test_some_damaged_inputs() -> None:
    from benchmarks.fuzz.uploads import run

    outcomes, slowest = run(first=1_000_000, inputs=600, seed=1, seconds=5)
    assert sum(outcomes.values()) == 600
    assert len(outcomes) == 8
    assert slowest < 5


def test_some_damaged_cards(models_dir: Path) -> None:
    from benchmarks.fuzz.cards import fuzz_cards

    app = create_app({"MODELS_DIR": models_dir, "PROPAGATE_EXCEPTIONS": True})
    outcomes = fuzz_cards(app, first=1_000_000, inputs=40, seed=1)
    assert set(outcomes) == {"card read", "card refused"}


def test_a_form_part_without_a_name_is_refused(client: FlaskClient) -> None:
    body = b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n"
    body += (
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nx\r\n--b--\r\n'
    )
    response = client.post(
        "/api/predict",
        input_stream=io.BytesIO(body),
        content_length=len(body),
        content_type="multipart/form-data; boundary=b",
    )
    assert response.status_code == 400
    assert "no option ''" in response.get_json()["detail"]
