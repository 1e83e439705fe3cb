"""What the tests in a real browser do with the page."""

import time
from typing import Any

Page = Any  # playwright is not there wherever this file is read

TEXT_FILE = {"name": "letter.txt", "mimeType": "text/plain", "buffer": b"Dear doctor"}


def image(data: bytes, name: str = "scan.jpg") -> dict[str, Any]:
    return {"name": name, "mimeType": "image/jpeg", "buffer": data}


def wait_for_result(page: Page, filename: str, model: str = "mobilenet-v2") -> None:
    page.locator("article.result", has_text=filename).filter(has_text=f"{model}, ").wait_for()


def choose(page: Page, data: bytes, filename: str = "scan.jpg") -> None:
    page.set_input_files("#image", image(data, filename))
    wait_for_result(page, filename)


def hand_over(
    page: Page, event: str, files: list[tuple[str, bytes]], texts: dict[str, str] | None = None
) -> None:
    """Drop or paste files, or texts of a type each, onto the page, as the browser does."""
    page.evaluate(
        """([event, files, texts]) => {
          const data = new DataTransfer();
          for (const [type, text] of Object.entries(texts)) data.setData(type, text);
          for (const [name, bytes] of files) {
            data.items.add(new File([new Uint8Array(bytes)], name));
          }
          document.body.dispatchEvent(event === "drop"
            ? new DragEvent(event, { dataTransfer: data, bubbles: true, cancelable: true })
            : new ClipboardEvent(event, { clipboardData: data, bubbles: true, cancelable: true }));
        }""",
        [event, [(name, list(data)) for name, data in files], texts or {}],
    )


def field_holds(page: Page) -> list[str]:
    names: list[str] = page.eval_on_selector("#image", "field => [...field.files].map(f => f.name)")
    return names


def wait_until(page: Page, expression: str, seconds: float = 5) -> None:
    """Ask again until a JavaScript expression holds.

    Playwright's own `wait_for_function` evaluates strings in the page, which its policy forbids.
    """
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"{expression} does not hold"
        page.wait_for_timeout(20)
