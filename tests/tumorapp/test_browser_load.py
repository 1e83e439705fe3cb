"""What a browser loads for a page: little, and each file once."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.tumorapp.pages import Page

pytestmark = pytest.mark.browser

MAX_BYTES = 100_000


def count_bytes(page: Page) -> dict[str, float]:
    """Load the page again with an empty cache; give the bytes that came for each address."""
    page.wait_for_load_state("networkidle")
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.clearBrowserCache")
    addresses: dict[str, str] = {}
    sizes: dict[str, float] = {}

    def note_address(event: dict[str, Any]) -> None:
        addresses[event["requestId"]] = event["request"]["url"]

    def note_size(event: dict[str, Any]) -> None:
        if url := addresses.get(event["requestId"]):
            sizes[url] = event["encodedDataLength"]

    session.on("Network.requestWillBeSent", note_address)
    session.on("Network.loadingFinished", note_size)
    page.reload(wait_until="networkidle")
    return {url: size for url, size in sizes.items() if url.startswith("http")}


@pytest.mark.parametrize("path", ["", "models", "models/mobilenet-v2/1", "how"])
def test_a_first_visit(open_page: Callable[..., Page], path: str) -> None:
    page = open_page(path)
    sizes = count_bytes(page)
    assert page.url in sizes
    assert any("/page.css" in url for url in sizes)
    assert sum(sizes.values()) <= MAX_BYTES, sizes


def test_a_second_visit_brings_no_file_again(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.wait_for_load_state("networkidle")
    page.goto(page.url, wait_until="networkidle")
    transferred = page.evaluate(
        """() => performance.getEntriesByType("resource")
          .filter((entry) => entry.name.includes("/static/"))
          .map((entry) => [entry.name, entry.transferSize])"""
    )
    assert len(transferred) > 2
    assert [name for name, size in transferred if size > 0] == []
