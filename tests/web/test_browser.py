"""The page in a real browser: Chromium, driven by Playwright, against a server on a free port."""

import io
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from PIL import Image
from werkzeug.serving import make_server

from training.study.results import Result, append_result
from tumorapp import create_app

playwright = pytest.importorskip(
    "playwright.sync_api", reason="Playwright is not installed: pip install playwright"
)

pytestmark = pytest.mark.browser

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
TEXT_FILE = {"name": "letter.txt", "mimeType": "text/plain", "buffer": b"Dear doctor"}

Page = Any  # playwright is not there wherever this file is read
Draw = Callable[..., bytes]


def image(data: bytes, name: str = "scan.jpg") -> dict[str, Any]:
    return {"name": name, "mimeType": "image/jpeg", "buffer": data}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, publish_model: Callable[..., Path]) -> Flask:
    """The application with two models and a study of twelve rows."""
    root, study = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("study")
    publish_model(root, "binary-cnn")
    publish_model(root, "mobilenet-v2")
    for number in range(12):
        append_result(study, make_result(number))
    return create_app({"MODELS_DIR": root, "STUDY_DIR": study})


def make_result(number: int) -> Result:
    accuracy = 0.6 + number / 40
    return Result(
        id=f"row-{number}",
        document="001" if number % 2 else "000",
        row=f"row {number}",
        model=f"cnn-{number}",
        method="fine-tune",
        head="softmax",
        budget="quick",
        protocol="random-80-20",
        data=("nickparvar",),
        size=96,
        epochs=4,
        epochs_run=4,
        seconds_per_epoch=None if number == 5 else 1.5,
        parameters=1000 * (12 - number),
        device="CPU",
        date="2026-11-21",
        test_scans=100,
        accuracy=accuracy,
        balanced_accuracy=accuracy,
        f1_macro=accuracy,
        loss=1 - accuracy,
        roc_auc=accuracy,
        interval=(accuracy - 0.1, accuracy + 0.1),
        leaks={"scans": 10, "accuracy_with": 1.0, "accuracy_without": accuracy},
        published={"accuracy": 0.9, "loss": None, "f1": None},
        command="flask study 000",
    )


