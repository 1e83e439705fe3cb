"""Folders of scans → one labelled, prepared and grouped set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainscan.bundle import HEALTHY_CLASSES
from brainscan.scan import ScanSpecification
from training.data.audit import find_contradictions, find_leaks, group_near_duplicates
from training.data.cache import prepare_arrays
from training.data.folders import ScanTree, describe_layout, read_tree
from training.data.sources import (
    BINARY_CLASSES,
    CANONICAL_CLASSES,
    SOURCES,
    DataError,
    Source,
    to_binary,
)

_REASONS_SHOWN = 5
_ANY_TUMOR = "tumor"
_KINDS = frozenset(CANONICAL_CLASSES) - HEALTHY_CLASSES - {_ANY_TUMOR}
_UNNAMED = -1


@dataclass(frozen=True, eq=False)
class UnnamedTumors:
    """Scans that show a tumour, beside others whose labels name its kind.

    Attributes:
        names: of each scan, as a `Dataset` has them.
        pixels: uint8, shape (scans, size, size, 1).
        groups: int64, shape (scans,): near-duplicate groups, none of which holds a named scan.
        healthy: the class that none of them shows.
    """

    names: tuple[str, ...]
    pixels: NDArray[np.uint8]
    groups: NDArray[np.int64]
    healthy: int


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled scans, ready to be split.

    Attributes:
        classes: their names; a label is an index into them.
        names: of each scan: its folder's name and its path below it.
        pixels: uint8, shape (scans, size, size, 1).
        labels: int64, shape (scans,).
        groups: int64, shape (scans,): near-duplicate groups.
        parts: "train", "test" or None for each scan: the data set's own folders.
        contradictions: scans that were dropped, as a near-duplicate carries another label.
        skipped: scan and reason, for files that could not be read.
        uncropped: scans whose crop was degenerate.
        notes: what else was left out.
        sources: the known data sets among the folders.
        manifest: SHA-256 over the contents of all files.
        unnamed: scans of a tumour whose kind is not named; None where there are none.
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    parts: tuple[str | None, ...]
    contradictions: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    uncropped: tuple[str, ...]
    notes: tuple[str, ...]
    sources: tuple[Source, ...]
    manifest: str
    unnamed: UnnamedTumors | None = None


def load_dataset(
    roots: Sequence[Path],
    specification: ScanSpecification,
    cache: Path,
    *,
    binary: bool,
    exclude: Sequence[str] = (),
    progress: bool = True,
) -> Dataset:
    """Read folder-per-class trees into one data set.

    Scans of class "tumor" beside others that name its kind are of no class: they are `unnamed`.

    Args:
        roots: the trees' tops; their scans are merged.
        specification: how the model wants its scans.
        cache: folder that keeps prepared arrays.
        binary: merge the classes into healthy and tumour.
        exclude: glob patterns of scans to leave out, as `read_tree` takes them.
        progress: whether to show a progress bar.

    Raises:
        DataError: no folder, no scan, one class only, a class of which no scan is left, tumours
            without a kind where nothing is healthy, or a pattern without a match.
    """
    trees = [read_tree(root, exclude=exclude) for root in roots]
    _check_patterns(exclude, trees)
    scans = [scan for tree in trees for scan in tree.scans]
    names = [
        f"{tree.name}/{scan.path.relative_to(root).as_posix()}"
        for root, tree in zip(roots, trees, strict=True)
        for scan in tree.scans
    ]
    labels = [scan.label for scan in scans]
    notes = tuple(note for tree in trees for note in tree.notes)
    _check_several(labels, roots, notes)
    if binary:
        labels = [to_binary(label) for label in labels]
        _check_several(labels, roots, notes)
    classes = BINARY_CLASSES if binary else _list_classes(labels)
    if not HEALTHY_CLASSES.intersection(classes):
        warning = (
            f"None of the classes {', '.join(classes)} is known to mean healthy: whatever a model "
            "trained on them answers counts as a tumour."
        )
        notes = (*notes, warning)
    _check_classes(labels, classes, roots)
    arrays = prepare_arrays([scan.path for scan in scans], specification, cache, progress=progress)
    rows = arrays.rows
    numbers = np.array(
        [classes.index(labels[row]) if labels[row] in classes else _UNNAMED for row in rows],
        dtype=np.int64,
    )
    skipped = tuple((names[row], reason) for row, reason in arrays.skipped)
    _check_remaining(classes, numbers, [f"{name}: {reason}" for name, reason in skipped])
    groups = group_near_duplicates(arrays.thumbnails)
    contradictory = _find_contradictions(groups, numbers, classes)
    contradictions = tuple(names[row] for row in rows[contradictory])
    named = np.nonzero(numbers != _UNNAMED)[0]
    kept = np.setdiff1d(named, contradictory)
    # The copy of a scan whose kind is named has nothing to add.
    nameless = np.nonzero(~np.isin(groups, groups[named]))[0]
    if len(nameless):
        further = (
            f"{len(nameless):,} further scans show a tumour whose kind is not named. Six in seven "
            "of them teach a network that there is one."
        )
        notes = (*notes, further)
    _check_remaining(
        classes,
        numbers[kept],
        [f"{name}: a near-duplicate carries another label." for name in contradictions],
    )
    return Dataset(
        classes=classes,
        names=tuple(names[row] for row in rows[kept]),
        pixels=arrays.pixels[kept],
        labels=numbers[kept],
        groups=groups[kept],
        parts=tuple(scans[row].part for row in rows[kept]),
        contradictions=contradictions,
        skipped=skipped,
        uncropped=tuple(names[row] for row in arrays.uncropped),
        notes=notes,
        sources=tuple(SOURCES[tree.name] for tree in trees if tree.name in SOURCES),
        manifest=arrays.manifest,
        unnamed=UnnamedTumors(
            tuple(names[row] for row in rows[nameless]),
            arrays.pixels[nameless],
            groups[nameless],
            next(index for index, name in enumerate(classes) if name in HEALTHY_CLASSES),
        )
        if len(nameless)
        else None,
    )


def _list_classes(labels: Sequence[str]) -> tuple[str, ...]:
    """List the classes; beside kinds of tumours, a tumour of any kind is none."""
    found = set(labels)
    return tuple(sorted(found - {_ANY_TUMOR} if found & _KINDS else found))


def _find_contradictions(
    groups: NDArray[np.int64], numbers: NDArray[np.int64], classes: tuple[str, ...]
) -> NDArray[np.int64]:
    """Give the scans with a near-duplicate of another class; no kind contradicts a nameless one."""
    named = np.nonzero(numbers != _UNNAMED)[0]
    kinds = named[find_contradictions(groups[named], numbers[named])]
    healthy = np.isin(numbers, [classes.index(name) for name in HEALTHY_CLASSES & {*classes}])
    return np.union1d(kinds, find_contradictions(groups, healthy.astype(np.int64)))


def describe_problems(dataset: Dataset) -> list[str]:
    """Say in lines what a user should know of a data set before trusting a figure from it."""
    counts = np.bincount(dataset.labels, minlength=len(dataset.classes))
    parts = np.array([part or "" for part in dataset.parts])
    train, test = (np.nonzero(parts == part)[0] for part in ("train", "test"))
    leaked = find_leaks(dataset.groups, train, test)
    lines = [
        f"{name}: {count:,} scans" for name, count in zip(dataset.classes, counts, strict=True)
    ]
    lines.append(
        f"{len(dataset.labels):,} scans form {len(np.unique(dataset.groups)):,} groups of "
        "near-duplicates."
    )
    if len(test):
        lines.append(
            f"{len(leaked):,} of {len(test):,} Testing scans have a near-duplicate in Training."
        )
        for number, name in enumerate(dataset.classes):
            of_class = dataset.labels[test] == number
            leaked_of_class = dataset.labels[leaked] == number
            lines.append(f"  {name}: {leaked_of_class.sum():,} of {of_class.sum():,}")
    lists = {
        "have a near-duplicate with another label": dataset.contradictions,
        "show no clear outline of a head": dataset.uncropped,
        "cannot be read": [f"{name}: {reason}" for name, reason in dataset.skipped],
    }
    for text, entries in lists.items():
        lines += [f"{len(entries):,} scans {text}.", *(f"  {entry}" for entry in entries)]
    return [*lines, *dataset.notes]


def _check_patterns(exclude: Sequence[str], trees: Sequence[ScanTree]) -> None:
    """Refuse a pattern that matches nothing: a slip would train on what was to be left out."""
    for pattern in exclude:
        if not any(pattern in tree.excluded for tree in trees):
            example = trees[0].name
            raise DataError(
                f"The exclude pattern {pattern!r} matches no image. It is matched against the "
                "name of a data folder and the path below it, such as "
                f"'{example}/*/glioma/*'. Folders given: {', '.join(tree.name for tree in trees)}."
            )


def _check_several(labels: Sequence[str], roots: Sequence[Path], notes: Sequence[str]) -> None:
    """Refuse folders that, taken together, hold one class only."""
    if len(set(labels)) == 1:
        explanation = (
            f"Only one class, {labels[0]!r} ({len(labels)} images), in "
            f"{', '.join(map(str, roots))}; a classifier needs two or more. Images must lie in one "
            "folder for each class, such as glioma/1.jpg and notumor/2.jpg: pass the folder above "
            "these, or another --data folder too."
        )
        raise DataError("\n".join([explanation, *notes, describe_layout()]))


def _check_classes(labels: Sequence[str], classes: tuple[str, ...], roots: Sequence[Path]) -> None:
    """Refuse tumours without a kind where they have nothing to teach."""
    where = ", ".join(str(root) for root in roots)
    if not set(labels) <= set(classes) and not HEALTHY_CLASSES.intersection(classes):
        raise DataError(
            f"The scans of class {_ANY_TUMOR!r} in {where} do not say which kind of tumour they "
            f"show. Beside named kinds ({', '.join(classes)}) they can only teach what is no "
            "healthy scan, and no class is healthy here. Add healthy scans, or leave them out with "
            "--exclude."
        )


def _check_remaining(
    classes: Sequence[str], numbers: NDArray[np.int64], left_out: Sequence[str]
) -> None:
    """Refuse a set that lacks a class altogether once scans are left out."""
    missing = [name for number, name in enumerate(classes) if number not in numbers]
    if missing:
        shown, more = left_out[:_REASONS_SHOWN], len(left_out) - _REASONS_SHOWN
        rest = [f"  and {more:,} more"] if more > 0 else []
        raise DataError(
            "\n".join(
                [
                    f"No scan of {' or '.join(missing)} can be used. {len(left_out):,} left out:",
                    *(f"  {line}" for line in shown),
                    *rest,
                ]
            )
        )
