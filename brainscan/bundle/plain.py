"""Dataclasses to and from JSON, strict about types and ranges.

`msgspec` follows the annotations of a dataclass. Unknown fields are ignored, so a later release may
add some; a wrong one is refused by name.
"""

import json
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

Kind = TypeVar("Kind")

Share = Annotated[float, Meta(ge=0, le=1)]
Correlation = Annotated[float, Meta(ge=-1, le=1)]
Count = Annotated[int, Meta(ge=0, le=10**12)]
Amount = Annotated[float, Meta(ge=0, le=1e9)]
Slug = Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9.-]*\Z")]
Setting = (
    bool
    | Annotated[int, Meta(ge=-(10**12), le=10**12)]
    | Annotated[float, Meta(ge=-1e9, le=1e9)]
    | str
    | None
)


def read_json(kind: type[Kind], text: str | bytes) -> Kind:
    """Build a dataclass from JSON.

    Raises:
        ValueError: the text is not JSON, or a field is missing or wrong; the message says what is
            accepted and where, such as `$.measurement.accuracy`.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None


def to_plain(value: Any) -> Any:
    """Give a dataclass as the dictionaries, lists and values that JSON holds."""
    return msgspec.to_builtins(value)


def write_json(value: Any) -> str:
    """Write a dataclass as indented JSON; raises ValueError for NaN and infinity."""
    return json.dumps(to_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
