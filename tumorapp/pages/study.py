"""The study's results as the leaderboard shows them: read once, and again when the file changes."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from brainscan.bundle import Card
from brainscan.bundle.store import CARD_FILE
from brainscan.bundle.study import (
    RESULTS_FILE,
    Result,
    ResultsError,
    build_result,
    read_results,
)


@dataclass(frozen=True)
class Study:
    """What of a study can be read.

    Attributes:
        results: the finished rows that are whole.
        problem: what is wrong with the results file; None where nothing is.
    """

    results: tuple[Result, ...] = ()
    problem: str | None = None

    def find(self, slug: str) -> Result | None:
        """Give the result of that id, or None."""
        return next((result for result in self.results if result.id == slug), None)


def read_study(folder: Path) -> Study:
    """Read a study's results; a folder that does not exist, or has none, is an empty study.

    A file that did not change since is not read again: this is called for every request.
    """
    try:
        state = (folder / RESULTS_FILE).stat()
    except (FileNotFoundError, NotADirectoryError):
        return Study()
    except OSError as error:
        return Study(problem=f"{RESULTS_FILE} cannot be read: {error.strerror}.")
    return _read(folder, (state.st_mtime_ns, state.st_size, state.st_ino))


@lru_cache(maxsize=2)
def _read(folder: Path, _state: tuple[int, int, int]) -> Study:
    warnings: list[str] = []
    try:
        results = read_results(folder, warnings.append)
    except ResultsError as error:
        return Study(_read_whole_lines(folder / RESULTS_FILE), _without_path(str(error), folder))
    return Study(tuple(results), _without_path(" ".join(warnings), folder) or None)


def _read_whole_lines(path: Path) -> tuple[Result, ...]:
    """Read the rows that a damaged file still holds."""
    results: dict[str, Result] = {}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    for line in lines:
        try:
            result = build_result(json.loads(line))
        except (ValueError, RecursionError):
            continue
        results[result.id] = result
    return tuple(results.values())


def _without_path(message: str, folder: Path) -> str:
    """Keep where the service's files lie to itself: visitors read this message."""
    return message.replace(f"{folder}/", "")


def read_card(folder: Path, slug: str) -> Card | None:
    """Read the card of a study's row; None where it is missing or damaged."""
    try:
        return Card.from_json((folder / slug / CARD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
