"""What an audit can find, and what one has found."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.folders import ScanFile


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    Attributes:
        code: what the manifest calls it.
        says: what is said of the scans, after "12 scans" or "scans that".
        advice: what it means, and what to do.
        left_out: whether the manifest leaves the scans out unless it is edited.
    """

    code: str
    says: str
    advice: str
    left_out: bool


KINDS = (
    Kind("unreadable", "cannot be read", "Training skips them.", left_out=True),
    Kind(
        "blank", "are blank", "Every pixel has the same value. Training skips them.", left_out=True
    ),
    Kind(
        "ct",
        "look like CT, not MRI",
        "The skull is a thick, closed, saturated ring next to a flat brain. A model learns nothing "
        "about MRI from them.",
        left_out=True,
    ),
    Kind(
        "contradiction",
        "have a near-duplicate with another label",
        "At least one of the labels is wrong. Training leaves them all out. Where you know better, "
        "correct the label in the manifest and set keep to 1.",
        left_out=True,
    ),
    Kind(
        "leak",
        "are in Training and have a near-duplicate in Testing of the same set",
        "A model that has seen them is tested on what it knows. Without them, the set's own split "
        "is free of leaks, and nothing is lost: their copies are in Testing.",
        left_out=True,
    ),
    Kind(
        "exact-copy",
        "are exact copies of another file",
        "Byte for byte the same. One of the files is kept.",
        left_out=True,
    ),
    Kind(
        "near-copy",
        "show nearly the same picture as another",
        "Mirrored, rescaled, recompressed, changed in contrast, or a neighbouring slice. They are "
        "kept: training knows them and keeps them together in the grouped protocol.",
        left_out=False,
    ),
    Kind(
        "label",
        "may carry the wrong label",
        "The scans that look most like them carry another label. Most of them are right all the "
        "same, so they are kept; look at them, the clearest first.",
        left_out=False,
    ),
    Kind(
        "annotated",
        "have something drawn on them",
        "A circle or an arrow tells a model the answer. They are kept, and the marks are removed "
        "in reading; export them without marks where you can.",
        left_out=False,
    ),
    Kind(
        "no-head-outline",
        "show no clear outline of a head",
        "The crop around the head would be degenerate, so training takes the whole picture.",
        left_out=False,
    ),
)


@dataclass(frozen=True)
class Finding:
    """Something about one scan.

    Attributes:
        code: of its kind.
        scan: its index.
        note: details, for a person.
        others: the indices of scans to look at next to it.
    """

    code: str
    scan: int
    note: str = ""
    others: tuple[int, ...] = ()


@dataclass(frozen=True)
class Leaks:
    """How many Testing scans of a set have a near-duplicate in its Training.

    Attributes:
        name: of the set.
        classes: class → leaked and all Testing scans.
    """

    name: str
    classes: dict[str, tuple[int, int]]

    @property
    def total(self) -> tuple[int, int]:
        """Leaked and all Testing scans of all classes."""
        leaked, scans = zip(*self.classes.values(), strict=True)
        return sum(leaked), sum(scans)


@dataclass(frozen=True)
class Table:
    """Counts of scans by class and by something else that a model might learn instead.

    Attributes:
        columns: what else.
        rows: class → count of each column.
    """

    columns: tuple[str, ...]
    rows: dict[str, tuple[int, ...]]

    @property
    def guessed(self) -> tuple[float, float]:
        """How often naming the commonest class of the column is right, and of all columns."""
        counts = np.array(list(self.rows.values()))
        total = max(counts.sum(), 1)
        return float(counts.max(axis=0).sum() / total), float(counts.sum(axis=1).max() / total)


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit found.

    Attributes:
        scans: all that were looked at.
        sets: the name of each scan's folder.
        groups: int64, shape (scans,): near-duplicates have the same number.
        findings: by kind, in the order of `KINDS`; within a kind, what to look at first.
        leaks: of each set with Training and Testing folders.
        shared: (one set, another) → the share of the one's scans with a near-duplicate in it.
        by_set: class by set.
        by_plane: class by guessed plane.
        notes: what the folders left out.
    """

    scans: tuple[ScanFile, ...]
    sets: tuple[str, ...]
    groups: NDArray[np.int64]
    findings: dict[str, tuple[Finding, ...]]
    leaks: tuple[Leaks, ...]
    shared: dict[tuple[str, str], float]
    by_set: Table
    by_plane: Table
    notes: tuple[str, ...]

    @property
    def left_out(self) -> frozenset[int]:
        """The scans that the manifest leaves out."""
        return frozenset(
            finding.scan for kind in KINDS if kind.left_out for finding in self.findings[kind.code]
        )

    def list_rows(self) -> Iterator[tuple[Path, str, int, str, bool]]:
        """Give the row of each scan, as `write_manifest` takes it."""
        codes: defaultdict[int, list[str]] = defaultdict(list)
        for code, findings in self.findings.items():
            for finding in findings:
                codes[finding.scan].append(code)
        left_out = self.left_out
        for row, (scan, group) in enumerate(zip(self.scans, self.groups.tolist(), strict=True)):
            yield scan.path, scan.label, group, " ".join(codes[row]), row not in left_out


def describe(audit: Audit) -> list[str]:
    """Say in lines what a person should know of the scans."""
    classes = Counter(scan.label for scan in audit.scans)
    lines = [f"{name}: {count:,} scans" for name, count in sorted(classes.items())]
    lines.append(
        f"{len(audit.scans):,} scans form {len(np.unique(audit.groups)):,} groups of "
        "near-duplicates."
    )
    for one in audit.leaks:
        leaked, scans = one.total
        lines.append(
            f"{one.name}: {leaked:,} of {scans:,} Testing scans have a near-duplicate in Training."
        )
        lines += [f"  {name}: {few:,} of {all_:,}" for name, (few, all_) in one.classes.items()]
    lines += [
        f"{share:.0%} of {one} have a near-duplicate in {other}."
        for (one, other), share in audit.shared.items()
    ]
    lines += [f"{len(audit.findings[kind.code]):,} scans {kind.says}." for kind in KINDS]
    if len(audit.by_set.columns) > 1:
        lines.append(describe_table(audit.by_set, "the set"))
    lines.append(describe_table(audit.by_plane, "the plane"))
    return [*lines, *audit.notes]


def describe_table(table: Table, what: str) -> str:
    """Say how far something else gives the class away."""
    informed, blind = table.guessed
    return (
        f"Knowing only {what} of a scan, one would name its class right for {informed:.0%}; always "
        f"naming the commonest class, for {blind:.0%}."
    )
