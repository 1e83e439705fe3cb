"""The results of the study: one finished row a line, in a file that is never left half-written.

The web application reads this too, so nothing here needs a training framework.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, validate

RESULTS_FILE = "results.jsonl"
BUDGETS = ("quick", "full", "own")
_LOCK_FILE = ".lock"
_SLUG = r"^[a-z0-9][a-z0-9.-]*$"


class ResultsError(ValueError):
    """The results file cannot be read; the message names the file and the line."""


@dataclass(frozen=True)
class Result:
    """One row of the study that has been trained and measured.

    Attributes:
        id: names the row, its budget, its protocol, and its folder with card and report.
        document: "000", "001", "002", "004" or "beyond".
        row: what the document calls the model.
        model: the architecture's name.
        method: "fine-tune" or "frozen".
        head: "softmax", "svm" or "knn".
        budget: "quick" (smaller than the document's), "full" (the document's own settings) or
            "own" (the architecture's own recipe).
        protocol: how the scans were divided.
        data: names of the data sets.
        size: width and height of the scans, in pixels.
        epochs: the most that were planned.
        epochs_run: how many were trained before training stopped.
        seconds_per_epoch: the median; None where there are no epochs.
        parameters: how many weights the network has.
        device: what it was trained on, in words.
        date: the day it was measured, ISO 8601.
        test_scans: how many scans the figures are of.
        accuracy: share of them, 0 to 1, as are the next two.
        balanced_accuracy: mean recall of the classes.
        f1_macro: mean F1 of the classes.
        loss: cross-entropy, natural logarithm; None where it was not measured.
        roc_auc: 0 to 1; None where it was not measured.
        interval: 95 % interval of the accuracy.
        leaks: `scans` of the test part with a near-duplicate in training or validation, and
            `accuracy_with` and `accuracy_without`: of those scans and of the others, or None.
        published: the document's own `accuracy`, `loss` and `f1`, each None where it prints none;
            percentages as fractions. Document 002 adds `best_accuracy` and `seconds_per_epoch`.
        command: the command line.
    """

    id: str
    document: str
    row: str
    model: str
    method: str
    head: str
    budget: str
    protocol: str
    data: tuple[str, ...]
    size: int
    epochs: int
    epochs_run: int
    seconds_per_epoch: float | None
    parameters: int
    device: str
    date: str
    test_scans: int
    accuracy: float
    balanced_accuracy: float
    f1_macro: float
    loss: float | None
    roc_auc: float | None
    interval: tuple[float, float]
    leaks: dict[str, Any]
    published: dict[str, float | None]
    command: str


def read_results(folder: Path, warn: Callable[[str], None] = lambda _line: None) -> list[Result]:
    """Read every finished row, in the order in which they were finished.

    Args:
        folder: the study's, such as `instance/study`; none, or one without results, holds no rows.
        warn: takes a sentence where the last line was cut short. That row is left out, and gone
            from the file with the next row that is appended; all others are kept.

    Raises:
        ResultsError: a line is damaged in any other way.
    """
    path = folder / RESULTS_FILE
    try:
        lines = path.read_bytes().rstrip(b"\n").split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ResultsError(f"{path} cannot be read: {error.strerror}.") from None
    results: dict[str, Result] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            raw = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                warn(
                    f"{path}, line {number}: the last line was cut short, so its row counts as "
                    "not trained. The rows before it are all there."
                )
                break
            raise _damaged(path, number, f"is not valid JSON ({error})") from None
        try:
            result = build_result(raw)
        except ValueError as error:
            raise _damaged(path, number, f"is no result: {error}") from None
        results[result.id] = result
    return list(results.values())


def build_result(raw: Any) -> Result:
    """Build a result from what a line's JSON holds; raises ValueError with what is wrong."""
    try:
        result: Result = _ResultSchema().load(raw)
    except ValidationError as error:
        raise ValueError(str(error.messages)) from None
    return result


def append_result(folder: Path, result: Result) -> None:
    """Keep a row; one of the same id is replaced. The file is the old one or the new one whole.

    Raises:
        ResultsError: the file holds a damaged line; it stays as it is.
        OSError: the disk is full or the folder cannot be written; the file stays as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with writing_alone(folder):
        kept = [other for other in read_results(folder) if other.id != result.id]
        lines = [json.dumps(asdict(one), allow_nan=False) for one in (*kept, result)]
        write_atomically(folder / RESULTS_FILE, "".join(f"{line}\n" for line in lines))


def write_atomically(path: Path, text: str) -> None:
    """Write a whole text file, so that a reader finds the old one or the new one."""
    staging = path.with_name(f".{path.name}")
    try:
        with staging.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        staging.replace(path)
    finally:
        staging.unlink(missing_ok=True)


@contextmanager
def writing_alone(folder: Path) -> Iterator[None]:
    """Wait until no other study writes here; the system lets go of the lock of a dead one."""
    with (folder / _LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _damaged(path: Path, number: int, reason: str) -> ResultsError:
    return ResultsError(
        f"{path}, line {number} {reason}. Each line is one finished row. Repair that line, or "
        "delete it to have its row trained again; the other rows are not touched."
    )


def _fraction(*, allow_none: bool = False) -> fields.Float:
    return fields.Float(required=True, allow_none=allow_none, validate=validate.Range(0, 1))


class _ResultSchema(Schema):
    class Meta:
        unknown = EXCLUDE  # a later release may add fields

    id = fields.String(required=True, validate=validate.Regexp(_SLUG))
    document = fields.String(required=True)
    row = fields.String(required=True)
    model = fields.String(required=True)
    method = fields.String(required=True)
    head = fields.String(required=True)
    budget = fields.String(required=True, validate=validate.OneOf(BUDGETS))
    protocol = fields.String(required=True)
    data = fields.List(fields.String(), required=True)
    size = fields.Integer(required=True, strict=True)
    epochs = fields.Integer(required=True, strict=True)
    epochs_run = fields.Integer(required=True, strict=True)
    seconds_per_epoch = fields.Float(required=True, allow_none=True)
    parameters = fields.Integer(required=True, strict=True)
    device = fields.String(required=True)
    date = fields.String(required=True)
    test_scans = fields.Integer(required=True, strict=True)
    accuracy = _fraction()
    balanced_accuracy = _fraction()
    f1_macro = _fraction()
    loss = fields.Float(required=True, allow_none=True)
    roc_auc = _fraction(allow_none=True)
    interval = fields.List(_fraction(), required=True, validate=validate.Length(equal=2))
    leaks = fields.Dict(keys=fields.String(), required=True)
    published = fields.Dict(
        keys=fields.String(), values=fields.Float(allow_none=True), required=True
    )
    command = fields.String(required=True)

    @post_load
    def _build(self, data: dict[str, Any], **_: Any) -> Result:
        data["data"], data["interval"] = tuple(data["data"]), tuple(data["interval"])
        return Result(**data)
