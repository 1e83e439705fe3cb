"""Gives Babel the titles and texts of problems and warnings; `babel.cfg` names it."""

from collections.abc import Iterator
from typing import Any

from brainscan.messages import KINDS


def extract_messages(*_: Any, **__: Any) -> Iterator[tuple[int, str, str, list[str]]]:
    """Give each text once for the catalogues, as Babel asks for it: line, function, text, notes."""
    texts = [text for kind in KINDS.values() for text in (kind.title, kind.text)]
    for text in dict.fromkeys(texts):
        if text not in ("", "%(reason)s"):
            yield 1, "", text, []
