"""The page in a real browser: one scan, from the field to its result."""

import io
import threading
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from tests.tumorapp.pages import (
    TEXT_FILE,
    Page,
    choose,
    field_holds,
    hand_over,
    image,
    wait_for_result,
    wait_until,
)

pytestmark = pytest.mark.browser

Draw = Callable[..., bytes]


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
        told = page.locator(".hint", has_text="The scan is not kept")
        assert not any(one.is_visible() for one in told.all())  # with the script it is kept
        assert page.url.endswith("/")
        spoken = page.locator("#status").inner_text()
        assert page.locator(".result h2").inner_text() in spoken
        assert "confidence" in spoken

    def test_a_dropped_file(self, page: Page, scan: bytes) -> None:
        hand_over(page, "drop", [("first.jpg", scan)])
        wait_for_result(page, "first.jpg")
        assert field_holds(page) == ["first.jpg"]

    def test_an_image_that_a_page_shows_is_dragged(self, page: Page) -> None:
        sample = page.locator(".samples img").first.bounding_box()
        stage = page.locator("#stage").bounding_box()
        mouse = page.context.new_cdp_session(page)  # Playwright's own drags without the file
        moves = ("mousePressed", sample), ("mouseMoved", stage), ("mouseMoved", stage)
        for event, box in (*moves, ("mouseReleased", stage)):
            place = {"x": box["x"] + 9, "y": box["y"] + 9}
            button = {"button": "left", "buttons": 1, "clickCount": 1}
            mouse.send("Input.dispatchMouseEvent", {"type": event, **place, **button})
        wait_for_result(page, "slice-1.webp")

    def test_a_pasted_image(self, open_page: Callable[..., Page]) -> None:
        page = open_page(permissions=["clipboard-read", "clipboard-write"])
        page.evaluate(
            """async () => {
              const canvas = document.createElement("canvas");
              canvas.getContext("2d").drawImage(document.querySelector(".samples img"), 0, 0);
              const image = await new Promise((resolve) => canvas.toBlob(resolve));
              await navigator.clipboard.write([new ClipboardItem({ "image/png": image })]);
            }"""
        )
        page.keyboard.press("Control+V")
        wait_for_result(page, "image.png")

    @pytest.mark.parametrize(
        ("path", "event", "kind"), [("", "drop", "text/uri-list"), ("how", "paste", "text/plain")]
    )
    def test_an_address_is_not_loaded(
        self, open_page: Callable[..., Page], path: str, event: str, kind: str
    ) -> None:
        page = open_page(path)
        hand_over(page, event, [], {kind: "https://example.org/scan.png"})
        assert "Save the image" in page.get_by_role("alert").inner_text()

    def test_pasted_text_is_left_alone(self, page: Page) -> None:
        hand_over(page, "paste", [], {"text/plain": "Dear doctor"})
        assert page.locator("#error").is_hidden()
        assert page.locator(".invitation").is_visible()

    def test_a_scan_that_the_browser_cannot_show(self, page: Page, draw_scan: Draw) -> None:
        choose(page, draw_scan("TIFF", mode="RGB"), "scan.tiff")
        assert page.locator("img#scan").get_attribute("src").startswith("data:image/webp")
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
    def test_it_is_switched_and_weakened_from_the_keyboard(self, page: Page, scan: bytes) -> None:
        choose(page, scan)
        page.locator("#heatmap").focus()
        page.keyboard.press("Space")
        assert page.locator("#heat").is_hidden()
        assert page.locator("#scan").is_visible()
        page.keyboard.press("Space")
        assert page.locator("#heat").is_visible()
        page.locator("#strength").focus()
        page.keyboard.press("Home")
        page.select_option("#model", "binary-cnn")
        wait_for_result(page, "scan.jpg", "binary-cnn")
        assert page.locator("#heat").evaluate("heat => getComputedStyle(heat).opacity") == "0.1"


