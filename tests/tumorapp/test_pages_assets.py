"""The pages' files: addresses that change with them, and what is compressed."""

import gzip
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tumorapp.pages.assets import hash_folder

STATIC = Path(__file__).parents[2] / "static"
LASTING = "public, max-age=31536000, immutable"
STYLE = (STATIC / "page.css").read_bytes()


@pytest.fixture
def address(client: FlaskClient) -> str:
    [found] = set(re.findall(r'href="(/static/\w+/page\.css)"', client.get("/").text))
    return str(found)


class TestAddresses:
    def test_a_file_is_kept_for_a_year(self, client: FlaskClient, address: str) -> None:
        with client.get(address) as answer:
            assert answer.data == STYLE
            assert answer.headers["Cache-Control"] == LASTING

    def test_what_a_script_imports_has_such_an_address_too(self, client: FlaskClient) -> None:
        [script] = set(re.findall(r'src="(/static/\w+/js/page\.js)"', client.get("/").text))
        with client.get(script) as answer:
            imported = re.findall(r'from "\./(.*?)"', answer.text)
        assert imported
        for name in imported:
            with client.get(script.replace("page.js", name)) as answer:
                assert answer.headers["Cache-Control"] == LASTING

    def test_the_api_page_has_its_own(self, client: FlaskClient) -> None:
        page = client.get("/api/docs").text
        files = re.findall(r'data-(?:sheet|script)="(/api/docs/\w[^"]*?)"', page)
        assert len(files) == 2
        for file in files:
            with client.get(file) as answer:
                assert answer.headers["Cache-Control"] == LASTING

    @pytest.mark.parametrize("version", ["", "0123456789ab/"])
    def test_without_its_version_or_with_an_old_one_browsers_ask_again(
        self, client: FlaskClient, version: str
    ) -> None:
        with client.get(f"/static/{version}page.css") as answer:
            assert answer.data == STYLE
            assert answer.headers["Cache-Control"] == "no-cache"

    def test_while_files_are_being_edited_browsers_ask_again(
        self, app: Flask, client: FlaskClient, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(app.config, "DEBUG", True)
        with client.get(address) as answer:
            assert answer.headers["Cache-Control"] == "no-cache"

    @pytest.mark.parametrize(
        "name", ["none.css", "../wsgi.py", "%2e%2e/wsgi.py", "0123456789ab/../../wsgi.py", "js/"]
    )
    def test_what_there_is_not(self, client: FlaskClient, address: str, name: str) -> None:
        for folder in ("/static/", address.removesuffix("page.css")):
            answer = client.get(folder + name)
            assert answer.status_code == 404
            assert answer.headers["Cache-Control"] == "no-store"

    def test_the_hash_changes_with_any_file(self, tmp_path: Path) -> None:
        folder = tmp_path / "static"
        shutil.copytree(STATIC, folder)
        found = {hash_folder(STATIC)}
        assert {hash_folder(folder)} == found
        (folder / "js" / "page.js").write_text("other", encoding="utf-8")
        found.add(hash_folder(folder))
        (folder / "js" / "page.js").rename(folder / "js" / "sheet.js")
        found.add(hash_folder(folder))
        assert len(found) == 3
        assert all(re.fullmatch("[0-9a-f]{12}", one) for one in found)


class TestCompression:
    @pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
    def test_files_and_pages(self, client: FlaskClient, address: str, encoding: str) -> None:
        for path in (address, "/", "/models"):
            with client.get(path) as plain, client.get(path, headers=accept(encoding)) as small:
                assert small.headers["Content-Encoding"] == encoding
                assert len(small.data) < len(plain.data) / 2
                assert int(small.headers["Content-Length"]) == len(small.data)
                assert "Accept-Encoding" in plain.headers["Vary"]
                assert "Accept-Encoding" in small.headers["Vary"]
                assert "Content-Encoding" not in plain.headers

    def test_the_content_is_the_same(self, client: FlaskClient, address: str) -> None:
        with client.get(address, headers=accept("gzip")) as answer:
            assert gzip.decompress(answer.data) == STYLE

    def test_a_cached_file_is_confirmed(self, client: FlaskClient) -> None:
        with client.get("/static/page.css", headers=accept("br")) as first:
            seen = {"If-None-Match": first.headers["ETag"], **accept("br")}
        with client.get("/static/page.css", headers=seen) as again:
            assert again.status_code == 304

    def test_a_range_is_of_the_file_itself(self, client: FlaskClient, address: str) -> None:
        with client.get(address, headers={"Range": "bytes=0-9", **accept("gzip")}) as answer:
            assert answer.status_code == 206
            assert answer.data == STYLE[:10]

    @pytest.mark.parametrize("path", ["/api/models", "/healthz", "/static/none.css"])
    def test_what_is_sent_as_it_is(self, client: FlaskClient, path: str) -> None:
        answer = client.get(path, headers=accept("gzip, br, zstd"))
        assert "Content-Encoding" not in answer.headers


def accept(encoding: str) -> dict[str, str]:
    return {"Accept-Encoding": encoding}


@pytest.mark.slow
def test_behind_gunicorn(service: Any) -> None:
    for headers in (accept("br, gzip"), accept("identity")):
        answer = service.ask("/static/page.css", headers=headers)
        assert answer.content == STYLE
        assert "Content-Length" in answer.headers
