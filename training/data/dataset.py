"""Folders of scans → one labelled, prepared and grouped set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainscan.bundle.sentences import NO_HEALTHY_CLASS, UNNAMED_TUMOURS
from brainscan.scan import ScanSpecification
from training.data.cache import PreparedArrays, prepare_arrays
from training.data.duplicates import (
    find_leaks,
    find_nearest,
    group_near_duplicates,
    join_groups,
    list_members,
)
from training.data.folders import ScanFile, ScanTree, read_trees
from training.data.outlines import Outline, crop_outline, mirror
from training.data.sources import SOURCES, DataError, Source, list_some
from training.data.task import Task, set_task


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled scans, ready to be split.

    Attributes:
        task: what a model is to tell apart.
        names: of each scan: its folder's name and its path below it.
        pixels: uint8, shape (scans, size, size, 1).
        labels: int64, shape (scans,), as `task` numbers them. Scans of a tumour whose kind is not
            named come last.
        groups: int64, shape (scans,): near-duplicate groups. None holds both named and unnamed
            scans.
        outlines: of the tumour on each scan as a model takes it, as fractions of its side; empty
            where there is no tumour, None where nobody has outlined it.
        patients: int64, shape (scans,): of whom each scan is, where that is known; a scan of
            nobody known has a number of its own, near-duplicates one together. Where only folds of
            patients are known, all patients of a fold are one.
        runs: int64, shape (scans,): likewise, but where only folds are known, slices of a fold that
            follow each other are one.
        parts: "train", "test" or None for each scan: the data set's own folders.
        manifest: SHA-256 over the contents of all files.
        contradictions: scans that were dropped, as a near-duplicate carries another label.
        skipped: scan and reason, for files that could not be read.
        uncropped: scans whose crop was degenerate.
        notes: what else was left out.
        sources: the known data sets among the folders.
        planes: in which each scan was cut, as `guess_plane` names it.
        variants: of each scan, uint8, shape (scans, 21, size, size, 1), where they are trained on.
    """

    task: Task
    names: tuple[str, ...]
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    parts: tuple[str | None, ...]
    outlines: tuple[Outline | None, ...]
    patients: NDArray[np.int64]
    runs: NDArray[np.int64]
    manifest: str
    contradictions: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    uncropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    planes: tuple[str, ...] = ()
    variants: NDArray[np.uint8] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.task.classes


def load_dataset(
    roots: Sequence[Path],
    specification: ScanSpecification,
    cache: Path,
    *,
    binary: bool,
    exclude: Sequence[str] = (),
    manifest: Path | None = None,
) -> Dataset:
    """Read folder-per-class trees, or the scans that a manifest lists, into one data set.

    Args:
        roots: the trees' tops; their scans are merged.
        specification: how the model wants its scans.
        cache: folder that keeps prepared arrays.
        binary: whether to merge the classes into healthy and tumour.
        exclude: glob patterns of scans to leave out, as `read_tree` takes them.
        manifest: as `read_manifest` takes it; of the trees, only the scans that it keeps.

    Raises:
        DataError: a manifest that cannot be used, no folder, no scan, one class only, a class of
            which no scan is left, tumours without a kind where nothing is healthy, or a pattern
            without a match.
    """
    trees = read_trees(roots, exclude=exclude, manifest=manifest)
    task = set_task(trees, binary=binary)
    scans = [scan for tree in trees for scan in tree.scans]
    arrays = prepare_arrays([scan.path for scan in scans], specification, cache)
    return _assemble(trees, task, arrays)


