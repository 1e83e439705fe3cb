"""Dataclasses to and from JSON, strict about types and ranges: the one place that converts them.

`cattrs` follows the annotations of a dataclass. Unknown fields are ignored, so that a later release
may add some; a wrong one is refused by name.
"""

import dataclasses
import json
import re
import reprlib
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeVar, get_args, get_origin

from cattrs import ClassValidationError, Converter, IterableValidationError
from cattrs.cols import homogenous_tuple_structure_factory, mapping_structure_factory
from cattrs.gen import make_dict_structure_fn

Kind = TypeVar("Kind")
_FAULTS_NAMED = 3


def within(low: float, high: float) -> Callable[[float], bool]:
    """Give a rule for `Annotated`: a number from `low` to `high`."""

    def holds(value: float) -> bool:
        return low <= value <= high

    holds.__doc__ = f"a number from {low:,} to {high:,}"
    return holds


def matching(pattern: str) -> Callable[[str], bool]:
    """Give a rule for `Annotated`: a text that matches all of a regular expression."""

    def holds(value: str) -> bool:
        return re.fullmatch(pattern, value) is not None

    holds.__doc__ = f"a text that matches {pattern}"
    return holds


Share = Annotated[float, within(0, 1)]
Count = Annotated[int, within(0, 10**12)]
Amount = Annotated[float, within(0, 1e9)]
Slug = Annotated[str, matching(r"[a-z0-9][a-z0-9.-]*")]
Setting = bool | int | float | str | None


def read_json(kind: type[Kind], text: str) -> Kind:
    """Build a dataclass from JSON.

    Raises:
        ValueError: the text is not JSON, or a field is missing or wrong; the message names the
            field, such as `measurement.accuracy`, and what is accepted there.
    """
    return from_plain(kind, parse_json(text))


def parse_json(text: str) -> Any:
    """Parse JSON; raises ValueError, also where it is nested too deeply or a number too long."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON: {error}") from None


def from_plain(kind: type[Kind], value: Any) -> Kind:
    """Build a dataclass from what JSON holds; raises ValueError as `read_json` does."""
    try:
        return _CONVERTER.structure(value, kind)
    except (ClassValidationError, ValueError) as error:
        faults = list(_name_faults(error, ""))
        more = len(faults) - _FAULTS_NAMED
        rest = [f"{more} more"] if more > 0 else []
        raise ValueError("; ".join([*faults[:_FAULTS_NAMED], *rest])) from None


def to_plain(value: Any) -> Any:
    """Give a dataclass as the dictionaries, lists and values that JSON holds."""
    return _CONVERTER.unstructure(value)


def write_json(value: Any) -> str:
    """Write a dataclass as indented JSON; raises ValueError for NaN and infinity."""
    return json.dumps(to_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _name_faults(error: BaseException, path: str) -> Iterator[str]:
    if isinstance(error, ClassValidationError):
        noted, others = error.group_exceptions()
        for fault, note in noted:
            yield from _name_faults(fault, f"{path}.{note.name}".lstrip("."))
        for fault in others:
            yield from _name_faults(fault, path)
    elif isinstance(error, IterableValidationError):
        for fault, where in error.group_exceptions()[0]:
            yield from _name_faults(fault, f"{path}[{where.index!r}]")
    elif isinstance(error, KeyError):
        yield f"{path}: missing"
    else:
        yield f"{path}: {error}" if path else str(error)


def _refuse(value: object, accepted: str) -> ValueError:
    return ValueError(f"{reprlib.repr(value)} is not {accepted}")


def _build_converter() -> Converter:
    converter = Converter()
    for kind, accepted in ((str, "a text"), (bool, "true or false"), (int, "a whole number")):
        converter.register_structure_hook(kind, _exactly(kind, accepted))
    converter.register_structure_hook(float, _read_float)
    converter.register_structure_hook(Setting, _read_setting)
    shapes: tuple[tuple[Callable[[Any], bool], type, str, Callable[..., Any]], ...] = (
        (dataclasses.is_dataclass, dict, "an object", make_dict_structure_fn),
        (lambda kind: get_origin(kind) is dict, dict, "an object", mapping_structure_factory),
        (
            lambda kind: get_origin(kind) is tuple and get_args(kind)[-1] is ...,
            list,
            "a list",
            homogenous_tuple_structure_factory,
        ),
        (lambda kind: get_origin(kind) is tuple, list, "a list", _read_pair),
    )
    for applies, shape, accepted, factory in reversed(shapes):  # the last one is asked first
        make: Any = _shaped(shape, accepted, factory)
        converter.register_structure_hook_factory(applies, make)
    converter.register_structure_hook_factory(_is_annotated, _read_annotated)
    return converter


def _is_annotated(kind: Any) -> bool:
    return hasattr(kind, "__metadata__")


def _exactly(kind: type, accepted: str) -> Callable[[Any, Any], Any]:
    def read(value: Any, _: Any) -> Any:
        if type(value) is not kind:  # True is an int, too
            raise _refuse(value, accepted)
        return value

    return read


def _read_float(value: Any, _: Any) -> float:
    if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:  # nor NaN
        raise _refuse(value, "a number")
    return float(value)


def _read_setting(value: Any, _: Any) -> Any:
    if type(value) in (int, float):
        _read_float(value, float)
    elif value is not None and type(value) not in (bool, str):
        raise _refuse(value, "a text, a number, true, false or null")
    return value


def _shaped(shape: type, accepted: str, factory: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse what has another shape in JSON, before cattrs takes it for one that it can read."""

    def make(kind: Any, converter: Converter) -> Callable[[Any, Any], Any]:
        inner = factory(kind, converter)

        def read(value: Any, _: Any) -> Any:
            if not isinstance(value, shape):
                raise _refuse(value, accepted)
            return inner(value, kind)

        return read

    return make


def _read_pair(kind: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    first, _ = get_args(kind)
    inner = converter.get_structure_hook(first)

    def read(value: Any, _: Any) -> Any:
        if len(value) != 2:
            raise _refuse(value, "a list of two values")
        return tuple(inner(one, first) for one in value)

    return read


def _read_annotated(kind: Any, converter: Converter) -> Any:
    base, *rules = get_args(kind)
    inner = converter.get_structure_hook(base)

    def read(value: Any, _: Any) -> Any:
        found = inner(value, base)
        for holds in rules:
            if not holds(found):
                raise _refuse(value, holds.__doc__)
        return found

    return read


_CONVERTER = _build_converter()