@pytest.fixture(scope="module")
def address(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=list(OPTIONS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any, address: str) -> Iterator[Callable[..., Page]]:
    """Open the page in a context of its own; whatever the browser complains of fails the test."""
    contexts, complaints = [], []

    def open_page(path: str = "", **options: Any) -> Page:
        context = browser.new_context(**options)
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(address + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    # That a request was refused or did not get through is told to the visitor, not a fault.
    assert [text for text in complaints if not text.startswith("Failed to load resource")] == []


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    return open_page()


def wait_for_result(page: Page, filename: str, model: str = "mobilenet-v2") -> None:
    page.locator("article.result", has_text=filename).filter(has_text=f"{model}, ").wait_for()


def choose(page: Page, data: bytes, filename: str = "scan.jpg") -> None:
    page.set_input_files("#image", image(data, filename))
    wait_for_result(page, filename)


def hand_over(page: Page, event: str, files: list[tuple[str, bytes]]) -> None:
    """Drop or paste files onto the page, as the browser does."""
    page.evaluate(
        """([event, files]) => {
          const data = new DataTransfer();
          for (const [name, bytes] of files) {
            data.items.add(new File([new Uint8Array(bytes)], name));
          }
          document.body.dispatchEvent(event === "drop"
            ? new DragEvent(event, { dataTransfer: data, bubbles: true, cancelable: true })
            : new ClipboardEvent(event, { clipboardData: data, bubbles: true, cancelable: true }));
        }""",
        [event, [(name, list(data)) for name, data in files]],
    )


def field_holds(page: Page) -> list[str]:
    names: list[str] = page.eval_on_selector("#image", "field => [...field.files].map(f => f.name)")
    return names


class TestOneScan:
    def test_a_chosen_scan_is_shown_beside_its_result(self, page: Page, scan: bytes) -> None:
        choose(page, scan)
        assert page.locator("img#scan").evaluate("scan => scan.naturalWidth") == 200
        assert page.locator(".bars .fill").count() == 4
        widths = [bar.bounding_box()["width"] for bar in page.locator(".bars .fill").all()]
        figures = [float(text.strip("<>%")) for text in page.locator(".bars td").all_inner_texts()]
        assert figures.index(max(figures)) == widths.index(max(widths))
        assert page.locator("#heat").is_visible()
        assert page.locator("#send").is_hidden()
        assert page.url.endswith("/")

    def test_the_result_is_spoken(self, page: Page, scan: bytes) -> None:
        choose(page, scan)
        spoken = page.get_by_role("status").inner_text()
        assert page.locator(".result h2").inner_text() in spoken
        assert "confidence" in spoken

    @pytest.mark.parametrize("event", ["drop", "paste"])
    def test_a_scan_handed_over(self, page: Page, scan: bytes, event: str) -> None:
        hand_over(page, event, [("first.jpg", scan), ("second.jpg", scan)])
        wait_for_result(page, "first.jpg")
        assert field_holds(page) == ["first.jpg"]

    def test_pasted_text_is_left_alone(self, page: Page) -> None:
        hand_over(page, "paste", [])
        assert page.locator("#error").is_hidden()
        assert page.locator(".invitation").is_visible()

    def test_a_scan_that_the_browser_cannot_show(self, page: Page, draw_scan: Draw) -> None:
        choose(page, draw_scan("TIFF", mode="RGB"), "scan.tiff")
        assert page.locator("img#scan").get_attribute("src").startswith("data:image/png")
        page.select_option("#model", "binary-cnn")
        wait_for_result(page, "scan.tiff", "binary-cnn")
        assert page.locator("img#scan").evaluate("scan => scan.naturalWidth") == 200

    def test_the_heat_map_fits_a_scan_that_lies_on_its_side(
        self, page: Page, draw_scan: Draw
    ) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # as a camera held upright writes it
        choose(page, draw_scan("JPEG", width=300, height=200, exif=exif))
        shape = "picture => picture.naturalWidth / picture.naturalHeight"
        assert page.locator("#scan").evaluate(shape) == pytest.approx(2 / 3, abs=0.01)
        assert page.locator("#heat").evaluate(shape) == pytest.approx(2 / 3, abs=0.01)
        assert page.locator("#scan").bounding_box() == page.locator("#heat").bounding_box()


class TestModels:
    def test_another_model_predicts_the_same_scan(self, page: Page, scan: bytes) -> None:
        choose(page, scan)
        page.select_option("#model", "binary-cnn")
        wait_for_result(page, "scan.jpg", "binary-cnn")
        assert page.locator(".bars .fill").count() == 2
        page.select_option("#model", "mobilenet-v2")
        wait_for_result(page, "scan.jpg", "mobilenet-v2")

    def test_a_model_chosen_first_predicts_the_next_scan(self, page: Page, scan: bytes) -> None:
        page.select_option("#model", "binary-cnn")
        page.set_input_files("#image", image(scan))
        wait_for_result(page, "scan.jpg", "binary-cnn")

    def test_the_newest_scan_wins(self, page: Page, draw_scan: Draw) -> None:
        arrived = threading.Event()

        def hold_the_first(route: Any) -> None:
            if arrived.is_set():
                route.continue_()
            arrived.set()  # the first request is never answered

        page.route("**/parts", hold_the_first)
        page.set_input_files("#image", image(draw_scan("PNG", width=300), "slow.png"))
        page.locator("#outcome[aria-busy=true]").wait_for()
        choose(page, draw_scan("PNG", width=100), "quick.png")
        assert page.locator("#outcome").get_attribute("aria-busy") == "false"
        assert page.locator("#scan").evaluate("scan => scan.naturalWidth") == 100


class TestHeatMap:
    def test_it_is_switched_from_the_keyboard(self, page: Page, scan: bytes) -> None:
        choose(page, scan)
        page.locator("#heatmap").focus()
        page.keyboard.press("Space")
        assert page.locator("#heat").is_hidden()
        assert page.locator("#scan").is_visible()
        page.keyboard.press("Space")
        assert page.locator("#heat").is_visible()

    def test_its_strength(self, page: Page, scan: bytes) -> None:
        choose(page, scan)
        page.locator("#strength").focus()
        page.keyboard.press("Home")
        assert page.locator("#heat").evaluate("heat => getComputedStyle(heat).opacity") == "0.1"
        page.select_option("#model", "binary-cnn")
        wait_for_result(page, "scan.jpg", "binary-cnn")
        assert page.locator("#heat").evaluate("heat => getComputedStyle(heat).opacity") == "0.1"


class TestErrors:
    def test_a_text_file_is_refused_at_the_form(self, page: Page) -> None:
        page.set_input_files("#image", TEXT_FILE)
        error = page.get_by_role("alert")
        error.wait_for()
        assert "letter.txt: The file is not an image" in error.inner_text()
        assert page.locator(".invitation").is_visible()
        assert field_holds(page) == []

    def test_a_refused_file_leaves_what_was_there(self, page: Page, draw_scan: Draw) -> None:
        choose(page, draw_scan("PNG"), "good.png")
        blank = io.BytesIO()
        Image.new("L", (64, 64)).save(blank, "PNG")  # the browser shows it, the server refuses it
        page.set_input_files("#image", image(blank.getvalue(), "blank.png"))
        page.get_by_role("alert").wait_for()
        assert "blank" in page.get_by_role("alert").inner_text()
        wait_for_result(page, "good.png")
        assert page.locator("#scan").evaluate("scan => scan.naturalWidth") == 200
        assert page.locator("#heat").is_visible()
        assert field_holds(page) == ["good.png"]
        choose(page, draw_scan("PNG"), "next.png")
        assert page.locator("#error").is_hidden()

    def test_a_file_over_the_limit_is_not_sent(self, page: Page, scan: bytes) -> None:
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.method))
        page.eval_on_selector("form", "form => { form.dataset.maxBytes = 1000; }")
        page.set_input_files("#image", image(scan))
        page.get_by_role("alert").wait_for()
        assert "At most 20 MB" in page.get_by_role("alert").inner_text()
        assert "POST" not in sent

    def test_without_a_connection_the_scan_is_kept(self, page: Page, scan: bytes) -> None:
        page.context.set_offline(True)
        page.set_input_files("#image", image(scan))
        page.get_by_role("alert").wait_for()
        assert "The server did not answer" in page.get_by_role("alert").inner_text()
        assert page.locator("img#scan").is_visible()
        page.context.set_offline(False)
        page.get_by_role("button", name="Predict").click()
        wait_for_result(page, "scan.jpg")
        assert page.locator("#error").is_hidden()
        assert page.locator("#send").is_hidden()

    def test_an_answer_that_is_not_from_here(self, page: Page, scan: bytes) -> None:
        page.route("**/parts", lambda route: route.fulfill(status=502, body="<h1>Bad Gateway"))
        page.set_input_files("#image", image(scan))
        page.get_by_role("alert").wait_for()
        assert "The server did not answer" in page.get_by_role("alert").inner_text()
        assert "Bad Gateway" not in page.content()


