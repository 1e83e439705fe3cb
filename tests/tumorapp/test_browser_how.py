"""How it works, and the report, in a real browser."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from pypdf import PdfReader

from tests.tumorapp.pages import TEXT_FILE, Page, choose, hand_over, image, wait_for_result

pytestmark = pytest.mark.browser

Open = Callable[..., Page]


def wait_for_steps(page: Page, filename: str, model: str) -> None:
    page.locator(
        f"#steps[data-summary='The steps of {filename} with {model} are shown.']"
    ).wait_for()


class TestSteps:
    def test_another_model_keeps_the_scan(self, open_page: Open, scan: bytes) -> None:
        page = open_page("how")
        wait_for_steps(page, "slice-1.webp", "mobilenet-v2")
        page.set_input_files("#image", image(scan, "head.jpg"))
        wait_for_steps(page, "head.jpg", "mobilenet-v2")
        page.get_by_label("Model").select_option("binary-cnn")
        wait_for_steps(page, "head.jpg", "binary-cnn")
        assert "binary-cnn" in page.get_by_role("status").text_content()
        assert page.locator("#steps > li").count() == 7
        # The pictures that refer to the scan show it, and the small maps are not smoothed.
        assert page.locator("use").first.evaluate("use => use.getBoundingClientRect().width") > 100
        shown = page.locator(".maps img").first
        assert shown.evaluate("map => getComputedStyle(map).imageRendering") == "pixelated"

    def test_what_is_refused_is_told_and_the_steps_stay(self, open_page: Open, scan: bytes) -> None:
        page = open_page("how")
        page.set_input_files("#image", image(scan, "head.jpg"))
        wait_for_steps(page, "head.jpg", "mobilenet-v2")
        page.set_input_files("#image", TEXT_FILE)
        page.get_by_role("alert").get_by_text("cannot be read").wait_for()
        wait_for_steps(page, "head.jpg", "mobilenet-v2")
        page.context.set_offline(True)
        page.get_by_role("button", name="Show the steps").click()
        page.get_by_role("alert").get_by_text("did not answer").wait_for()
        page.context.set_offline(False)
        page.set_input_files("#image", image(scan, "head.jpg"))
        page.get_by_role("alert").wait_for(state="detached")

    def test_nothing_runs_over_the_edge(self, open_page: Open) -> None:
        page = open_page("how")
        for width in (320, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") == width


class TestResult:
    def test_its_report_is_a_download(self, page: Page, scan: bytes) -> None:
        choose(page, scan, "head.jpg")
        with page.expect_download() as started:
            page.get_by_role("button", name="Download report").click()
        download = started.value
        assert download.suggested_filename == "head-report.pdf"
        text = PdfReader(io.BytesIO(Path(download.path()).read_bytes())).pages[0].extract_text()
        assert "head.jpg" in text
        assert page.locator("article.result").is_visible()

    def test_its_steps_are_of_the_scan_in_hand(self, page: Page, scan: bytes) -> None:
        choose(page, scan, "head.jpg")
        page.get_by_role("button", name="See every step").click()
        wait_for_steps(page, "head.jpg", "mobilenet-v2")
        assert page.url.endswith("/how")
        page.get_by_label("Model").select_option("binary-cnn")
        wait_for_steps(page, "head.jpg", "binary-cnn")  # not of the sample
        page.go_back()
        wait_for_result(page, "head.jpg", "mobilenet-v2")
        page.goto(page.url)  # another visit starts anew
        assert page.locator(".invitation").is_visible()
        assert page.evaluate("sessionStorage.length") == 0

    def test_a_table_stays_open_behind_the_steps(self, page: Page, scan: bytes) -> None:
        hand_over(page, "drop", [("one.jpg", scan), ("two.jpg", scan)])
        page.locator("#many-note", has_text="All 2 scans are done").wait_for()
        page.get_by_role("button", name="two.jpg").click()
        wait_for_result(page, "two.jpg")
        with page.expect_popup() as opened:
            page.get_by_role("button", name="See every step").click()
        steps = opened.value
        wait_for_steps(steps, "two.jpg", "mobilenet-v2")
        steps.get_by_label("Model").select_option("binary-cnn")
        wait_for_steps(steps, "two.jpg", "binary-cnn")
        assert page.locator("#many-table tbody tr").count() == 2
