"""The pages in the visitor's language, and the catalogues that they are in."""

import gettext
import io
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po
from flask import Flask
from flask.testing import FlaskClient
from pypdf import PdfReader

from brainscan import messages
from brainscan.bundle.manifest import MANIFEST_FILE
from brainscan.bundle.sentences import EXCLUDED, SENTENCES
from brainscan.messages import ScanError
from brainscan.scan.formats import read_picture
from tests.cards import MEASURED, POINTING, RESULT, VERDICTS, draw_measurement
from tests.tumorapp.pages import Page as BrowserPage
from tests.tumorapp.pages import choose
from tests.tumorapp.test_pages_leaderboard import write_study
from training.models import Recipe, architecture, architectures
from tumorapp import create_app
from tumorapp.language import cards
from tumorapp.language.translation import FOLDER, list_languages, tell, write_decimal, write_percent

PROJECT = Path(__file__).parents[2]
HTML = {"Accept": "text/html"}
GERMAN = {**HTML, "Accept-Language": "de-AT,de;q=0.9,en;q=0.5"}
CATALOGUES = sorted(FOLDER.glob("*/LC_MESSAGES/messages.po"))
VALUE = re.compile(r"%\(\w+\)s|\{\w+\}|%%|</?\w+")
# What is the same in both languages, or English in both: names, figures, the cards' own texts.
SAME = re.compile(
    r"TumorApp( [\d.]+)?|.* · TumorApp|API|ROC( AUC)?|F1|SHA-256|[\da-f]{64}|Manifest, SHA-256"
    r"|binary-cnn|mobilenet-v2|resnet18|ann-\d+-nodes-0-dense"
    r"|nickparvar.*|sartaj|axial|fp16|CPU.*|Parameter|float32|python [\d.]+|abc123|Version 1\."
    r"|Tumor|Alt|H|Zoom|JSON|curl|Python"
    r"|[\w.-]+\.\w+"
)


class Texts(HTMLParser):
    """The texts of a page that a visitor reads or hears: no code, nothing in a stated language."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._silent: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if (
            self._silent
            or tag in ("code", "pre", "script")
            or (given.get("lang") and tag != "html")
        ):
            if tag not in ("img", "input", "link", "meta", "br", "rect", "path"):
                self._silent.append(tag)
            return
        for name in ("alt", "aria-label", "placeholder", "data-summary", "data-label"):
            self.handle_data(given.get(name) or "")

    def handle_endtag(self, tag: str) -> None:
        if self._silent and self._silent[-1] == tag:
            self._silent.pop()

    def handle_data(self, data: str) -> None:
        text = " ".join(data.split())
        if not self._silent and re.search(r"[a-z]{2}", text):
            self.found.append(text)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, publish_model: Callable[..., Path]) -> Flask:
    root, study = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("study")
    publish_model(root, "mobilenet-v2", measurement=MEASURED)
    publish_model(root, "binary-cnn")
    write_study(study / "results")
    folders = {"MODELS_DIR": root, "STUDY_DIR": study / "results"}
    app = create_app({**folders, "MAX_UPLOAD_MB": 1})
    app.config["MAX_CONTENT_LENGTH"] = 200_000  # so that no test has to send a megabyte
    return app


@pytest.fixture(scope="module")
def app(service: Flask) -> Flask:
    """Only for the browser: pytest-flask lets all requests of a test share what `app` keeps."""
    return service


@pytest.fixture
def client(service: Flask) -> FlaskClient:
    return service.test_client()


def read_catalogue(path: Path) -> Catalog:
    with path.open("rb") as file:
        return read_po(file, locale=None if path.suffix == ".pot" else path.parts[-3])


def list_messages(catalogue: Catalog) -> dict[tuple[str, ...], Message]:
    return {ids(message): message for message in catalogue if message.id}


def ids(message: Message) -> tuple[str, ...]:
    return (message.id,) if isinstance(message.id, str) else tuple(message.id)


def strings(message: Message) -> tuple[str, ...]:
    return (message.string,) if isinstance(message.string, str) else tuple(message.string)


def show(client: FlaskClient, scan: bytes, page: str, lang: str) -> str:
    path, _, what = page.partition(" ")
    address = f"{path}?lang={lang}"
    if not what:
        return client.get(address, headers=HTML).text
    data = {"letter": b"Dear doctor", "scan": scan, "large": bytes(300_000)}[what]
    fields = {"image": (io.BytesIO(data), "scan.jpg"), "heatmap": "1", "preview": "1"}
    return client.post(address, data=fields, headers=HTML).text


PAGES = (
    "/",
    "/ scan",
    "/ letter",
    "/ large",
    "/compare scan",
    "/how",
    "/how letter",
    "/models",
    "/models/mobilenet-v2/1",
    f"/models/reports/{RESULT.id}",
    "/api/docs",
    "/nothing",
)


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Collect the texts as `make translations` does."""
    path = tmp_path_factory.mktemp("texts") / "messages.pot"
    babel = [sys.executable, "-m", "babel.messages.frontend", "--quiet", "extract"]
    options = ["--mapping", "babel.cfg", "--keyword", "mark translate", "--output", str(path)]
    subprocess.run([*babel, *options, "."], cwd=PROJECT, check=True)
    return read_catalogue(path)


