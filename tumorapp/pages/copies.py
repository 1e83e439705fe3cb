"""A result to copy: as JSON, and as what asks for it again from a shell or from Python."""

import json
import re
from shlex import quote

from flask import current_app, url_for

from brainscan import Answer
from tumorapp.api.schemas import PredictionSchema

_PREDICTION = PredictionSchema(exclude=("heatmap", "slices.heatmap"))
_POINT = re.compile(r"\[\s+([-\d.e]+),\s+([-\d.e]+)\s+\]")


def write_json(found: Answer) -> str:
    """Write a prediction as the API answers it, without a heat map; a point is one line."""
    text = json.dumps(_PREDICTION.dump(found), indent=2, ensure_ascii=False)
    return _POINT.sub(r"[\1, \2]", text)


def write_curl(filename: str, model: str | None) -> str:
    """Write the command that has curl predict a file."""
    name = filename.replace("\\", r"\\").replace('"', r"\"")
    image = f'image=@"{name}"' if set(filename) & set(',;"\\') else f"image=@{name}"
    words = ["curl"]
    if _asks_for_key():
        words.append('-H "Authorization: Bearer $KEY"')
    words.append(f"-F {quote(image)}")
    if model:
        words.append(f"-F {quote(f'model={model}')}")
    return " ".join([*words, quote(_address())])


def write_python(filename: str, model: str) -> str:
    """Write the lines of Python that predict a file."""
    headers = ', headers={"Authorization": f"Bearer {KEY}"}' if _asks_for_key() else ""
    return "\n".join(
        (
            "import requests",
            "",
            f'with open({filename!r}, "rb") as scan:',
            "    answer = requests.post(",
            f"        {_address()!r},",
            f'        files={{"image": scan}}, data={{"model": {model!r}}}{headers},',
            "    )",
            "answer.raise_for_status()",
            'print(answer.json()["predictions"][0])',
            "",
        )
    )


def _address() -> str:
    return url_for("api.predict", _external=True)


def _asks_for_key() -> bool:
    return bool(current_app.config["API_KEYS"] == "on")


FILTERS = (write_curl, write_json, write_python)
