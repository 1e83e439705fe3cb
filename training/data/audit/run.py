"""Folders of scans → what is wrong with them, scan by scan and as a whole."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from training.data.audit.findings import KINDS, Audit, Finding, Leaks, Table
from training.data.audit.labels import find_label_errors, guess_labels
from training.data.audit.measure import Look, Unreadable, look_at
from training.data.audit.modality import CT_FROM
from training.data.duplicates import Pairs, find_leaks, find_pairs, group_pairs, list_members
from training.data.folders import ScanFile, ScanTree
from training.data.plane import PLANES
from training.data.sources import DataError, list_some
from training.data.task import Task, set_task

# Copies of one picture differ less than this in mean brightness and in contrast, unless changed.
_BRIGHTNESS, _CONTRAST = 4.0, 0.05
_SAME = 0.999
_PARTS = ("train", "test")


def audit_trees(trees: Sequence[ScanTree]) -> Audit:
    """Look at every scan of some folders, under a progress bar, and say what is wrong.

    Raises:
        DataError: no scan can be read; or the scans together show one class only, or tumours
            without a kind next to named kinds where nothing is healthy.
    """
    task = set_task(trees, binary=False)
    scans = tuple(scan for tree in trees for scan in tree.scans)
    sets = tuple(tree.name for tree in trees for _ in tree.scans)
    found = look_at([scan.path for scan in scans])
    seen = np.array([row for row, one in enumerate(found) if isinstance(one, Look)], np.int64)
    looks = [one for one in found if isinstance(one, Look)]
    if not looks:
        both = zip(scans, found, strict=True)
        reasons = [
            f"{scan.name}: {one.reason}" for scan, one in both if isinstance(one, Unreadable)
        ]
        raise DataError(f"None of the {len(scans):,} scans can be read:{list_some(reasons)}")
    thumbnails = np.array([look.thumbnail for look in looks], np.uint8).reshape(len(looks), 32, 32)
    near = find_pairs(thumbnails)
    pairs = near._replace(first=seen[near.first], second=seen[near.second])
    groups = group_pairs(pairs, len(scans))
    labels = task.number(scan.label for scan in scans)
    parts = np.array([scan.part or "" for scan in scans])
    leaks, leaked = _find_leaks(scans, sets, pairs, parts)
    findings = [
        *_list_unreadable(found),
        *_list_looks(seen, looks),
        *_list_contradictions(scans, task.find_contradictions(groups, labels), groups),
        *leaked,
        *_list_copies(pairs, dict(zip(seen.tolist(), looks, strict=True)), parts),
        *_list_label_errors(seen, looks, task, labels, groups),
    ]
    return Audit(
        scans=scans,
        sets=sets,
        groups=groups,
        findings={
            kind.code: tuple(one for one in findings if one.code == kind.code) for kind in KINDS
        },
        leaks=leaks,
        shared=_share(sets, groups),
        by_set=_count(scans, sets, tuple(dict.fromkeys(sets))),
        by_plane=_count([scans[row] for row in seen], [look.plane for look in looks], PLANES),
        notes=tuple(note for tree in trees for note in tree.notes),
    )


def _list_unreadable(found: Sequence[Look | Unreadable]) -> Iterator[Finding]:
    for row, one in enumerate(found):
        if isinstance(one, Unreadable):
            code = "blank" if one.code == "blank-image" else "unreadable"
            yield Finding(code, row, one.reason)


def _list_looks(seen: NDArray[np.int64], looks: Sequence[Look]) -> Iterator[Finding]:
    rows = seen.tolist()
    for row, look in sorted(zip(rows, looks, strict=True), key=lambda one: -one[1].ct):
        if look.ct >= CT_FROM:
            yield Finding("ct", row, f"{look.ct:.0%} sure")
    for row, look in zip(rows, looks, strict=True):
        if look.annotated:
            yield Finding("annotated", row)
        if not look.found_head:
            yield Finding("no-head-outline", row)


def _list_contradictions(
    scans: Sequence[ScanFile], rows: NDArray[np.int64], groups: NDArray[np.int64]
) -> Iterator[Finding]:
    for places in list_members(groups[rows]):
        members = rows[places].tolist()
        for row in members:
            others = [other for other in members if scans[other].label != scans[row].label]
            labels = sorted({scans[other].label for other in others})
            yield Finding(
                "contradiction", row, f"copies say {' and '.join(labels)}", tuple(others[:2])
            )


def _find_leaks(
    scans: Sequence[ScanFile], sets: Sequence[str], pairs: Pairs, parts: NDArray[np.str_]
) -> tuple[tuple[Leaks, ...], list[Finding]]:
    """Compare Training and Testing of each set; other sets do not link scans here."""
    names = np.array(sets)
    labels = np.array([scan.label for scan in scans])
    within = names[pairs.first] == names[pairs.second]
    groups = group_pairs(Pairs(*(column[within] for column in pairs)), len(scans))
    leaks, findings = [], []
    for name in dict.fromkeys(sets):
        train, test = (np.nonzero((names == name) & (parts == part))[0] for part in _PARTS)
        if not len(train) or not len(test):
            continue
        leaked = find_leaks(groups, train, test)
        counts = Counter(labels[leaked].tolist())
        classes = sorted(Counter(labels[test].tolist()).items())
        leaks.append(Leaks(name, {label: (counts[label], all_) for label, all_ in classes}))
        copies = dict(zip(groups[test].tolist(), test.tolist(), strict=True))
        findings += [
            Finding("leak", row, others=(copies[groups[row]],))
            for row in find_leaks(groups, test, train).tolist()
        ]
    return tuple(leaks), findings


def _list_copies(
    pairs: Pairs, looks: dict[int, Look], parts: NDArray[np.str_]
) -> Iterator[Finding]:
    """Name for each scan the first that it copies, one of a Testing folder before all others."""
    tested = parts == "test"
    swap = tested[pairs.second] & ~tested[pairs.first]
    original = np.where(swap, pairs.second, pairs.first)
    copy = np.where(swap, pairs.first, pairs.second)
    order = np.lexsort((original, ~tested[original], -np.round(pairs.correlation, 3), copy))
    _, firsts = np.unique(copy[order], return_index=True)
    for place in order[firsts].tolist():
        one, other = int(original[place]), int(copy[place])
        kind = _name_copy(looks[one], looks[other], pairs, place)
        code = "exact-copy" if kind == "exact" else "near-copy"
        yield Finding(code, other, kind, (one,))


def _name_copy(one: Look, other: Look, pairs: Pairs, place: int) -> str:
    """Say how a copy differs from its original, such as "mirrored, rescaled"."""
    if one.digest == other.digest:
        return "exact"
    differences = []
    if pairs.mirrored[place]:
        differences.append("mirrored")
    if one.size != other.size:
        differences.append("rescaled")
    brightness = abs(float(one.thumbnail.mean()) - float(other.thumbnail.mean()))
    contrast = abs(float(one.thumbnail.std() / max(other.thumbnail.std(), 1e-6)) - 1)
    if brightness > _BRIGHTNESS or contrast > _CONTRAST:
        differences.append("contrast changed")
    if pairs.correlation[place] < _SAME:
        differences.append("similar")
    return ", ".join(differences) or "recompressed"


def _list_label_errors(
    seen: NDArray[np.int64],
    looks: Sequence[Look],
    task: Task,
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
) -> Iterator[Finding]:
    descriptors = np.array([look.descriptor for look in looks])
    guesses = guess_labels(descriptors, task, labels[seen], groups[seen])
    if guesses is None:
        return
    for row, label in zip(*find_label_errors(guesses, task, labels[seen]), strict=True):
        yield Finding(
            "label",
            int(seen[row]),
            f"{guesses[row, label]:.0%} of its look-alikes are {task.classes[label]}",
        )


def _share(sets: Sequence[str], groups: NDArray[np.int64]) -> dict[tuple[str, str], float]:
    names = np.array(sets)
    return {
        (one, other): float(np.isin(groups[names == one], groups[names == other]).mean())
        for one, other in permutations(dict.fromkeys(sets), 2)
    }


def _count(scans: Sequence[ScanFile], values: Sequence[str], columns: tuple[str, ...]) -> Table:
    counts = Counter(zip((scan.label for scan in scans), values, strict=True))
    labels = sorted({scan.label for scan in scans})
    return Table(
        columns, {label: tuple(counts[label, column] for column in columns) for label in labels}
    )
