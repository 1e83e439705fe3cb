"""Outlines of tumours and patients of scans, as users bring them: a table, or mask images.

- `slices.csv` in a data folder: columns `file` (a path below the folder), and any of `border` (the
  tumour's outline, `x y;x y;…` as fractions of width and height), `fold` and `patient`.
- `NAME_mask.png` next to a scan `NAME.…`: white where the tumour is.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.sources import DataError, list_some

TABLE = "slices.csv"
MASK_ENDING = "_mask"

# Polygons, float64, shape (points, 2): x and y as fractions of width and height. Several may
# outline one tumour; none at all is a scan that is known to show no tumour.
Outline = tuple[NDArray[np.float64], ...]


@dataclass(frozen=True)
class Annotations:
    """What is known of the scans of one folder beyond their class, by path below it.

    Attributes:
        outlines: of tumours.
        patients: names of patients, or of folds that hold whole patients.
        runs: names of patients, or of rows of one fold that follow each other in the table. These
            are slices of one patient or of a few, but a patient may have several runs.
    """

    outlines: dict[str, Outline] = field(default_factory=dict)
    patients: dict[str, str] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)


def read_annotations(root: Path, scans: Iterable[Path]) -> Annotations:
    """Read the table and the masks of a data folder.

    Args:
        root: the folder.
        scans: its scans, as paths below it.

    Raises:
        DataError: a row names no file of the folder, or an outline cannot be read; a mask is of
            another shape than its scan. The message names the rows.
    """
    found = Annotations()
    if (root / TABLE).is_file():
        _read_table(root, found)
    named = {path.with_suffix(""): path for path in scans}
    for folder in sorted({path.parent for path in named.values()}):
        for mask in sorted((root / folder).glob(f"*{MASK_ENDING}.*")):
            if scan := named.get(folder / mask.stem.removesuffix(MASK_ENDING)):
                found.outlines[scan.as_posix()] = _read_mask(mask, root / scan)
    return found


def is_mask(path: Path) -> bool:
    """Tell whether an image is a scan's mask and not a scan."""
    return path.stem.endswith(MASK_ENDING)


def mirror(outline: Outline) -> Outline:
    """Give an outline on the picture mirrored left-right."""
    return tuple(polygon * [-1, 1] + [1, 0] for polygon in outline)


def crop_outline(outline: Outline, box: NDArray[np.float64]) -> Outline:
    """Give an outline on what was kept of the picture.

    Args:
        outline: on the whole picture.
        box: left, top, right and bottom of what was kept, as fractions of width and height.
    """
    return tuple((polygon - box[:2]) / (box[2:] - box[:2]) for polygon in outline)


def draw_mask(outline: Outline, size: int) -> NDArray[np.uint8]:
    """Draw an outline as a mask: uint8, shape (size, size), 0 or 255."""
    mask = np.zeros((size, size), np.uint8)
    points = [np.rint(polygon * size * 16 - 8).astype(np.int32) for polygon in outline]
    if points:
        cv2.fillPoly(mask, points, 255, shift=4)
    return mask


def _read_table(root: Path, found: Annotations) -> None:
    with (root / TABLE).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if rows and "file" not in rows[0]:
        raise DataError(f"{root / TABLE} has no column named file. Columns: {', '.join(rows[0])}.")
    mistakes = []
    for number, row in enumerate(rows, start=2):
        name = row["file"]
        try:
            if not (root / name).is_file():
                raise ValueError("there is no such file")
            if border := row.get("border"):
                found.outlines[name] = (_read_polygon(border),)
        except ValueError as error:
            mistakes.append(f"line {number}, {name}: {error}")
    if mistakes:
        raise DataError(
            f"{root / TABLE} has {len(mistakes)} rows that cannot be used:{list_some(mistakes)}\n"
            "An outline is `x y;x y;…`, three points or more, as fractions of width and height. "
            "Correct or remove these rows."
        )
    _name_patients(root.name, rows, found)


def _read_polygon(text: str) -> NDArray[np.float64]:
    try:
        polygon = np.array([pair.split() for pair in text.split(";") if pair.strip()], np.float64)
    except ValueError:
        raise ValueError("its outline is not a list of pairs of numbers") from None
    if polygon.ndim != 2 or polygon.shape[1] != 2 or len(polygon) < 3:
        raise ValueError("its outline has fewer than three points")
    if not ((polygon >= -0.01) & (polygon <= 1.01)).all():  # nor NaN
        raise ValueError("its outline leaves the picture")
    return polygon.clip(0, 1)


def _name_patients(folder: str, rows: Sequence[dict[str, str]], found: Annotations) -> None:
    """Name patient and run of each row; a fold stands for its patients where they are not known."""
    known = next((name for name in ("patient", "fold") if rows and rows[0].get(name)), None)
    if known is None:
        return
    run, last = 0, None
    for row in rows:
        run, last = run + (row[known] != last), row[known]
        patient = f"{folder}/{known} {row[known]}"
        found.patients[row["file"]] = patient
        found.runs[row["file"]] = patient if known == "patient" else f"{folder}/run {run}"


def _read_mask(mask: Path, scan: Path) -> Outline:
    drawn = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE)
    picture = cv2.imread(str(scan), cv2.IMREAD_GRAYSCALE)
    if drawn is None:
        raise DataError(f"The mask {mask} cannot be read as an image.")
    if picture is not None and drawn.shape != picture.shape:
        raise DataError(
            f"The mask {mask} has {drawn.shape[1]} × {drawn.shape[0]} pixels, and its scan "
            f"{picture.shape[1]} × {picture.shape[0]}. A mask is as large as its scan."
        )
    contours, _ = cv2.findContours(
        np.asarray(drawn > 127, np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    height, width = drawn.shape
    return tuple(
        (contour[:, 0] + 0.5) / (width, height) for contour in contours if len(contour) > 2
    )
