"""The study's results: a folder for each finished row, written whole or not at all.

`<study>/<id>/` holds `row.json`, which is what the row is and the card of its model, and `report/`.
The web application reads this too, so nothing here needs a training framework.
"""

import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, cast, get_args

from brainscan.bundle.card import Card, Training
from brainscan.bundle.measurement import Measurement
from brainscan.bundle.plain import Amount, Share, Slug, read_json, write_json
from brainscan.files import lock, move_into_place, read_file, staging_folder, sweep

Budget = Literal["reduced", "unvaried", "full", "own"]
BUDGETS: tuple[Budget, ...] = get_args(Budget)
ROW_FILE = "row.json"
REPORT_FOLDER = "report"
_LOCK_FILE = ".lock"
_STAGING_PREFIX = ".keeping-"


@dataclass(frozen=True)
class Published:
    """What a document prints of a row, percentages as fractions; None where it prints nothing."""

    accuracy: Share | None = None
    loss: Amount | None = None
    f1: Share | None = None
    best_accuracy: Share | None = None
    seconds_per_epoch: Amount | None = None


@dataclass(frozen=True)
class Result:
    """One row of the study that has been trained and measured.

    Attributes:
        id: names the row, its budget, its protocol, and its folder.
        document: "000", "001", "002", "004" or "beyond".
        row: what the document calls the model.
        budget: "reduced" (smaller than the document's), "unvaried" (without its variants of
            scans), "full" (the document's own settings) or "own" (the architecture's own recipe).
        data: names of the data sets.
        published: the document's own figures.
        argmax_accuracy: the share of the test scans whose most probable class is right, as the
            documents count. The measurement's own accuracy goes by the card's decision instead.
        card: of the model, with its training and its measurement.

    Raises:
        ValueError: the card is that of a model that was not trained here.
    """

    id: Slug
    document: str
    row: str
    budget: Budget
    data: tuple[str, ...]
    published: Published
    argmax_accuracy: Share
    card: Card

    def __post_init__(self) -> None:
        if self.card.training is None or self.card.measurement is None:
            raise ValueError("card: of a model that was not trained and measured here")

    @property
    def training(self) -> Training:
        """How the model was trained."""
        return cast(Training, self.card.training)

    @property
    def measurement(self) -> Measurement:
        """What was measured of the model."""
        return cast(Measurement, self.card.measurement)


@dataclass(frozen=True)
class Study:
    """What of a study can be read.

    Attributes:
        results: the finished rows, by their ids.
        problems: what is wrong with the others; each sentence names the file, below the study's
            folder, and the field.
    """

    results: tuple[Result, ...] = ()
    problems: tuple[str, ...] = ()

    def find(self, name: str) -> Result | None:
        """Give the result of that id, or None."""
        return next((result for result in self.results if result.id == name), None)


def read_study(folder: Path) -> Study:
    """Read every finished row; those whose file did not change since are not read again.

    Args:
        folder: the study's, such as `instance/study`; one that does not exist holds no rows.
    """
    try:
        files = sorted(folder.glob(f"[!.]*/{ROW_FILE}"))
        states = [(path, (state := path.stat()).st_mtime_ns, state.st_size) for path in files]
    except OSError as error:
        return Study(problems=(f"The study's folder cannot be read: {error.strerror}.",))
    found = [_read(*state) for state in states]
    return Study(
        tuple(one for one in found if isinstance(one, Result)),
        tuple(one for one in found if isinstance(one, str)),
    )


@lru_cache(maxsize=1000)
def _read(path: Path, _modified: int, _size: int) -> Result | str:
    """Read a row; gives what is wrong with a damaged one."""
    try:
        result = read_json(Result, read_file(path))
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    except ValueError as error:
        reason = str(error)
    else:
        if result.id == path.parent.name:
            return result
        reason = f"id: {result.id!r:.80} is not the folder's name"
    return f"{path.parent.name}/{path.name}: {reason}"


def lock_study(folder: Path) -> AbstractContextManager[None]:
    """Wait until nobody else writes to the study's folder, and hold it meanwhile."""
    return lock(folder / _LOCK_FILE)


def keep_result(folder: Path, result: Result, report: Path | None = None) -> None:
    """Keep a row with its report; an earlier one of the same id is replaced.

    Args:
        folder: the study's; made if it is not there.
        result: the row.
        report: the run's folder with `README.md`; it is copied.

    Raises:
        ValueError: a figure is NaN or infinite.
        OSError: the disk is full or the folder cannot be written; the rows are as they were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = write_json(result)
    target = folder / result.id
    with lock_study(folder):
        sweep(folder, _STAGING_PREFIX)
        with staging_folder(target, _STAGING_PREFIX) as staging:
            new = staging / "new"
            new.mkdir()
            (new / ROW_FILE).write_text(text, encoding="utf-8")
            if report is not None:
                shutil.copytree(report, new / REPORT_FOLDER)
            if target.exists():
                target.rename(staging / "old")
            move_into_place(new, target)