class TestCatalogues:
    def test_there_is_a_german_one(self) -> None:
        assert list_languages() == {"en": "English", "de": "Deutsch"}
        assert [path.parts[-3] for path in CATALOGUES] == ["de"]

    @pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.parts[-3])
    def test_it_has_every_text_and_no_other(self, collected: Catalog, path: Path) -> None:
        wanted, there = list_messages(collected), list_messages(read_catalogue(path))
        assert wanted.keys() == there.keys(), "Run `make translations` and translate what is new."

    @pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.parts[-3])
    def test_every_text_is_translated_with_its_values_and_markup(self, path: Path) -> None:
        for message in list_messages(read_catalogue(path)).values():
            assert not message.fuzzy, message.id
            assert all(strings(message)), message.id
            for string in strings(message):
                assert set(VALUE.findall(string)) == set(VALUE.findall(ids(message)[0]))

    @pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.parts[-3])
    def test_what_is_compiled_is_what_is_written(self, path: Path) -> None:
        with path.with_suffix(".mo").open("rb") as file:
            compiled = gettext.GNUTranslations(file)
        for message in list_messages(read_catalogue(path)).values():
            if isinstance(message.id, str):
                assert compiled.gettext(message.id) == message.string
            else:
                assert [compiled.ngettext(*message.id, n) for n in (1, 2)] == [*message.string]


class TestPages:
    @pytest.mark.parametrize("page", PAGES)
    def test_nothing_is_left_in_english(self, client: FlaskClient, scan: bytes, page: str) -> None:
        english, german = (Texts(show(client, scan, page, tag)).found for tag in ("en", "de"))
        left = {text for text in german if text in english and not SAME.fullmatch(text)}
        assert left == set()
        assert len(german) > 5

    @pytest.mark.parametrize("verdict", VERDICTS)
    def test_nor_of_any_verdict(
        self, tmp_path: Path, publish_model: Callable[..., Path], scan: bytes, verdict: str
    ) -> None:
        figures = draw_measurement(pointing=replace(POINTING, dice=0.72))
        publish_model(tmp_path, measurement=figures, **VERDICTS[verdict])
        client = create_app({"MODELS_DIR": tmp_path, "STUDY_DIR": tmp_path}).test_client()
        for page in ("/compare scan", "/how scan", "/models/mobilenet-v2/1"):
            self.test_nothing_is_left_in_english(client, scan, page)

    def test_figures_are_written_as_in_the_language(self, client: FlaskClient, scan: bytes) -> None:
        page = show(client, scan, "/ scan", "de")
        assert re.search(r"<strong>\d+,\d\u00a0%</strong> Konfidenz", page)
        assert re.search(r"90,0\u00a0% bei [\d.]+ Aufnahmen", page)
        report = show(client, scan, "/models/mobilenet-v2/1", "de")
        assert "95-%-Intervall 85,00 bis 94,00\u00a0%" in report
        assert "1.000" in show(client, scan, "/models", "de")

    def test_what_a_visitor_wrote_is_no_markup(self, client: FlaskClient) -> None:
        fields = {"image": (io.BytesIO(b"a letter"), "<b>%(x)s %s: .jpg")}
        page = client.post("/?lang=de", data=fields, headers=HTML).text
        assert "&lt;b&gt;%(x)s %s: .jpg: Die Datei ist kein Bild" in page
        assert "<b>%(x)s" not in page

    def test_many_scans_have_their_words_in_it_and_their_data_as_ever(
        self, client: FlaskClient, scan: bytes
    ) -> None:
        files = [(io.BytesIO(scan), "1.jpg"), (io.BytesIO(b"a letter"), "2.jpg")]
        english, german = (
            client.post(f"/many?lang={tag}", data={"image": list(copy)}).get_json()["results"]
            for tag, copy in (("en", copies(files)), ("de", copies(files)))
        )
        assert german[0].pop("words") != english[0].pop("words")
        assert german[0] == english[0]
        assert german[1]["error"]["detail"].startswith("Die Datei ist kein Bild")

    def test_so_is_why_many_scans_are_refused(self, client: FlaskClient) -> None:
        headers = {"Accept": "application/json"}
        refused = client.post("/many?lang=de", data={}, headers=headers)
        assert refused.get_json()["title"] == "Kein Bild in der Anfrage"

    def test_the_report_is_in_it(self, client: FlaskClient, scan: bytes) -> None:
        fields = {"image": (io.BytesIO(scan), "scan.jpg")}
        answer = client.post("/report?lang=de", data=fields)
        text = PdfReader(io.BytesIO(answer.data)).pages[0].extract_text()
        assert "Nicht zur Diagnose" in text
        assert "Gemessene Genauigkeit" in text
        assert "2 Faltungen, Softmax" in text
        assert "confidence" not in text


