"""Folder-per-class trees: which files are scans, what each shows, and which part it belongs to."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from brainscan.bundle.sentences import EXCLUDED, NEXT_TO_CLASSES, UNKNOWN_CLASS
from brainscan.scan.folders import is_image
from brainscan.scan.formats import list_endings
from training.data.manifest import read_manifest
from training.data.outlines import Annotations, is_mask, read_annotations
from training.data.sources import (
    CANONICAL_CLASSES,
    DataError,
    canonical_class,
    check_own_classes,
    own_class,
)

# A validation folder takes part in development, so it counts as training: `test` stays untouched.
_TRAINING = frozenset({"train", "training", "val", "valid", "validation"})
_TESTING = frozenset({"test", "testing"})
_TOP = Path()
_PATTERNS_SHOWN = 5
_LAYOUT = """\
Expected a folder for each class, with or without parts above them:

    data/Training/glioma/1.jpg        data/Healthy/scan 1.jpg
    data/Training/no_tumor/2.jpg      data/Brain Tumor/scan 2.png
    data/Testing/glioma/3.jpg

Images end in """


@dataclass(frozen=True)
class ScanFile:
    """One image file of a data set.

    Attributes:
        path: where it lies, below the folder that was asked for.
        name: that folder's name and the path below it, which exclude patterns match.
        label: the canonical class, or the folder's own name where none of the names is known.
        part: what the data set's own folders call it, or None where they name no part.
    """

    path: Path
    name: str
    label: str
    part: Literal["train", "test"] | None


@dataclass(frozen=True)
class ScanTree:
    """The scans of one folder, and what was left out of it.

    Attributes:
        root: the folder.
        name: what exclude patterns and reports call it.
        scans: ordered by path.
        excluded: how many images each pattern left out; those that matched none are missing.
        notes: a sentence for each folder or pattern that left images out.
        annotations: outlines and patients.
    """

    root: Path
    name: str
    scans: tuple[ScanFile, ...]
    excluded: Mapping[str, int]
    notes: tuple[str, ...]
    annotations: Annotations


def describe_layout() -> str:
    """Draw the folders that are expected, and say how the names of images end."""
    return f"{_LAYOUT}{', '.join(list_endings())}."


def read_trees(
    roots: Sequence[Path], *, exclude: Sequence[str] = (), manifest: Path | None = None
) -> list[ScanTree]:
    """List the scans below some folders, those that a manifest keeps, or what both have.

    Args:
        roots: the trees' tops.
        exclude: as `read_tree` takes them.
        manifest: as `read_manifest` takes it.

    Raises:
        DataError: a folder or manifest that cannot be used, or a pattern or a name of
            `own_classes` without a match.
    """
    if manifest:
        trees = _list_trees(read_manifest(manifest, roots), exclude)
    else:
        trees = [read_tree(root, exclude=exclude) for root in roots]
    _check_patterns(exclude, trees)
    if trees:
        check_own_classes()
    return trees


def find_scans(root: Path, *, exclude: Sequence[str] = ()) -> list[ScanFile]:
    """Give the scans that `read_tree` finds, without its notes."""
    return list(read_tree(root, exclude=exclude).scans)


def read_tree(root: Path, *, exclude: Sequence[str] = ()) -> ScanTree:
    """Find every scan in a folder-per-class tree; no file is opened.

    Classes are the folders that hold images themselves. Where some bear a known class name, the
    others (such as a folder of unlabelled images to try a model on) are left out, with a note;
    where none does, the folders' own names are the classes (or what `own_classes` says of them),
    but for the tree's top: what lies there next to folders of images is of no class, and left out
    with a note. Hidden files and folders and `__MACOSX` are passed over; links to folders are
    followed, each folder being read once.

    Args:
        root: the tree's top.
        exclude: glob patterns, matched against `root's name/path below it`, for instance
            `sartaj/*/glioma_tumor/*`; `*` also spans folders.

    Raises:
        DataError: the folder is not there or holds no labelled image.
    """
    if not root.is_dir():
        problem = "is a file" if root.exists() else "does not exist"
        raise DataError(f"The data folder {root} {problem}.\n{describe_layout()}")
    name = _name(root)
    images, excluded = _drop_excluded(sorted(_images(root)), name, exclude)
    notes = _note_excluded(excluded)
    sizes = Counter(path.parent for path in images)
    labels = _labels({folder: folder.name or name for folder in sizes})
    notes += [
        (NEXT_TO_CLASSES if _lies_beside(folder, sizes) else UNKNOWN_CLASS).format(
            f"'{root / folder}'", count, f"'{', '.join(CANONICAL_CLASSES)}'"
        )
        for folder, count in sizes.items()
        if folder not in labels
    ]
    known = {path: labels[path.parent] for path in images if path.parent in labels}
    if not known:
        raise DataError("\n".join([f"No labelled image in {root}.", *notes, describe_layout()]))
    return _build_tree(root, known, excluded, notes)


def _list_trees(labels: Mapping[Path, str], exclude: Sequence[str]) -> list[ScanTree]:
    """Give scans that are listed one by one, set by set: the folder above class and part."""
    sets: dict[Path, list[Path]] = {}
    for path in labels:
        root = path.parent.parent
        while root.name.lower() in _TRAINING | _TESTING:
            root = root.parent
        sets.setdefault(root, []).append(path.relative_to(root))
    trees = []
    for root, images in sorted(sets.items()):
        kept, excluded = _drop_excluded(sorted(images), _name(root), exclude)
        known = {path: labels[root / path] for path in kept}
        trees.append(_build_tree(root, known, excluded, _note_excluded(excluded)))
    return trees


def _build_tree(
    root: Path, labels: Mapping[Path, str], excluded: Mapping[str, int], notes: Sequence[str]
) -> ScanTree:
    name = _name(root)
    scans = tuple(
        ScanFile(root / path, f"{name}/{path.as_posix()}", label, _part(path))
        for path, label in labels.items()
    )
    return ScanTree(root, name, scans, excluded, tuple(notes), read_annotations(root, labels))


def _name(root: Path) -> str:
    return root.name if root.name not in ("", "..") else root.resolve().name


def _images(root: Path) -> Iterator[Path]:
    """Yield the image files below a folder, as paths relative to it."""
    seen = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = Path(folder).resolve()
        if real in seen:  # a link back up, or a second way to the same scans
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(f for f in subfolders if not f.startswith((".", "__MACOSX")))
        for file in files:
            if file.startswith(".") or is_mask(Path(file)):
                continue
            if is_image(Path(folder) / file):
                yield (Path(folder) / file).relative_to(root)


def _note_excluded(excluded: Mapping[str, int]) -> list[str]:
    if len(excluded) > _PATTERNS_SHOWN:
        return [EXCLUDED.format(sum(excluded.values()), f"'{len(excluded)} patterns'")]
    return [EXCLUDED.format(count, repr(pattern)) for pattern, count in excluded.items()]


def _drop_excluded(
    images: Sequence[Path], name: str, exclude: Sequence[str]
) -> tuple[list[Path], Counter[str]]:
    """Split off the images that a pattern matches, and count the matches of each pattern."""
    counts: Counter[str] = Counter()
    kept = []
    for path in images:
        found = [one for one in exclude if fnmatchcase(f"{name}/{path.as_posix()}", one)]
        counts.update(found)
        if not found:
            kept.append(path)
    return kept, counts


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


def _labels(names: dict[Path, str]) -> dict[Path, str]:
    """Give each folder that is a class its label: all known names, or failing any, all names.

    A name that only this command knows (`own_classes`) leaves the others their own.
    """
    known = {folder: label for folder, name in names.items() if (label := canonical_class(name))}
    if any(own_class(names[folder]) is None for folder in known):
        return known
    return {
        folder: known.get(folder, name)
        for folder, name in names.items()
        if name.lower() not in _TRAINING | _TESTING and not _lies_beside(folder, names)
    }


def _lies_beside(folder: Path, folders: Iterable[Path]) -> bool:
    """Tell whether a folder of images is the tree's top, with other folders of images below it."""
    return folder == _TOP and any(other != _TOP for other in folders)


def _part(path: Path) -> Literal["train", "test"] | None:
    """Read the part from the folders above the class folder, the nearest that names one."""
    for folder in reversed(path.parent.parent.parts):
        if folder.lower() in _TRAINING:
            return "train"
        if folder.lower() in _TESTING:
            return "test"
    return None
