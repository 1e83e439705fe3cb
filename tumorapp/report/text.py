"""Texts as a report has room and characters for them."""

import unicodedata


def make_plain(text: str) -> str:
    """Write a text with the characters that a PDF's own fonts have: "ő" → "o", "脳" → "?".

    Line ends and what turns the direction of writing become spaces.
    """
    return "".join(map(_make_plain, unicodedata.normalize("NFC", text)))


def _make_plain(character: str) -> str:
    if not character.isprintable():
        return " "
    try:
        character.encode("cp1252")
    except UnicodeEncodeError:
        bare = unicodedata.normalize("NFKD", character).encode("ascii", "ignore")
        return bare.decode("ascii") or "?"
    return character


def shorten(text: str, most: int) -> str:
    """Cut a text in its middle to a number of characters, so that a file name keeps its ending."""
    if len(text) <= most:
        return text
    end = most // 3
    return f"{text[: most - end - 1]}…{text[-end:]}"