def _assemble(trees: Sequence[ScanTree], task: Task, arrays: PreparedArrays) -> Dataset:
    """Number and group the scans that could be read, and drop those that contradict each other."""
    listed = [scan for tree in trees for scan in tree.scans]
    scans = [listed[row] for row in arrays.rows]
    labels = task.number(scan.label for scan in scans)
    skipped = tuple((listed[row].name, reason) for row, reason in arrays.skipped)
    _check_remaining(task, labels, [f"{name}: {reason}" for name, reason in skipped])
    groups = group_near_duplicates(arrays.thumbnails)
    outlines = _place_outlines(trees, listed, arrays, groups)
    patients, runs = (
        _number_people(_gather(trees, known), scans, groups) for known in ("patients", "runs")
    )
    contradictory = task.find_contradictions(groups, labels)
    contradictions = tuple(scans[row].name for row in contradictory)
    named = np.nonzero(task.is_named(labels))[0]
    kept = np.setdiff1d(named, contradictory)
    _check_remaining(
        task,
        labels[kept],
        [f"{name}: a near-duplicate carries another label." for name in contradictions],
    )
    # The copy of a scan whose kind is named has nothing to add.
    nameless = np.nonzero(~np.isin(groups, groups[named]))[0]
    rows = np.concatenate([kept, nameless])
    notes = [note for tree in trees for note in tree.notes]
    return Dataset(
        task=task,
        names=tuple(scans[row].name for row in rows),
        pixels=arrays.pixels[rows],
        labels=labels[rows],
        groups=groups[rows],
        parts=tuple(scans[row].part for row in rows),
        outlines=tuple(
            () if task.healthy is not None and labels[row] == task.healthy else outlines[row]
            for row in rows
        ),
        patients=patients[rows],
        runs=runs[rows],
        manifest=arrays.manifest,
        contradictions=contradictions,
        skipped=skipped,
        uncropped=tuple(listed[row].name for row in arrays.uncropped),
        notes=(*notes, *_note_classes(task, len(nameless))),
        sources=tuple(SOURCES[tree.name] for tree in trees if tree.name in SOURCES),
        planes=tuple(arrays.planes[row] for row in rows),
    )


def _gather(trees: Sequence[ScanTree], known: str) -> dict[str, Any]:
    """Give one attribute of the annotations of all folders, by the names of the scans."""
    return {
        f"{tree.name}/{name}": one
        for tree in trees
        for name, one in getattr(tree.annotations, known).items()
    }


def _place_outlines(
    trees: Sequence[ScanTree],
    listed: Sequence[ScanFile],
    arrays: PreparedArrays,
    groups: NDArray[np.int64],
) -> list[Outline | None]:
    """Give the outline on each scan as it was cropped; a copy takes that of what it copies."""
    known = _gather(trees, "outlines")
    found: list[Outline | None] = [known.get(listed[row].name) for row in arrays.rows]
    for members in list_members(groups) if known else ():
        given = [row for row in members if found[row]]
        if not given:
            continue
        for row in members:
            if not found[row]:
                source, mirrored = find_nearest(arrays.thumbnails, row, given)
                outline = found[source] or ()
                found[row] = mirror(outline) if mirrored else outline
    return [
        outline and crop_outline(outline, box)
        for outline, box in zip(found, arrays.boxes, strict=True)
    ]


def _number_people(
    known: Mapping[str, str], scans: Sequence[ScanFile], groups: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Number the people that scans are known to be of: who share a near-duplicate group are one."""
    names = [
        known.get(scan.name, f"group {group}") for scan, group in zip(scans, groups, strict=True)
    ]
    _, numbers = np.unique(names, return_inverse=True)
    return join_groups(groups, numbers)


def _note_classes(task: Task, nameless: int) -> list[str]:
    notes = []
    if task.healthy is None:
        notes.append(NO_HEALTHY_CLASS.format(f"'{', '.join(task.classes)}'"))
    if nameless:
        notes.append(UNNAMED_TUMOURS.format(f"{nameless:,}"))
    return notes


def describe_problems(dataset: Dataset) -> list[str]:
    """Say in lines what a user should know of a data set before trusting a figure from it."""
    named = dataset.task.is_named(dataset.labels)
    counts = np.bincount(dataset.labels[named], minlength=len(dataset.classes))
    parts = np.array([part or "" for part in dataset.parts])
    train, test = (np.nonzero(named & (parts == part))[0] for part in ("train", "test"))
    leaked = find_leaks(dataset.groups, train, test)
    lines = [
        f"{name}: {count:,} scans" for name, count in zip(dataset.classes, counts, strict=True)
    ]
    lines.append(
        f"{named.sum():,} scans form {len(np.unique(dataset.groups[named])):,} groups of "
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


def _check_remaining(task: Task, labels: NDArray[np.int64], left_out: Sequence[str]) -> None:
    """Refuse a set that lacks a class altogether once scans are left out."""
    missing = [name for number, name in enumerate(task.classes) if number not in labels]
    if missing:
        raise DataError(
            f"No scan of {' or '.join(missing)} can be used. {len(left_out):,} left out:"
            f"{list_some(left_out)}"
        )