class TestWithoutJavaScript:
    @pytest.fixture
    def page(self, open_page: Callable[..., Page]) -> Page:
        return open_page(java_script_enabled=False)

    def test_the_form_predicts(self, page: Page, scan: bytes) -> None:
        page.set_input_files("#image", image(scan))
        page.select_option("#model", "binary-cnn")
        page.get_by_role("button", name="Predict").click()
        wait_for_result(page, "scan.jpg", "binary-cnn")
        assert page.locator("img#scan").is_visible()
        assert page.locator("#model").input_value() == "binary-cnn"
        page.get_by_label("Show where the model looked").uncheck()
        assert page.locator("#heat").is_hidden()
        page.get_by_label("Show where the model looked").check()
        assert page.locator("#heat").is_visible()

    def test_an_error_is_told_at_the_form(self, page: Page) -> None:
        page.set_input_files("#image", TEXT_FILE)
        page.get_by_role("button", name="Predict").click()
        page.get_by_role("alert").wait_for()
        assert "letter.txt: The file is not an image" in page.get_by_role("alert").inner_text()
        assert page.locator("#image").is_visible()

    def test_nothing_is_promised_that_needs_a_script(self, page: Page) -> None:
        assert "drop" not in page.locator(".invitation").inner_text()
        assert page.locator("#strength").is_hidden()


class TestLooks:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width", [320, 800, 1920])
    def test_it_fits_and_nothing_is_complained_of(
        self, open_page: Callable[..., Page], scan: bytes, scheme: str, width: int
    ) -> None:
        page = open_page(color_scheme=scheme, viewport={"width": width, "height": 800})
        choose(page, scan, f"{'a-very-long-name' * 8}.jpg")
        page.set_input_files("#image", TEXT_FILE)
        page.get_by_role("alert").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == width

    def test_the_schemes_differ(self, open_page: Callable[..., Page]) -> None:
        paper = "getComputedStyle(document.body).backgroundColor"
        light, dark = (
            open_page(color_scheme=scheme).evaluate(paper) for scheme in ("light", "dark")
        )
        assert light != dark

    def test_nothing_moves_for_those_who_asked_for_it(
        self, open_page: Callable[..., Page], scan: bytes
    ) -> None:
        page = open_page(reduced_motion="reduce")
        choose(page, scan)
        assert page.evaluate("document.getAnimations().length") == 0

    def test_on_a_phone_the_result_comes_into_view(
        self, open_page: Callable[..., Page], scan: bytes
    ) -> None:
        page = open_page(viewport={"width": 360, "height": 740}, reduced_motion="reduce")
        choose(page, scan)
        page.wait_for_function(
            "document.querySelector('.verdict').getBoundingClientRect().bottom < innerHeight"
        )

    def test_the_keyboard_reaches_everything_in_order(self, page: Page, scan: bytes) -> None:
        choose(page, scan)
        page.locator("body").evaluate("body => { document.activeElement.blur(); }")
        reached = []
        for _ in range(10):
            page.keyboard.press("Tab")
            reached.append(
                page.evaluate("document.activeElement.id || document.activeElement.className")
            )
        order = ["skip", "brand", "image", "heatmap", "strength", "model"]
        assert [name for name in reached if name in order] == order


