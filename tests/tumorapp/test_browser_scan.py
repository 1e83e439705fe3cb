"""One scan in a real browser: samples, all models compared, the crop, the keyboard, print."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.tumorapp.pages import TEXT_FILE, Page, choose, field_holds, image, wait_for_result

pytestmark = pytest.mark.browser

Draw = Callable[..., bytes]


def compare(page: Page) -> None:
    page.get_by_role("button", name="Compare all").click()
    page.locator("section#comparison").wait_for()


class TestSamples:
    def test_one_click_predicts(self, page: Page) -> None:
        page.get_by_role("button", name="No tumour", exact=True).click()
        wait_for_result(page, "slice-2.webp")
        assert field_holds(page) == ["slice-2.webp"]
        assert page.locator("img#scan").evaluate("scan => scan.naturalHeight") == 256
        page.select_option("#model", "binary-cnn")
        wait_for_result(page, "slice-2.webp", "binary-cnn")

    def test_without_a_connection_it_says_so(self, page: Page, scan: bytes) -> None:
        choose(page, scan)
        page.route("**/samples/*", lambda route: route.abort())
        page.get_by_role("button", name="No tumour", exact=True).click()
        page.get_by_role("alert").wait_for()
        assert "The sample did not arrive" in page.get_by_role("alert").inner_text()
        assert field_holds(page) == ["scan.jpg"]


class TestComparison:
    def test_all_models_beside_the_result(self, page: Page, scan: bytes) -> None:
        choose(page, scan)
        page.evaluate("document.addEventListener('predicted', () => { window.again = true; })")
        compare(page)
        rows = page.locator(".opinions tbody tr")
        assert rows.locator("th").all_inner_texts() == ["binary-cnn", "mobilenet-v2"]
        assert "certain enough" in page.locator(".agreement").inner_text()  # one of the two is
        assert page.evaluate("document.activeElement.id") == "comparison-title"
        assert page.locator("article.result").is_visible()
        assert not page.evaluate("window.again")  # the scan was not predicted again

    def test_it_stays_with_its_scan(self, page: Page, draw_scan: Draw) -> None:
        choose(page, draw_scan("PNG"), "first.png")
        compare(page)
        page.select_option("#model", "binary-cnn")
        wait_for_result(page, "first.png", "binary-cnn")
        page.set_input_files("#image", TEXT_FILE)
        page.get_by_role("alert").wait_for()
        assert page.locator("section#comparison").is_visible()
        page.set_input_files("#image", image(draw_scan("TIFF"), "second.tiff"))
        wait_for_result(page, "second.tiff", "binary-cnn")
        assert page.locator("section#comparison").count() == 0

    def test_without_a_connection_the_result_is_kept(self, page: Page, scan: bytes) -> None:
        choose(page, scan)
        page.context.set_offline(True)
        page.get_by_role("button", name="Compare all").click()
        page.get_by_role("alert").wait_for()
        assert page.locator("article.result").is_visible()
        page.context.set_offline(False)
        compare(page)
        assert page.locator("#error").is_hidden()


class TestOverTheScan:
    def test_the_crop_lies_around_the_head(
        self, open_page: Callable[..., Page], draw_scan: Draw
    ) -> None:
        page = open_page(viewport={"width": 1280, "height": 900})  # the stage is square then
        choose(page, draw_scan("PNG", width=200, height=200))
        stage = page.locator("#stage").bounding_box()
        crop = page.locator("#crop rect").bounding_box()
        side = stage["width"]
        assert (crop["x"] - stage["x"]) / side == pytest.approx(0.10, abs=0.02)
        assert (crop["y"] - stage["y"]) / side == pytest.approx(0.07, abs=0.02)
        assert crop["width"] / side == pytest.approx(0.80, abs=0.03)
        page.get_by_label("Show the crop").uncheck()
        assert page.locator("#crop").is_hidden()

    def test_a_key_shows_and_hides_the_heat_map(self, page: Page, scan: bytes) -> None:
        choose(page, scan)
        page.locator("#model").focus()
        page.keyboard.press("Alt+h")
        assert page.locator("#heat").is_hidden()
        page.keyboard.press("h")  # alone it is nobody's but the field's
        assert page.locator("#heat").is_hidden()
        page.keyboard.press("Alt+h")
        assert page.locator("#heat").is_visible()


class TestCopies:
    def test_a_button_copies(self, open_page: Callable[..., Page], scan: bytes) -> None:
        page = open_page(permissions=["clipboard-read", "clipboard-write"])
        choose(page, scan)
        page.get_by_role("button", name="JSON", exact=True).click()
        page.get_by_role("status").get_by_text("Copied.").wait_for()
        copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
        assert copied["filename"] == "scan.jpg"
        page.get_by_role("button", name="curl").click()
        told = page.evaluate("navigator.clipboard.readText()")
        assert told.startswith("curl -F image=@scan.jpg -F model=mobilenet-v2 http://127.0.0.1:")


class TestPrint:
    def test_the_result_alone_is_printed(self, open_page: Callable[..., Page], scan: bytes) -> None:
        page = open_page(color_scheme="dark")
        choose(page, scan)
        compare(page)
        page.evaluate("window.print = () => { window.printed = true; }")
        page.get_by_role("button", name="Print").click()
        assert page.evaluate("window.printed")
        page.emulate_media(media="print")
        for shown in ("img#scan", "article.result", "#comparison", ".notice"):
            assert page.locator(shown).is_visible(), shown
        for hidden in ("#image", "#model", ".samples", ".actions", ".pages", "#history"):
            assert page.locator(hidden).is_hidden(), hidden
        colours = "[document.body].map(getComputedStyle).map(s => s.color + s.backgroundColor)[0]"
        assert page.evaluate(colours) == "rgb(0, 0, 0)rgb(255, 255, 255)"


class TestWithoutJavaScript:
    @pytest.fixture
    def page(self, open_page: Callable[..., Page]) -> Any:
        return open_page(java_script_enabled=False)

    def test_a_sample_is_predicted(self, page: Page) -> None:
        page.get_by_role("button", name="No tumour", exact=True).click()
        wait_for_result(page, "slice-2.webp")
        assert page.locator("img#scan").is_visible()
        assert page.locator("svg#crop").is_visible()
        assert page.get_by_role("button", name="Print").count() == 0

    def test_all_models_are_compared(self, page: Page, scan: bytes) -> None:
        page.set_input_files("#image", image(scan))
        compare(page)
        wait_for_result(page, "scan.jpg")
        assert page.locator(".opinions tbody tr").count() == 2
