"""The names of files that others chose: as they can be stored and shown."""

import re

from werkzeug.datastructures import FileStorage
from werkzeug.http import parse_options_header

# Control characters, ends of lines, and marks that turn the direction of text: with one of those,
# "scan\u202egnp.exe" is shown as "scanexe.png".
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

_BACKSLASH = re.compile(r'\\(["\\])?')  # and what it escapes
_LONGEST_NAME = 255


def shorten_name(name: str) -> str:
    """Give the end of a name, which tells most, in characters that can be stored and shown."""
    return clean_name(name.encode("utf-8", "replace").decode("utf-8"))[-_LONGEST_NAME:]


def clean_name(name: str) -> str:
    """Give a file's name with a visible sign (U+FFFD) for what would change how text is shown."""
    return _INVISIBLE.sub("\N{REPLACEMENT CHARACTER}", name)


def name_part(part: FileStorage) -> str:
    """Give the name of a form's file; a backslash that escapes nothing is part of it.

    Browsers do not escape backslashes, and werkzeug drops each that could escape.
    """
    said = part.headers.get("Content-Disposition", "")
    if "\\" not in said:
        return part.filename or ""
    escaped = _BACKSLASH.sub(lambda found: found[0] if found[1] else r"\\", said)
    return parse_options_header(escaped)[1].get("filename", "")
