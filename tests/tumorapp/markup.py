"""The pages as the server renders them: sent for and read without a browser."""

import base64
import io
from collections.abc import Iterator
from html.parser import HTMLParser

from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}

Attributes = dict[str, str]


class Page(HTMLParser):
    """The elements of a page, in order, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, Attributes]] = []
        self.pieces: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())

    def all(self, tag: str) -> Iterator[Attributes]:
        return (attributes for name, attributes in self.elements if name == tag)

    def by_id(self, name: str) -> Attributes:
        """Give the first element with this id: those in templates come last."""
        return next(found for _, found in self.elements if found.get("id") == name)


def send(client: FlaskClient, data: bytes | None, path: str = "/", **fields: str) -> TestResponse:
    image = {} if data is None else {"image": (io.BytesIO(data), fields.pop("name", "scan.jpg"))}
    return client.post(path, data={**fields, **image}, headers=HTML)


def read_picture(address: str) -> Image.Image:
    head, _, data = address.partition(",")
    assert head in ("data:image/png;base64", "data:image/webp;base64")
    return Image.open(io.BytesIO(base64.b64decode(data)))
