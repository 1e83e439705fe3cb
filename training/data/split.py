"""The protocols: which scans train, which validate, and which are looked at once, at the end."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold, train_test_split

from brainscan.bundle.protocols import Protocol
from training.data.dataset import Dataset
from training.data.outlines import Outline

BY_PATIENT = ("patient", "leave-one-source-out")
GROUPED_TEST_FOLDS = 7
PATIENT_FOLDS = 4
VALIDATION_FOLDS = 10
OF_VARIANTS: Protocol = "variants-75-25"
_RANDOM_TEST_FRACTIONS: dict[Protocol, float] = {
    OF_VARIANTS: 0.25,
    "random-75-25": 0.25,
    "random-80-20": 0.2,
}

Rows = NDArray[np.int64]


class SplitError(ValueError):
    """The data cannot be split under the protocol; the message says why."""


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the scans, row by row.

    Attributes:
        inputs: what a model takes: scans, uint8, shape (rows, size, size, 1); or their features.
        labels: int64, shape (rows,), as `Task` numbers them.
        groups: int64, shape (rows,): near-duplicate groups.
        outlines: of the tumours, as `Dataset` has them.
        variants: of row after row, uint8, shape (21, size, size, 1); None where none are trained
            on.
    """

    inputs: NDArray[Any]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    outlines: tuple[Outline | None, ...] = ()
    variants: "Variants | None" = None


@dataclass(frozen=True, eq=False)
class Variants:
    """The variants of the scans of a part, which stay on disk until they are shown.

    Attributes:
        drawn: of all scans of the data set, as `Dataset` has them.
        scans: int64, shape (rows,): which scan of the data set each row of the part is.
    """

    drawn: NDArray[np.uint8]
    scans: Rows

    def show(self, rows: Rows, numbers: Rows) -> NDArray[np.uint8]:
        """Give one variant of each of some rows: uint8, shape (rows, size, size, 1)."""
        return self.drawn[self.scans[rows], numbers]


@dataclass(frozen=True, eq=False)
class Split:
    """A data set and its parts, as disjoint indices of its scans: int64.

    Training never sees `test`; `validation` steers early stopping, the learning rate, the choice
    of the epoch and the calibration. Tumours whose kind is not named are in none of the three:
    `unnamed_train` teaches, `unnamed_test` is tested on.
    """

    dataset: Dataset
    protocol: Protocol
    train: Rows
    validation: Rows
    test: Rows
    unnamed_train: Rows
    unnamed_test: Rows

    @property
    def groups(self) -> Rows:
        """What was kept together, of each scan of the data set: copies, or slices of a patient."""
        data = self.dataset
        return data.runs if self.protocol in BY_PATIENT else data.groups

    @property
    def sizes(self) -> dict[str, int]:
        """How many scans each part holds."""
        return {name: len(getattr(self, name)) for name in ("train", "validation", "test")}

    def take(self, *rows: Rows) -> Part:
        """Give the scans of some rows, in that order."""
        chosen = np.concatenate(rows)
        data = self.dataset
        outlines = tuple(data.outlines[row] for row in chosen)
        variants = None if data.variants is None else Variants(data.variants, chosen)
        return Part(
            data.pixels[chosen], data.labels[chosen], data.groups[chosen], outlines, variants
        )


def split_scans(dataset: Dataset, protocol: Protocol, seed: int) -> Split:
    """Divide scans into training, validation and test parts, before any augmentation.

    - `official`: the data set's own Testing folders; the validation part is a tenth of Training,
      and no near-duplicate of it trains.
    - `random-75-25`, `random-80-20`: a stratified draw of 25 % (document 000's 3:1) or 20 % (the
      other documents) to test and a tenth of the rest to validate; near-duplicates may straddle,
      so their figures are too good.
    - `variants-75-25`: the same draw of all variants of all scans, as document 000's text has it.
      Nearly all test scans have variants of themselves in training: the figures are leaked.
    - `grouped`: a seventh to test and a tenth of the rest to validate, and near-duplicates,
      mirrored ones too, stay together.

    - `patient`: a quarter of the patients is kept out of training, with all that is a
      near-duplicate of one of their slices. One half of them validates, the other is tested on.
      Where only folds of patients are known, a patient of the fold that is kept out may have slices
      in both halves.

    - `leave-one-source-out`: the last of the folders is tested on, and no patient and no
      near-duplicate of it trains; of the rest, a tenth validates.

    Of tumours whose kind is not named, a seventh is tested on, copies kept together.

    Args:
        dataset: what to divide.
        protocol: one of the above.
        seed: of the draw.

    Raises:
        SplitError: no Testing folder for `official`, or too few scans or groups of a class.
    """
    if protocol == OF_VARIANTS:
        dataset = _count_variants_as_scans(dataset)
    labels, groups, patients = dataset.labels, dataset.groups, dataset.patients
    named = dataset.task.is_named(labels)
    everything, nameless = np.nonzero(named)[0], np.nonzero(~named)[0]
    unnamed = _divide_nameless(nameless, groups, seed)
    if protocol == "official":
        is_test = np.array([dataset.parts[row] == "test" for row in everything])
        if not is_test.any() or is_test.all():
            raise SplitError(
                "The official protocol needs a Training and a Testing folder. "
                "None was found in the data: use --protocol grouped or random-80-20."
            )
        rest, test = everything[~is_test], everything[is_test]
        train, validation = _divide_groups(rest, labels, groups, VALIDATION_FOLDS, seed)
    elif protocol == "leave-one-source-out":
        rest, test = _leave_last_source(dataset, everything)
        train, validation = _divide_groups(rest, labels, dataset.runs, VALIDATION_FOLDS, seed)
        unnamed = _leave_last_source(dataset, nameless)
    elif protocol in _RANDOM_TEST_FRACTIONS:
        fraction = _RANDOM_TEST_FRACTIONS[protocol]
        rest, test = _divide_at_random(everything, labels, fraction, seed)
        train, validation = _divide_at_random(rest, labels, 1 / VALIDATION_FOLDS, seed)
    elif protocol == "patient":
        train, kept_out = _divide_groups(everything, labels, patients, PATIENT_FOLDS, seed)
        test, validation = _divide_groups(kept_out, labels, dataset.runs, 2, seed)
        known = nameless[~np.isin(patients[nameless], patients[kept_out])]
        unnamed = _divide_nameless(known, patients, seed)
    else:
        rest, test = _divide_groups(everything, labels, groups, GROUPED_TEST_FOLDS, seed)
        train, validation = _divide_groups(rest, labels, groups, VALIDATION_FOLDS, seed)
    _check_classes(labels, everything, {"training": train, "validation": validation, "test": test})
    return Split(dataset, protocol, train, validation, test, *unnamed)