def copies(files: list[tuple[io.BytesIO, str]]) -> list[tuple[io.BytesIO, str]]:
    return [(io.BytesIO(file.getvalue()), name) for file, name in files]


class TestCards:
    """Whatever training writes into a card has its words on a German page."""

    @pytest.fixture(autouse=True)
    def german(self, service: Flask) -> Iterator[None]:
        with service.test_request_context("/?lang=de"):
            yield

    @pytest.mark.parametrize("name", architectures())
    def test_layers(self, name: str) -> None:
        english = architecture(name).summary
        left = set(re.findall(r"[^\W\d_]{2,}", cards.layers(english))) & set(english.split())
        assert all(word[0].isupper() for word in left), left  # a name, such as Keras's Dense

    @pytest.mark.parametrize("name", [field.name for field in fields(Recipe)][1:])
    def test_settings(self, name: str) -> None:
        assert cards.setting_name(name) != name

    @pytest.mark.parametrize(
        "value", [True, False, "kept", "keras", "pytorch", "plateau", "cosine", "constant"]
    )
    def test_choices(self, value: bool | str) -> None:
        assert cards.setting(value) != str(value)

    @pytest.mark.parametrize("template", SENTENCES)
    def test_sentences_keep_their_values(self, template: str) -> None:
        english = template.format("'a, b'", "1,297", "'c'")
        german = cards.sentence(english)
        assert german != english
        for number, value in enumerate(("'a, b'", "1.297", "'c'")):
            assert (value in german) == (f"{{{number}}}" in template)

    @pytest.mark.parametrize("text", ["", "Made of %s {0} {} 1.2.3.", "1e5 'x"])
    def test_what_another_program_wrote_stays_as_it_is(self, text: str) -> None:
        assert cards.sentence(text) == cards.layers(text) == text

    def test_numbers(self) -> None:
        assert [cards.setting(number) for number in (32, 0.0002, 1e-5, 0.0)] == [
            "32",
            "0,0002",
            "0,00001",
            "0",
        ]
        assert [cards.setting(number) for number in (5e-324, -1e9)] == [
            "0,000000000000",
            "-1.000.000.000",
        ]

    @pytest.mark.parametrize("number", ["9" * 5000, "1e400", "1e-9999999999999999999"])
    def test_a_sentence_with_a_number_of_no_size_stays_as_it_is(self, number: str) -> None:
        text = EXCLUDED.format(number, "'a'")
        assert cards.sentence(text) == text


