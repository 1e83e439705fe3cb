"""The protocols: which scans train, which validate, and which are looked at once, at the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold, train_test_split

Protocol = Literal["official", "random-75-25", "random-80-20", "grouped"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

GROUPED_TEST_FOLDS = 7
VALIDATION_FOLDS = 10
_RANDOM_TEST_FRACTIONS: dict[Protocol, float] = {"random-75-25": 0.25, "random-80-20": 0.2}


class SplitError(ValueError):
    """The data cannot be split under the protocol; the message says why."""


@dataclass(frozen=True, eq=False)
class Split:
    """Indices of the three parts; int64, disjoint.

    Training never sees `test`; `validation` steers early stopping, the learning rate, the choice
    of the epoch and the calibration.
    """

    protocol: Protocol
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]

    @property
    def sizes(self) -> dict[str, int]:
        """How many scans each part holds."""
        return {name: len(getattr(self, name)) for name in ("train", "validation", "test")}


def split_scans(
    protocol: Protocol,
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    parts: Sequence[str | None],
    seed: int,
) -> Split:
    """Divide scans into training, validation and test parts, before any augmentation.

    - `official`: the data set's own Testing folders; the validation part is a tenth of Training,
      and no near-duplicate of it trains.
    - `random-75-25`, `random-80-20`: a stratified draw of 25 % (document 000's 3:1) or 20 % (the
      other documents) to test and a tenth of the rest to validate; near-duplicates may straddle,
      so their figures flatter.
    - `grouped`: a seventh to test and a tenth of the rest to validate, and near-duplicates,
      mirrored ones too, stay together.

    Args:
        protocol: one of the above.
        labels: int64, shape (scans,).
        groups: int64, shape (scans,): near-duplicate groups.
        parts: "train", "test" or None for each scan: the folder it comes from.
        seed: of the draw.

    Raises:
        SplitError: no Testing folder for `official`, or too few scans or groups of a class.
    """
    everything = np.arange(len(labels))
    if protocol == "official":
        is_test = np.array([part == "test" for part in parts])
        if not is_test.any() or is_test.all():
            raise SplitError(
                "The official protocol needs a Training and a Testing folder. "
                "None was found in the data: use --protocol grouped or random-80-20."
            )
        rest, test = everything[~is_test], everything[is_test]
        train, validation = _divide_groups(rest, labels, groups, VALIDATION_FOLDS, seed)
    elif protocol in _RANDOM_TEST_FRACTIONS:
        fraction = _RANDOM_TEST_FRACTIONS[protocol]
        rest, test = _divide_at_random(everything, labels, fraction, seed)
        train, validation = _divide_at_random(rest, labels, 1 / VALIDATION_FOLDS, seed)
    else:
        rest, test = _divide_groups(everything, labels, groups, GROUPED_TEST_FOLDS, seed)
        train, validation = _divide_groups(rest, labels, groups, VALIDATION_FOLDS, seed)
    _check_classes(labels, {"training": train, "validation": validation, "test": test})
    return Split(protocol, train, validation, test)


def split_unnamed(
    groups: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide scans without a class: six sevenths to train, one to test, copies kept together."""
    if len(np.unique(groups)) < GROUPED_TEST_FOLDS:
        return np.arange(len(groups)), np.arange(0)
    splitter = GroupShuffleSplit(1, test_size=1 / GROUPED_TEST_FOLDS, random_state=seed)
    train, test = next(splitter.split(groups, groups=groups))
    return train, test


def _divide_at_random(
    scans: NDArray[np.int64], labels: NDArray[np.int64], fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    try:
        kept, drawn = train_test_split(
            scans, test_size=fraction, stratify=labels[scans], random_state=seed
        )
    except ValueError as error:
        raise SplitError(f"There are too few scans to divide: {error}") from None
    return np.sort(kept), np.sort(drawn)


def _divide_groups(
    scans: NDArray[np.int64],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    folds: int,
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    fewest = np.unique_counts(labels[scans]).counts.min()
    if fewest < folds:
        raise SplitError(
            f"There are too few scans to divide: of one class there are {fewest}, and {folds} are "
            "needed. Add scans of it, or leave its folder out with --exclude."
        )
    folder = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    kept, drawn = next(folder.split(scans, labels[scans], groups[scans]))
    return scans[kept], scans[drawn]


def _check_classes(labels: NDArray[np.int64], parts: dict[str, NDArray[np.int64]]) -> None:
    wanted = set(np.unique(labels).tolist())
    for name, scans in parts.items():
        missing = wanted - set(labels[scans].tolist())
        if missing:
            raise SplitError(
                f"The {name} part would hold no scan of {len(missing)} of the {len(wanted)} "
                "classes. Add scans, or use --protocol random-80-20."
            )
