"""The models' pages in a real browser."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask

from brainscan.bundle.study import Result, keep_result
from tests.cards import RESULT, draw_measurement, draw_up_card
from tests.tumorapp.pages import Page, wait_until
from tumorapp import create_app

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, publish_model: Callable[..., Path]) -> Flask:
    """The application with two models and a study of twelve rows."""
    root, study = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("study")
    publish_model(root, "binary-cnn")
    publish_model(root, "mobilenet-v2")
    for number in range(12):
        keep_result(study, make_result(number))
    jobs = tmp_path_factory.mktemp("jobs")
    return create_app({"MODELS_DIR": root, "STUDY_DIR": study, "JOBS_DIR": jobs})


def make_result(number: int) -> Result:
    accuracy = 0.6 + number / 40
    measured = draw_measurement(
        accuracy=accuracy, loss=1 - accuracy, seconds_per_epoch=None if number == 5 else 1.5
    )
    return replace(
        RESULT,
        id=f"row-{number}",
        document="001" if number % 2 else "000",
        row=f"row {number}",
        card=draw_up_card(f"cnn-{number}", measurement=measured, parameters=1000 * (12 - number)),
    )


class TestLeaderboard:
    def read(self, page: Page) -> list[str]:
        names: list[str] = page.locator("#leaderboard tbody tr:visible th a").all_inner_texts()
        return names

    def test_it_sorts_in_place_and_as_the_server_does(self, open_page: Callable[..., Page]) -> None:
        page = open_page("models")
        page.evaluate("window.kept = true")
        other = open_page("models", java_script_enabled=False)
        for name in ("Parameters", "Parameters", "Loss", "Model", "Model"):
            header = page.get_by_role("columnheader", name=name, exact=True)
            before = page.url
            header.get_by_role("link").click()
            page.wait_for_url(lambda url, before=before: url != before)
            assert header.get_attribute("aria-sort") in {"ascending", "descending"}
            assert header.get_by_role("link").evaluate("link => link === document.activeElement")
            assert page.locator("[aria-sort]").count() == 1
            other.goto(page.url)
            assert self.read(page) == self.read(other)
        assert page.evaluate("window.kept")
        assert self.read(page)[:2] == ["mobilenet-v2", "cnn-11"]

    def test_it_filters_in_place(self, open_page: Callable[..., Page]) -> None:
        page = open_page("models")
        count = page.get_by_role("status")
        page.get_by_label("Document").select_option("001")
        count.get_by_text("6 of 14 rows").wait_for()
        page.get_by_label("Search").fill("CNN-11")
        count.get_by_text("1 of 14 rows").wait_for()
        page.reload()
        assert self.read(page) == ["cnn-11"]
        page.get_by_label("Search").fill("heart")
        page.get_by_text("No row matches").wait_for()

    def test_without_javascript_links_and_a_button_do_the_same(
        self, open_page: Callable[..., Page]
    ) -> None:
        page = open_page("models", java_script_enabled=False)
        page.get_by_label("Document").select_option("000")
        page.get_by_role("button", name="Show").click()
        page.get_by_role("link", name="Parameters").click()
        assert self.read(page) == [f"cnn-{number}" for number in (10, 8, 6, 4, 2, 0)]

    @pytest.mark.parametrize("path", ["models", "models/reports/row-3"])
    @pytest.mark.parametrize("width", [320, 1440])
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
        region = page.get_by_role("region", name="Models and rows")
        region.focus()
        page.keyboard.press("ArrowRight")
        wait_until(page, "document.querySelector('.scroller').scrollLeft > 0")