def _count_variants_as_scans(dataset: Dataset) -> Dataset:
    """Give the data set of all variants; each is of the near-duplicate group of its scan."""
    if dataset.variants is None:
        raise SplitError(f"The protocol {OF_VARIANTS} needs the variants of all scans.")
    times = dataset.variants.shape[1]

    def repeat(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(value for value in values for _ in range(times))

    return replace(
        dataset,
        names=tuple(f"{name} ({number})" for name in dataset.names for number in range(times)),
        pixels=dataset.variants.reshape(-1, *dataset.pixels.shape[1:]),
        labels=np.repeat(dataset.labels, times),
        groups=np.repeat(dataset.groups, times),
        parts=repeat(dataset.parts),
        outlines=(None,) * (times * len(dataset.names)),  # they are turned with the scan
        patients=np.repeat(dataset.patients, times),
        runs=np.repeat(dataset.runs, times),
        planes=repeat(dataset.planes),
        variants=None,
    )


def _leave_last_source(dataset: Dataset, scans: Rows) -> tuple[Rows, Rows]:
    """Divide scans into those that share nothing with the last folder, and that folder's."""
    sources = np.array([name.partition("/")[0] for name in dataset.names])
    left_out = sources == sources[dataset.task.is_named(dataset.labels)][-1]
    if left_out.all():
        raise SplitError(
            "The protocol leave-one-source-out needs two folders or more; the last one is tested "
            "on. Pass --data again, or use --protocol patient or grouped."
        )
    shared = np.isin(dataset.patients, dataset.patients[left_out])
    return scans[~shared[scans]], scans[left_out[scans]]


def _divide_nameless(scans: Rows, groups: Rows, seed: int) -> tuple[Rows, Rows]:
    if len(np.unique(groups[scans])) < GROUPED_TEST_FOLDS:
        return scans, scans[:0]
    splitter = GroupShuffleSplit(1, test_size=1 / GROUPED_TEST_FOLDS, random_state=seed)
    kept, drawn = next(splitter.split(scans, groups=groups[scans]))
    return scans[kept], scans[drawn]


def _divide_at_random(scans: Rows, labels: Rows, fraction: float, seed: int) -> tuple[Rows, Rows]:
    try:
        kept, drawn = train_test_split(
            scans, test_size=fraction, stratify=labels[scans], random_state=seed
        )
    except ValueError as error:
        raise SplitError(f"There are too few scans to divide: {error}") from None
    return np.sort(kept), np.sort(drawn)


def _divide_groups(
    scans: Rows, labels: Rows, groups: Rows, folds: int, seed: int
) -> tuple[Rows, Rows]:
    fewest = min(np.unique_counts(labels[scans]).counts, default=0)
    if fewest < folds:
        raise SplitError(
            f"There are too few scans to divide: of one class there are {fewest}, and {folds} are "
            "needed. Add scans of it, or leave its folder out with --exclude."
        )
    folder = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    kept, drawn = next(folder.split(scans, labels[scans], groups[scans]))
    return scans[kept], scans[drawn]


def _check_classes(labels: Rows, everything: Rows, parts: dict[str, Rows]) -> None:
    wanted = set(labels[everything].tolist())
    for name, scans in parts.items():
        missing = wanted - set(labels[scans].tolist())
        if missing:
            raise SplitError(
                f"The {name} part would hold no scan of {len(missing)} of the {len(wanted)} "
                "classes. Add scans, or use --protocol random-80-20."
            )