class TestLeaderboard:
    def read(self, page: Page) -> list[str]:
        names: list[str] = page.locator("#leaderboard tbody tr:visible th a").all_inner_texts()
        return names

    def test_it_sorts_in_place_and_as_the_server_does(self, open_page: Callable[..., Page]) -> None:
        page = open_page("models?columns=all")
        page.evaluate("window.kept = true")
        for name in ("Parameters", "Parameters", "Seconds an epoch", "Model", "Model"):
            header = page.get_by_role("columnheader", name=name, exact=True)
            header.get_by_role("button").click()
            assert header.get_attribute("aria-sort") in {"ascending", "descending"}
            assert page.locator("[aria-sort]").count() == 1
            other = open_page(page.url.split("/", 3)[3], java_script_enabled=False)
            assert self.read(page) == self.read(other)
        assert page.evaluate("window.kept")
        assert self.read(page)[:2] == ["mobilenet-v2", "cnn-11"]

    def test_it_filters_in_place(self, open_page: Callable[..., Page]) -> None:
        page = open_page("models")
        page.get_by_label("Document").select_option("001")
        assert len(self.read(page)) == 6
        page.get_by_label("Search").fill("CNN-11")
        assert self.read(page) == ["cnn-11"]
        assert page.get_by_role("status").inner_text() == "1 of 14 rows"
        page.reload()
        assert self.read(page) == ["cnn-11"]
        page.get_by_label("Search").fill("heart")
        assert page.get_by_text("No row matches").is_visible()

    def test_without_javascript_links_and_a_button_do_the_same(
        self, open_page: Callable[..., Page]
    ) -> None:
        page = open_page("models", java_script_enabled=False)
        page.get_by_label("Document").select_option("000")
        page.get_by_label("All columns").check()
        page.get_by_role("button", name="Show").click()
        page.get_by_role("link", name="Parameters").click()
        assert self.read(page) == [f"cnn-{number}" for number in (10, 8, 6, 4, 2, 0)]
        assert page.get_by_role("columnheader", name="Device").is_visible()

    def test_all_columns_are_one_click_away(self, open_page: Callable[..., Page]) -> None:
        page = open_page("models")
        assert page.get_by_role("columnheader", name="Device").is_hidden()
        page.get_by_label("All columns").check()
        assert page.get_by_role("columnheader", name="Device").is_visible()

    @pytest.mark.parametrize("path", ["models?columns=all", "models/reports/row-3"])
    @pytest.mark.parametrize("width", [320, 820, 1440])
    def test_it_fits_and_nothing_moves(
        self, open_page: Callable[..., Page], path: str, width: int
    ) -> None:
        page = open_page(path, viewport={"width": width, "height": 800})
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        shift = """new Promise((tell) => {
          let sum = 0;
          new PerformanceObserver((list) => {
            for (const entry of list.getEntries()) sum += entry.value;
          }).observe({ type: "layout-shift", buffered: true });
          setTimeout(() => tell(sum), 100);
        })"""
        assert page.evaluate(shift) == 0

    def test_the_table_scrolls_by_the_keyboard(self, open_page: Callable[..., Page]) -> None:
        page = open_page("models", viewport={"width": 390, "height": 800})
        region = page.get_by_role("region", name="How good are the models?")
        region.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function("document.querySelector('.scroller').scrollLeft > 0")

    def test_a_row_leads_to_its_report_and_back(self, open_page: Callable[..., Page]) -> None:
        page = open_page("models")
        page.get_by_role("link", name="cnn-11").click()
        assert page.locator("h1").inner_text() == "cnn-11"
        page.get_by_role("link", name="All models").click()
        assert len(self.read(page)) == 14