class TestLookingCloser:
    def test_zoom_keeps_the_middle_and_the_arrow_keys_move_it(
        self, open_page: Callable[..., Page], scan: bytes
    ) -> None:
        page = open_page(reduced_motion="reduce")
        choose(page, scan)
        assert page.evaluate("document.getAnimations().length") == 0  # as was asked for
        side = page.locator("#scan").bounding_box()["width"]
        page.get_by_label("Zoom").fill("200")
        assert page.locator("#scan").bounding_box()["width"] == pytest.approx(2 * side, abs=1)
        assert page.locator("#heat").bounding_box() == page.locator("#scan").bounding_box()
        stage = page.locator("#stage")
        middle = "box => [(box.scrollLeft + box.clientWidth / 2) / box.scrollWidth]"
        assert stage.evaluate(middle) == [pytest.approx(0.5, abs=0.01)]
        stage.focus()
        before = stage.evaluate("box => box.scrollLeft")
        page.keyboard.press("ArrowRight")
        wait_until(page, f"document.getElementById('stage').scrollLeft > {before}")

    def test_brightness_and_contrast_are_of_the_scan_and_are_reset(
        self, page: Page, scan: bytes
    ) -> None:
        choose(page, scan)
        page.get_by_label("Brightness").fill("150")
        page.get_by_label("Contrast").fill("200")
        look = "scan => getComputedStyle(scan).filter"
        assert page.locator("#scan").evaluate(look) == "brightness(1.5) contrast(2)"
        assert page.locator("#heat").evaluate(look) == "none"
        page.get_by_role("button", name="Reset the view").click()
        assert page.locator("#scan").evaluate(look) == "brightness(1) contrast(1)"


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
        assert page.get_by_text("This is still the result for good.png.").is_visible()
        assert page.locator("#scan").evaluate("scan => scan.naturalWidth") == 200
        assert page.locator("#heat").is_visible()
        assert field_holds(page) == ["good.png"]
        choose(page, draw_scan("PNG"), "next.png")
        assert page.locator("#error").is_hidden()
        assert page.get_by_text("This is still the result").is_hidden()

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

    @pytest.mark.parametrize(
        ("path", "status", "told"),
        [
            ("", 413, "too large for a proxy"),
            ("", 502, "a proxy did"),
            ("", 401, "status 401"),
            ("how", 413, "too large for a proxy"),
        ],
    )
    def test_an_answer_that_is_not_from_here(
        self, open_page: Callable[..., Page], scan: bytes, path: str, status: int, told: str
    ) -> None:
        page = open_page(path)
        foreign = {"status": status, "content_type": "text/html", "body": "<h1>Not from here</h1>"}
        page.route(
            "**",
            lambda route: (
                route.fulfill(**foreign) if route.request.method == "POST" else route.continue_()
            ),
        )
        page.set_input_files("#image", image(scan))
        page.get_by_role("alert").filter(has_text=told).wait_for()
        assert "Not from here" not in page.content()


class TestWithoutJavaScript:
    @pytest.fixture
    def page(self, open_page: Callable[..., Page]) -> Page:
        return open_page(java_script_enabled=False)

    def test_the_form_predicts(self, page: Page, scan: bytes) -> None:
        assert "drop" not in page.locator(".invitation").inner_text()
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

    def test_the_scan_has_to_be_chosen_again(self, page: Page, scan: bytes) -> None:
        told = page.locator(".hint", has_text="The scan is not kept")
        assert told.count() == 0
        page.set_input_files("#image", image(scan))
        page.get_by_role("button", name="Predict").click()
        wait_for_result(page, "scan.jpg")
        assert [one.is_visible() for one in told.all()] == [True, True]  # at either set of buttons
        page.set_input_files("#image", image(scan))
        page.get_by_role("button", name="See every step").click()
        page.get_by_role("heading", name="How does a model read a scan?").wait_for()

    def test_an_error_is_told_at_the_form(self, page: Page) -> None:
        page.set_input_files("#image", TEXT_FILE)
        page.get_by_role("button", name="Predict").click()
        page.get_by_role("alert").wait_for()
        assert "letter.txt: The file is not an image" in page.get_by_role("alert").inner_text()
        assert page.locator("#image").is_visible()


class TestLooks:
    def test_it_fits_and_nothing_is_complained_of(
        self, open_page: Callable[..., Page], scan: bytes
    ) -> None:
        page = open_page()
        choose(page, scan, f"{'a-very-long-name' * 8}.jpg")
        page.set_input_files("#image", TEXT_FILE)
        page.get_by_role("alert").wait_for()
        for width in (320, 800, 1920):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") == width

    @pytest.mark.parametrize(("width", "height"), [(360, 740), (390, 844), (1280, 720)])
    def test_picture_and_answer_are_on_one_screen(
        self, open_page: Callable[..., Page], scan: bytes, width: int, height: int
    ) -> None:
        page = open_page(viewport={"width": width, "height": height}, reduced_motion="reduce")
        choose(page, scan)
        sides = "document.querySelector('%s').getBoundingClientRect()"
        wait_until(page, f"{sides % '.confidence'}.bottom < innerHeight")
        assert page.evaluate(f"{sides % '#stage'}.top") > -50  # some black above the head

    def test_a_key_is_told_only_where_there_are_keys(
        self, open_page: Callable[..., Page], scan: bytes
    ) -> None:
        phone = {"width": 390, "height": 844}
        for options, shown in ({"has_touch": True, "is_mobile": True}, False), ({}, True):
            page = open_page(viewport=phone, **options)
            choose(page, scan)
            page.get_by_text("Adjust the view").click()
            assert page.get_by_label("Show where the model looked").is_visible()
            assert page.locator("#heat-hint").is_visible() is shown

    def test_the_keyboard_reaches_everything_in_order(self, page: Page, scan: bytes) -> None:
        choose(page, scan)
        page.locator("body").evaluate("body => { document.activeElement.blur(); }")
        reached = []
        for _ in range(30):
            page.keyboard.press("Tab")
            reached.append(
                page.evaluate("document.activeElement.id || document.activeElement.className")
            )
        order = ["skip", "brand", "heatmap", "strength", "image", "model"]
        assert [name for name in reached if name in order] == order