class TestChoice:
    @pytest.mark.parametrize(
        ("address", "accepted", "chosen"),
        [
            ("/", None, "en"),
            ("/", "de", "de"),
            ("/", "de-CH;q=0.8,en;q=0.5", "de"),
            ("/", "fr, de;q=0.5", "de"),
            ("/", "fr", "en"),
            ("/", "en-GB,de;q=0.9", "en"),
            ("/", "*", "en"),
            ("/", ";;q=,,%", "en"),
            ("/?lang=de", "en", "de"),
            ("/?lang=en", "de", "en"),
            ("/?lang=tlh", "de", "de"),
            ("/?lang=../de", None, "en"),
            ("/?lang=", None, "en"),
        ],
    )
    def test_the_address_goes_before_the_browser(
        self, client: FlaskClient, address: str, accepted: str | None, chosen: str
    ) -> None:
        headers = {**HTML, **({"Accept-Language": accepted} if accepted else {})}
        answer = client.get(address, headers=headers)
        assert f'<html lang="{chosen}">' in answer.text
        assert "Accept-Language" in answer.headers["Vary"]
        assert "Set-Cookie" not in answer.headers

    def test_links_and_forms_keep_what_was_asked_for(
        self, client: FlaskClient, scan: bytes
    ) -> None:
        for page in ("/", "/ scan", "/how", "/models", "/models/mobilenet-v2/1"):
            html = show(client, scan, page, "de")
            given = re.findall(
                r'(?:href|action|formaction|data-parts|data-address)="(/[^"]*)"', html
            )
            for address in given:
                is_file = address.startswith(("/static/", "/api/models")) or "." in address
                is_file = is_file or address.endswith(MANIFEST_FILE)
                is_list = address == "/models"  # the form of the list has a field for it
                is_other = address.endswith("lang=en")
                assert is_file or is_list or is_other or "lang=de" in address, address
        assert '<input type="hidden" name="lang" value="de">' in show(client, scan, "/models", "de")
        assert client.get("/how", headers=HTML).text.count("?lang=") == 1  # the other language's

    def test_there_is_a_link_to_the_same_page_in_the_other_language(
        self, client: FlaskClient, scan: bytes
    ) -> None:
        page = client.get("/models?text=cnn&lang=de", headers=HTML).text
        assert '<a href="?text=cnn&amp;lang=en" lang="en" hreflang="en">English</a>' in page
        page = show(client, scan, "/compare scan", "de")
        assert '<a href="/?lang=en" lang="en" hreflang="en">English</a>' in page

    def test_files_of_a_report_are_where_they_were(self, client: FlaskClient, scan: bytes) -> None:
        html = show(client, scan, f"/models/reports/{RESULT.id}", "de")
        found = re.findall(r'(?:href|src)="(/models/reports/[^"?]+\.\w+)"', html)
        assert found
        for address in found:
            with client.get(address) as answer:
                assert answer.status_code == 200


class TestPrograms:
    def test_the_api_stays_english(self, client: FlaskClient, scan: bytes) -> None:
        for path, data in (("/api/predict", scan), ("/api/predict", b"a letter"), ("/v2", None)):
            answers = [
                client.open(
                    path,
                    method="GET" if data is None else "POST",
                    data=data,
                    headers={"Accept-Language": tag, "Content-Type": "image/jpeg"},
                )
                for tag in ("en", "de")
            ]
            assert answers[0].data == answers[1].data
            assert "Accept-Language" not in answers[1].headers.get("Vary", "")

    def test_so_does_its_report(self, client: FlaskClient, scan: bytes) -> None:
        headers = {"Accept-Language": "de", "Content-Type": "image/jpeg"}
        answer = client.post("/api/report", data=scan, headers=headers)
        text = PdfReader(io.BytesIO(answer.data)).pages[0].extract_text()
        assert "Measured accuracy" in text


class TestSentences:
    @pytest.fixture(autouse=True)
    def german(self, service: Flask) -> Iterator[None]:
        with service.test_request_context("/?lang=de"):
            yield

    def test_a_message_has_its_values_written_as_in_the_language(self) -> None:
        message = messages.Message(
            "uncertain", {"confidence": 0.62, "limit": 0.7}, subject="a: b.jpg"
        )
        assert tell(message).startswith("a: b.jpg: ")
        assert "nur 62\u00a0%." in tell(message)

    @pytest.mark.parametrize("data", [b"", b"a letter", b"GIF89a", b"\xff\xd8\xff\xe0 cut"])
    def test_what_is_wrong_with_a_file_is_known(self, data: bytes) -> None:
        with pytest.raises(ScanError) as caught:
            read_picture(data)
        assert tell(caught.value.message) != str(caught.value)

    def test_numbers(self) -> None:
        assert write_percent(0.9712, 1) == "97,1\u00a0%"
        assert write_decimal(2263108, 0) == "2.263.108"


@pytest.mark.browser
def test_a_german_visitor_predicts_a_scan(
    open_page: Callable[..., BrowserPage], scan: bytes
) -> None:
    page = open_page(locale="de-DE")
    choose(page, scan)
    assert page.locator("html").get_attribute("lang") == "de"
    result = page.locator("article.result")
    assert "Konfidenz" in result.inner_text()
    assert "Gemessene Genauigkeit" in result.inner_text()
    page.get_by_role("link", name="English").click()
    page.get_by_role("heading", name="What does this brain scan show?").wait_for()
    page.get_by_role("link", name="How it works").click()
    page.get_by_role("heading", name="How does a model read a scan?").wait_for()
