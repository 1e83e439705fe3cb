"""The table of problems and warnings, and that the code uses it as it is."""

import ast
import copy
import pickle
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from brainscan import Message, Problem, ScanError
from brainscan.messages import KINDS, write_value

PROJECT = Path(__file__).parents[2]
SOURCES = [
    path
    for room in ("brainscan", "training", "tumorapp")
    for path in (PROJECT / room).rglob("*.py")
]
OPTIONS = {"accepted", "subject", "headers"}


def list_values(code: str) -> set[str]:
    """Name the values that a text takes."""
    return set(re.findall(r"%\((\w+)\)s", KINDS[code].text))


@cache  # read once for all tests
def list_literals() -> list[tuple[str, str, set[str] | None]]:
    return list(find_literals())


def find_literals() -> Iterator[tuple[str, str, set[str] | None]]:
    """Find where a message is made: the place, its code, and its values where they can be read."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = getattr(node.func, "id", "")
            if name not in ("Problem", "ScanError", "Message"):
                continue
            values: set[str] | None = None
            if name != "Message":
                given = {keyword.arg or "**" for keyword in node.keywords}
                values = None if "**" in given else given - OPTIONS
            elif len(node.args) == 1:
                values = set()
            elif isinstance(node.args[1], ast.Dict):
                values = {key.value for key in node.args[1].keys if isinstance(key, ast.Constant)}
            for part in ast.walk(node.args[0]):
                if isinstance(part, ast.Constant):
                    yield f"{path.name}:{node.lineno}", str(part.value), values


@pytest.mark.parametrize("code", KINDS)
def test_every_kind_is_whole(code: str) -> None:
    kind = KINDS[code]
    assert kind.code == code
    assert bool(kind.status) == bool(kind.title)
    message = Message(code, dict.fromkeys(list_values(code), "thing"), "scan.jpg")
    assert str(message).startswith("scan.jpg: ")
    assert "%" not in str(message)
    assert message.kind is kind


def test_the_code_gives_each_text_its_values() -> None:
    found = list_literals()
    assert len(found) > 40
    for place, code, values in found:
        assert code in KINDS, place
        assert values is None or values == list_values(code), (place, code)


def test_every_kind_is_used() -> None:
    assert KINDS.keys() - {code for _, code, _ in list_literals()} == set()


@pytest.mark.parametrize("remake", [copy.copy, lambda one: pickle.loads(pickle.dumps(one))])  # noqa: S301
def test_a_problem_stays_what_it_is(remake: object) -> None:
    problem = ScanError("image-too-small", width=3, height=4, least=16, accepted=["more"])
    named = problem.about("a.png")
    assert problem.message.subject == ""
    found = remake(named)  # type: ignore[operator]
    assert type(found) is ScanError
    assert (found.code, found.message, found.accepted) == (
        "image-too-small",
        named.message,
        ("more",),
    )
    assert (found.status, found.headers) == (422, {})
    assert str(found) == str(named)
    assert str(named).startswith("a.png: The image has 3 × 4 pixels")


def test_headers() -> None:
    problem = Problem("rate-limited", limit="1 per second", seconds=2, headers={"Retry-After": "2"})
    assert problem.headers == {"Retry-After": "2"}
    assert Problem("overloaded").headers == {"Retry-After": "1"}
    assert "WWW-Authenticate" in Problem("missing-key").headers


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("as it is %", "as it is %"),
        (50_000_000, "50,000,000"),
        (0.624, "62%"),
        (("a",), "a"),
        (("a", "b", "c"), "a, b and c"),
        ((), "none"),
    ],
)
def test_values_in_english(value: object, written: str) -> None:
    assert write_value(value) == written  # type: ignore[arg-type]
