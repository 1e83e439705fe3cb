"""The manifest: a table of scans that a person may edit, and that `flask train` takes."""

import csv
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from training.data.sources import DataError, canonical_class, list_some

COLUMNS = ("file", "label", "group", "finding", "keep")
_NEEDED = ("file", "label", "keep")
_KEEP = {"1": True, "0": False}


class Row(NamedTuple):
    """One scan of a manifest.

    Attributes:
        line: where it stands in the file; the header is line 1.
        path: the scan.
        label: its class.
        keep: whether to train on it.
    """

    line: int
    path: Path
    label: str
    keep: bool


def read_manifest(manifest: Path, roots: Sequence[Path] = ()) -> dict[Path, str]:
    """Give the label of each scan that a manifest keeps, by its absolute path.

    Args:
        manifest: a CSV file with at least the columns `file`, `label` and `keep`. Files are named
            relative to the manifest's own folder; `keep` is 1 or 0.
        roots: where there are any, scans below none of these folders are passed over.

    Raises:
        DataError: it cannot be read, has other columns, or rows that cannot be used, named by
            their lines; or it keeps nothing.
    """
    rows = list(_read_rows(manifest))
    _refuse(manifest, "have no label", [row for row in rows if row.keep and not row.label])
    counts = Counter(row.path for row in rows)
    _refuse(manifest, "name a file twice", [row for row in rows if counts[row.path] > 1])
    tops = [_absolute(root) for root in roots]
    kept = [
        row
        for row in rows
        if row.keep and (not tops or any(row.path.is_relative_to(top) for top in tops))
    ]
    _refuse(manifest, "name a file that is not there", [r for r in kept if not r.path.is_file()])
    if not kept:
        raise DataError(
            f"The manifest {manifest} keeps none of its {len(rows):,} scans"
            f"{' below the data folders given' if tops else ''}. Set keep to 1 in the rows to "
            "train on."
        )
    return {row.path: row.label for row in kept}


def _absolute(path: Path) -> Path:
    """Give a path from the root, without `..`; links stay what they are called."""
    return Path(os.path.abspath(path))  # noqa: PTH100  resolve() would follow links


def _read_rows(manifest: Path) -> Iterator[Row]:
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            _check_columns(manifest, reader.fieldnames or ())
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"The manifest {manifest} cannot be read: {error}.") from error
    ragged = [line for line, row in rows if None in row or None in row.values()]
    _refuse_lines(manifest, "have more or fewer cells than the header", ragged)
    odd = [f"{line} ({row['keep']!r})" for line, row in rows if row["keep"].strip() not in _KEEP]
    _refuse_lines(manifest, "have neither 0 nor 1 as keep", odd)
    for line, row in rows:
        label = row["label"].strip()
        yield Row(
            line,
            _absolute(manifest.parent / row["file"].strip()),
            canonical_class(label) or label,
            _KEEP[row["keep"].strip()],
        )


def _check_columns(manifest: Path, columns: Sequence[str]) -> None:
    missing = [name for name in _NEEDED if name not in columns]
    unknown = [name for name in columns if name not in COLUMNS]
    if missing or unknown or len(set(columns)) < len(columns):
        raise DataError(
            f"The manifest {manifest} has the columns {', '.join(columns) or '(none)'}. Expected: "
            f"{', '.join(COLUMNS)}, separated by commas; group and finding may be left out. "
            "`flask data audit DIR --manifest FILE` writes one."
        )


def _refuse(manifest: Path, problem: str, rows: Sequence[Row]) -> None:
    _refuse_lines(manifest, problem, [f"{row.line} ({row.path})" for row in rows])


def _refuse_lines(manifest: Path, problem: str, lines: Sequence[object]) -> None:
    if lines:
        raise DataError(
            f"The manifest {manifest} has {len(lines):,} rows that {problem}:"
            f"{list_some([f'line {line}' for line in lines])}"
        )


def write_manifest(manifest: Path, rows: Iterable[tuple[Path, str, int, str, bool]]) -> None:
    """Write a row for each scan: its file, label, near-duplicate group, findings, and keep."""
    with manifest.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for path, label, group, finding, keep in rows:
            named = Path(os.path.relpath(path, manifest.parent)).as_posix()
            writer.writerow((named, label, group, finding, int(keep)))
