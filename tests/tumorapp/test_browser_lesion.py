"""The region that a model marks, in a real browser: shown, hidden and faded."""

from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask

from tests.cards import VERDICTS
from tests.tumorapp.pages import Page, choose, hand_over, image, wait_for_result
from tumorapp import create_app

pytestmark = pytest.mark.browser

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, publish_model: Callable[..., Path]) -> Flask:
    """The application with a model that marks a tumour, one that finds none, one that refuses."""
    root = tmp_path_factory.mktemp("models")
    publish_model(root, "mobilenet-v2", **VERDICTS["tumor"])
    publish_model(root, "nothing", **VERDICTS["no-tumor"])
    publish_model(root, "refusing", **VERDICTS["not-recognised"])
    return create_app({"MODELS_DIR": root, "JOBS_DIR": tmp_path_factory.mktemp("jobs")})


def ask(page: Page, model: str) -> None:
    page.select_option("#model", model)
    wait_for_result(page, "scan.png", model)


class TestOutline:
    def test_it_lies_around_the_bright_spot(
        self, page: Page, draw_scan: Callable[..., bytes]
    ) -> None:
        choose(page, draw_scan("PNG", width=200, height=200), "scan.png")
        stage = page.locator("#stage").bounding_box()
        region = page.locator("#lesion polygon").bounding_box()
        side = stage["width"]
        assert (region["x"] - stage["x"]) / side == pytest.approx(0.5, abs=0.04)
        assert (region["y"] - stage["y"]) / side == pytest.approx(0.45, abs=0.04)
        assert region["width"] / side == pytest.approx(0.2, abs=0.07)
        assert "The model marks this region" in page.locator("#caption").inner_text()

    def test_the_box_and_the_key_show_and_hide_it(self, page: Page, scan: bytes) -> None:
        choose(page, scan)
        box = page.get_by_label("Show the marked region")
        assert page.locator("#lesion").is_visible()
        box.uncheck()
        assert page.locator("#lesion").is_hidden()
        page.locator("#model").focus()
        page.keyboard.press("Alt+h")
        assert page.locator("#lesion").is_visible()
        assert box.is_checked()
        page.keyboard.press("Alt+h")
        assert page.locator("#lesion").is_hidden()
        choose(page, scan, "another.jpg")  # what the visitor chose stays
        assert page.locator("#lesion").is_hidden()

    def test_it_can_be_faded(self, page: Page, scan: bytes) -> None:
        choose(page, scan)
        slider = page.get_by_label("Opacity")
        slider.focus()
        page.keyboard.press("Home")
        opacity = "lesion => getComputedStyle(lesion).opacity"
        assert page.locator("#lesion").evaluate(opacity) == "0.1"

    def test_other_answers_move_nothing(self, page: Page, draw_scan: Callable[..., bytes]) -> None:
        choose(page, draw_scan("PNG"), "scan.png")
        places = "['image', 'outline'].map(id => document.getElementById(id).offsetTop)"
        before = page.evaluate(places)
        for model in ("nothing", "refusing"):
            ask(page, model)
            assert page.locator("#lesion").is_hidden()
            assert page.locator("#heatmap").is_hidden()
            assert page.evaluate(places) == before

    def test_without_javascript(self, open_page: Open, scan: bytes) -> None:
        page = open_page(java_script_enabled=False)
        page.set_input_files("#image", image(scan))
        page.get_by_role("button", name="Predict").click()
        wait_for_result(page, "scan.jpg")
        assert page.locator("#lesion polygon").is_visible()
        page.get_by_label("Show the marked region").uncheck()
        assert page.locator("#lesion").is_hidden()

    def test_a_table_outlines_it_on_the_small_pictures(self, page: Page, scan: bytes) -> None:
        hand_over(page, "drop", [("one.jpg", scan), ("two.jpg", scan)])
        page.locator("#many-note", has_text="All 2 scans are done").wait_for()
        page.locator("#many-table .framed polygon").nth(1).wait_for()
        picture, region = (
            page.locator(f"#many-table .framed {part}").first.bounding_box()
            for part in ("img", "polygon")
        )
        middle = region["x"] + region["width"] / 2 - picture["x"]
        assert middle / picture["width"] == pytest.approx(0.6, abs=0.08)


class TestNotRecognised:
    def test_what_the_model_would_have_said_is_behind_a_click(
        self, page: Page, draw_scan: Callable[..., bytes]
    ) -> None:
        choose(page, draw_scan("PNG"), "scan.png")
        size = "title => parseFloat(getComputedStyle(title).fontSize)"
        large = page.locator(".verdict h2").evaluate(size)
        ask(page, "refusing")
        assert page.locator(".verdict h2").evaluate(size) < 0.7 * large
        bars = page.locator("#result .bars")
        assert bars.is_hidden()
        page.get_by_text("What the model would have said").click()
        assert bars.is_visible()

    def test_the_history_and_the_comparison_name_it(self, page: Page, scan: bytes) -> None:
        page.get_by_label("Keep a history").check()
        page.select_option("#model", "refusing")
        page.set_input_files("#image", image(scan))
        wait_for_result(page, "scan.jpg", "refusing")
        kept = page.locator("#history-list .found")
        kept.wait_for()
        assert kept.inner_text() == "Not recognised as an MRI slice of a head"
        page.get_by_role("button", name="Compare all").click()
        page.locator("section#comparison").wait_for()
        assert page.locator(".opinions .small-view polygon").count() == 1
