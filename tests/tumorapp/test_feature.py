"""Features: a page that is a module and a template is found, and treated as it declares."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

import tumorapp.pages
from tumorapp import create_app
from tumorapp.feature import Feature, feature_of, find_features

MODULE = """
from flask import Blueprint, render_template
from tumorapp.feature import Feature, Menu

blueprint = Blueprint("about", __name__, template_folder=".")
FEATURE = Feature("about", blueprint, page=True, limited={limited}, menu=Menu("About", "show", 25))

@blueprint.get("/about")
def show() -> str:
    return render_template("about.html")
"""
TEMPLATE = '{% extends "base.html" %}{% block main %}<h1>About</h1>{% endblock %}'
HTML = {"Accept": "text/html"}


@pytest.fixture(params=[True, False], ids=["limited", "unlimited"])
def limited(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def settings(
    limited: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, object]]:
    """A service with keys, a limit, and a page more in `tumorapp.pages`."""
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "about.py").write_text(MODULE.format(limited=limited))
    (folder / "about.html").write_text(TEMPLATE)
    monkeypatch.setattr(tumorapp.pages, "__path__", [*tumorapp.pages.__path__, str(folder)])
    yield {
        "MODELS_DIR": tmp_path / "none",
        "API_KEYS": "on",
        "KEYS_FILE": tmp_path / "keys.json",
        "RATE_LIMIT": "3/hour",
    }
    sys.modules.pop("tumorapp.pages.about", None)


@pytest.fixture
def client(settings: dict[str, object]) -> FlaskClient:
    return create_app(settings).test_client()


def test_a_new_page_is_in_the_menu_and_open(client: FlaskClient) -> None:
    page = client.get("/about", headers=HTML)
    assert page.status_code == 200
    assert '<a href="/about" aria-current="page">About</a>' in page.text
    menu = page.text.partition('<nav class="pages"')[2].partition("</nav>")[0]
    titles = ["Predict", "Models", "About", "How it works", "API"]
    assert sorted(titles, key=menu.index) == titles


def test_it_speaks_the_visitors_language(client: FlaskClient) -> None:
    page = client.get("/about?lang=de", headers=HTML).text
    assert '<html lang="de">' in page
    assert "Nicht zur Diagnose" in page
    assert '<a href="/about?lang=de" aria-current="page">' in page


def test_it_counts_as_it_declares(client: FlaskClient, limited: bool) -> None:
    answers = [client.get("/about").status_code for _ in range(4)]
    assert answers == [200, 200, 200, 429 if limited else 200]


def test_it_is_off_where_the_pages_are(settings: dict[str, object]) -> None:
    client = create_app({**settings, "PAGES": "off"}).test_client()
    assert client.get("/about").status_code == 404


def test_a_view_that_nothing_declares_needs_a_key_and_counts(settings: dict[str, object]) -> None:
    app = create_app(settings)
    app.add_url_rule("/more", "more", lambda: "more")
    assert feature_of(app, "more") == Feature("")
    client = app.test_client()
    assert [client.get("/more").status_code for _ in range(4)] == [401, 401, 401, 429]


def test_a_name_that_is_taken_is_refused(
    settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tumorapp.pages, "ANOTHER", Feature("about"), raising=False)
    with pytest.raises(ValueError, match="Two features are named 'about'"):
        find_features()


@pytest.mark.parametrize("module", ["client", "logs", "server.overload"])
def test_what_gunicorns_master_and_clients_read_needs_no_flask(module: str) -> None:
    program = f"import sys, tumorapp.{module}; sys.exit('flask' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=True)
