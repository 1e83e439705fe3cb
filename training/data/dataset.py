"""Folders of scans → one labelled, prepared and grouped set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.audit import find_contradictions, group_near_duplicates
from training.data.cache import prepare_arrays
from training.data.folders import read_tree
from training.data.sources import BINARY_CLASSES, SOURCES, DataError, Source, to_binary
from training.scan import ScanSpecification


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
        skipped: file and reason, for files that could not be read.
        uncropped: scans whose crop was degenerate.
        notes: what else was left out.
        sources: the known data sets among the folders.
        manifest: SHA-256 over the contents of all files.
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

    Args:
        roots: the trees' tops; their scans are merged.
        specification: how the model wants its scans.
        cache: folder that keeps prepared arrays.
        binary: merge the classes into healthy and tumour.
        exclude: glob patterns of scans to leave out, as `read_tree` takes them.
        progress: whether to show a progress bar.

    Raises:
        DataError: no folder, no scan, one class only, or unnamed tumours for a model that must
            tell their kinds apart.
    """
    trees = [read_tree(root, exclude=exclude) for root in roots]
    scans = [scan for tree in trees for scan in tree.scans]
    names = [f"{root.name}/{scan.path.relative_to(root).as_posix()}"
             for root, tree in zip(roots, trees, strict=True) for scan in tree.scans]
    labels = [to_binary(scan.label) if binary else scan.label for scan in scans]
    classes = BINARY_CLASSES if binary else tuple(sorted(set(labels)))
    _check_classes(labels, classes, roots)
    arrays = prepare_arrays([scan.path for scan in scans], specification, cache, progress=progress)
    rows = arrays.rows
    numbers = np.array([classes.index(labels[row]) for row in rows], dtype=np.int64)
    _check_classes([classes[number] for number in numbers], classes, roots)
    groups = group_near_duplicates(arrays.thumbnails)
    contradictory = find_contradictions(groups, numbers)
    kept = np.setdiff1d(np.arange(len(rows)), contradictory)
    return Dataset(
        classes=classes,
        names=tuple(names[row] for row in rows[kept]),
        pixels=arrays.pixels[kept],
        labels=numbers[kept],
        groups=groups[kept],
        parts=tuple(scans[row].part for row in rows[kept]),
        contradictions=tuple(names[row] for row in rows[contradictory]),
        skipped=arrays.skipped,
        uncropped=arrays.uncropped,
        notes=tuple(note for tree in trees for note in tree.notes),
        sources=tuple(SOURCES[root.name] for root in roots if root.name in SOURCES),
        manifest=arrays.manifest,
    )


def _check_classes(labels: Sequence[str], classes: Sequence[str], roots: Sequence[Path]) -> None:
    found = sorted(set(labels))
    where = ", ".join(str(root) for root in roots)
    if len(found) < 2:
        raise DataError(
            f"Only one class, {found[0]!r} ({len(labels)} scans), in {where}; a classifier needs "
            "two or more. Add a folder with another class, or pass another --data folder too."
            if found
            else f"None of the images in {where} could be read."
        )
    if "tumor" in found and classes != BINARY_CLASSES and len(found) > 2:
        raise DataError(
            f"The scans of class 'tumor' in {where} do not say which kind of tumour they show, "
            f"but other folders name kinds ({', '.join(found)}). Leave them out with --exclude, "
            "or train a binary model."
        )
