"""The scan without the marked region, in a real browser."""

from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask

from tests.cards import LESION_NETWORK
from tests.tumorapp.pages import Page, choose
from tumorapp import create_app

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, publish_model: Callable[..., Path]) -> Flask:
    root = tmp_path_factory.mktemp("models")
    publish_model(root, **LESION_NETWORK)
    return create_app({"MODELS_DIR": root, "JOBS_DIR": root / "jobs"})


def test_it_comes_on_request_and_goes_with_its_scan(
    page: Page, draw_scan: Callable[..., bytes]
) -> None:
    choose(page, draw_scan("PNG"), "first.png")
    page.get_by_role("button", name="And without the marked region?").click()
    page.locator("section#counterfactual").wait_for()
    assert page.evaluate("document.activeElement.id") == "counterfactual-title"
    assert page.locator(".pair .view").count() == 2
    choose(page, draw_scan("TIFF"), "second.tiff")
    assert page.locator("section#counterfactual").count() == 0
    assert page.get_by_role("button", name="And without the marked region?").is_visible()
