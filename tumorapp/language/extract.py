"""Gives Babel the texts of problems and warnings, and the sentences of cards; see `babel.cfg`."""

from collections.abc import Iterable, Iterator
from typing import Any

from brainscan.bundle.sentences import SENTENCES
from brainscan.messages import KINDS

_Found = Iterator[tuple[int, str, str, list[str]]]  # as Babel asks: line, function, text, notes


def extract_messages(*_: Any, **__: Any) -> _Found:
    """Give each title and text of problems and warnings once."""
    yield from _list(text for kind in KINDS.values() for text in (kind.title, kind.text))


def extract_sentences(*_: Any, **__: Any) -> _Found:
    """Give the sentences of cards."""
    yield from _list(SENTENCES)


def _list(texts: Iterable[str]) -> _Found:
    for text in dict.fromkeys(texts):
        if text not in ("", "%(reason)s"):
            yield 1, "", text, []
