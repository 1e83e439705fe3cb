"""Behind a proxy that gives the service only a part of its addresses, in a real browser."""

from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tests.tumorapp.pages import Page, choose
from tests.tumorapp.servers import serve_here

pytestmark = pytest.mark.browser

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def address(app: Flask) -> Iterator[str]:
    with serve_here(DispatcherMiddleware(NotFound(), {"/scans": app})) as address:
        yield f"{address}/scans/"


def test_a_scan_is_predicted(page: Page, scan: bytes) -> None:
    choose(page, scan, "head.jpg")
    page.locator("#result .verdict").wait_for()
    page.get_by_role("link", name="How it works").click()
    page.locator("#steps > li").first.wait_for()


def test_the_operations_are_shown_and_can_be_tried(open_page: Open) -> None:
    page = open_page("api/docs")
    page.get_by_role("button", name="Read and try them here").click()
    assert page.get_by_role("combobox", name="Server").input_value() == "/scans"
    operation = page.locator("#operations-images-api_list_models")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    operation.locator(".live-responses-table .response-col_status", has_text="200").wait_for()
    assert "/scans/api/models" in operation.locator(".request-url").text_content()
