"""Images in a JSON body, next to options."""

import base64
import io
import re

import msgspec
from werkzeug.datastructures import FileStorage, MultiDict

from brainscan import Problem
from tumorapp.file_names import clean_name

JSON = "application/json"
JSON_EXAMPLE = '{"images": [{"name": "scan.png", "data": "<base64 or data URL>"}]}'
_DATA_URL = re.compile(r"\s*data:[^,]{0,200};base64,", re.IGNORECASE)


class _JsonImage(msgspec.Struct):
    """An image in a JSON body; `data` is its file in base64, or a data URL of it."""

    data: str
    name: str = ""


def parse_json(body: bytes, field: str) -> tuple[MultiDict[str, str], MultiDict[str, FileStorage]]:
    """Read a body as the form that it stands for.

    Args:
        body: JSON.
        field: the form's field that holds the images.

    Returns:
        The options as text, and the images.

    Raises:
        Problem: it is not JSON that holds images in base64.
    """
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        images = msgspec.json.decode(fields.pop("images", b"[]"), type=list[_JsonImage])
        form = MultiDict(
            (name, _read_option(value)) for name, value in fields.items() if bytes(value) != b"null"
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refuse_json(str(error)) from None
    if not images:
        raise _refuse_json("it has no images")
    files = MultiDict[str, FileStorage]()
    for number, image in enumerate(images, start=1):
        name = image.name or f"{field} {number}"
        files.add(field, FileStorage(io.BytesIO(_decode(name, image.data)), name, field))
    return form, files


def _read_option(value: msgspec.Raw) -> str:
    """Give an option as a form has it: a text's characters; true, 1 and the rest as they are."""
    text = bytes(value)
    return msgspec.json.decode(text, type=str) if text.startswith(b'"') else text.decode()


def _refuse_json(reason: str) -> Problem:
    return Problem("invalid-json", accepted=[JSON_EXAMPLE], reason=reason, example=JSON_EXAMPLE)


def _decode(name: str, text: str) -> bytes:
    """Decode base64, with or without the beginning of a data URL, and with line breaks or not."""
    start = _DATA_URL.match(text)
    try:
        return base64.b64decode("".join(text[start.end() if start else 0 :].split()), validate=True)
    except ValueError:
        raise Problem("not-base64", subject=clean_name(name)) from None
