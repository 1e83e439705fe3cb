import numpy as np
import pytest
from numpy.typing import NDArray

from brainscan.bundle.protocols import PROTOCOLS, Protocol
from training.data.dataset import Dataset
from training.data.split import Split, SplitError
from training.data.split import split_scans as split_dataset
from training.data.task import Task

Set = tuple[NDArray[np.int64], NDArray[np.int64], list[str | None]]
DRAWN = [one for one in PROTOCOLS if one not in {"leave-one-source-out", "variants-75-25"}]
KINDS = ("glioma", "meningioma", "notumor", "pituitary")


def split_scans(
    protocol: Protocol,
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    parts: list[str | None],
    seed: int,
    names: list[str] | None = None,
) -> Split:
    """Split a data set of which nothing else matters."""
    task = Task(KINDS, unnamed=bool((labels == len(KINDS)).any()))
    pixels = np.zeros((len(labels), 1, 1, 1), np.uint8)
    variants = np.arange(21, dtype=np.uint8).reshape(-1, 1, 1, 1) + pixels[:, np.newaxis]
    names = names or [f"set/{row}" for row in range(len(labels))]
    outlines = (None,) * len(labels)
    patients = groups // 2
    return split_dataset(
        Dataset(
            task,
            tuple(names),
            pixels,
            labels,
            groups,
            tuple(parts),
            outlines,
            patients,
            patients,
            "",
            variants=variants,
        ),
        protocol,
        seed,
    )


def make_set(seed: int = 0) -> Set:
    """Four classes of 150 scans in groups of 1 to 6; every fifth group is the set's own test."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(4), 150)
    groups = np.empty(600, np.int64)
    row = group = 0
    while row < 600:
        size = min(random.integers(1, 7), 150 - row % 150)  # a group has one label
        groups[row : row + size] = group
        row, group = row + size, group + 1
    parts: list[str | None] = ["test" if number % 5 == 0 else "train" for number in groups]
    order = random.permutation(600)
    return labels[order], groups[order], [parts[row] for row in order]


def straddling(groups: NDArray[np.int64], first: NDArray[np.int64], *others: NDArray) -> int:
    return int(np.isin(groups[np.concatenate(others)], groups[first]).sum())


def test_slices_of_a_patient_stay_together() -> None:
    labels, groups, parts = make_set()
    split = split_scans("patient", labels, groups, parts, seed=0)
    patients = groups // 2
    assert straddling(patients, split.test, split.train, split.validation) == 0
    assert straddling(patients, split.validation, split.train) == 0


def test_one_source_is_left_out_with_all_that_resembles_it() -> None:
    labels, groups, parts = make_set()
    sources = [
        "last" if group // 2 % 3 == 0 and row % 2 else "first" for row, group in enumerate(groups)
    ]
    order = np.argsort(sources, kind="stable")
    labels, groups = labels[order], groups[order]
    names = [f"{sources[row]}/{row}" for row in order]
    split = split_scans("leave-one-source-out", labels, groups, parts, seed=0, names=names)
    assert {names[row].partition("/")[0] for row in split.test} == {"last"}
    assert len(split.test) == sources.count("last")
    assert straddling(groups // 2, split.test, split.train, split.validation) == 0


def test_one_source_cannot_be_left_out_where_all_scans_resemble_it() -> None:
    labels, groups, parts = make_set()
    names = [f"{'first' if row % 2 else 'last'}/{row}" for row in range(len(labels))]
    same = np.zeros_like(groups)
    with pytest.raises(SplitError, match="of one class there are 0, and 10 are needed"):
        split_scans("leave-one-source-out", labels, same, parts, seed=0, names=names)


def test_one_source_cannot_be_left_out_of_one() -> None:
    with pytest.raises(SplitError, match="needs two folders or more"):
        split_scans("leave-one-source-out", *make_set(), seed=0)


@pytest.mark.parametrize("protocol", DRAWN)
def test_every_scan_is_in_just_one_part(protocol: Protocol) -> None:
    labels, groups, parts = make_set()
    split = split_scans(protocol, labels, groups, parts, seed=0)
    together = np.concatenate([split.train, split.validation, split.test])
    assert sorted(together) == list(range(600))
    assert split.protocol == protocol


@pytest.mark.parametrize(
    ("protocol", "test_share"),
    [("grouped", 1 / 7), ("random-75-25", 0.25), ("random-80-20", 0.2), ("official", 0.2)],
)
def test_the_parts_have_their_sizes_and_every_class_its_share(
    protocol: Protocol, test_share: float
) -> None:
    labels, groups, parts = make_set()
    split = split_scans(protocol, labels, groups, parts, seed=0)
    shares = {"test": test_share, "validation": (1 - test_share) / 10}
    for name, share in shares.items():
        counts = np.bincount(labels[getattr(split, name)], minlength=4)
        assert counts.sum() / 600 == pytest.approx(share, abs=0.035)
        assert counts / 150 == pytest.approx(np.full(4, share), abs=0.06)


def test_no_near_duplicate_straddles_a_grouped_split() -> None:
    labels, groups, parts = make_set()
    split = split_scans("grouped", labels, groups, parts, seed=0)
    assert straddling(groups, split.train, split.validation, split.test) == 0
    assert straddling(groups, split.validation, split.test) == 0


def test_official_keeps_the_sets_own_testing_part_and_a_clean_validation_part() -> None:
    labels, groups, parts = make_set()
    leaked = groups.copy()
    is_test = np.array(parts) == "test"
    leaked[is_test] = np.random.default_rng(0).choice(groups[~is_test], is_test.sum())
    split = split_scans("official", labels, leaked, parts, seed=0)
    assert split.test.tolist() == np.nonzero(is_test)[0].tolist()
    assert straddling(leaked, split.train, split.test) > 0  # as published, leaks and all
    assert straddling(leaked, split.train, split.validation) == 0


def test_official_counts_scans_of_no_part_as_training() -> None:
    labels, groups, parts = make_set()
    split = split_scans("official", labels, groups, [p if p == "test" else None for p in parts], 0)
    assert split.test.tolist() == [row for row, part in enumerate(parts) if part == "test"]


@pytest.mark.parametrize("protocol", ["random-75-25", "random-80-20"])
def test_random_lets_near_duplicates_straddle(protocol: Protocol) -> None:
    labels, groups, parts = make_set()
    split = split_scans(protocol, labels, groups, parts, seed=0)
    assert straddling(groups, split.train, split.test) > 0


@pytest.mark.parametrize("protocol", DRAWN)
def test_the_seed_decides(protocol: Protocol) -> None:
    def draw(seed: int) -> Split:
        return split_scans(protocol, *make_set(), seed)

    first, again, other = draw(1), draw(1), draw(2)
    for name in ("train", "validation", "test"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.validation, other.validation)


@pytest.mark.parametrize(("protocol", "scans"), [("random-75-25", 150), ("random-80-20", 120)])
def test_a_random_split_takes_just_its_share(protocol: Protocol, scans: int) -> None:
    split = split_scans(protocol, *make_set(), seed=0)
    assert split.sizes["test"] == scans


def test_variants_of_a_scan_may_stand_on_both_sides() -> None:
    labels, groups, parts = make_set()
    split = split_scans("variants-75-25", labels, groups, parts, seed=0)
    assert sum(split.sizes.values()) == 21 * 600
    assert split.sizes["test"] == 21 * 600 / 4
    test = split.take(split.test)
    scans, numbers = np.divmod(split.test, 21)
    assert test.inputs.ravel().tolist() == numbers.tolist()
    assert test.labels.tolist() == labels[scans].tolist()
    assert test.groups.tolist() == groups[scans].tolist()
    assert np.isin(scans, split.train // 21).mean() > 0.99
    assert split.dataset.names[21 * 5 + 3] == "set/5 (3)"


def test_tumours_without_a_name_are_divided_by_groups() -> None:
    labels, groups, parts = make_set()
    more = np.repeat(np.arange(70), 3) + 1000
    labels, groups = np.append(labels, np.full(210, 4)), np.append(groups, more)
    split = split_scans("grouped", labels, groups, [*parts, *[None] * 210], seed=1)
    assert sum(split.sizes.values()) == 600
    assert sorted([*split.unnamed_train, *split.unnamed_test]) == list(range(600, 810))
    assert len(split.unnamed_test) == 30
    assert straddling(groups, split.unnamed_train, split.unnamed_test) == 0
    few = split_scans("grouped", labels[:603], groups[:603], [None] * 603, seed=1)
    assert few.unnamed_train.tolist() == [600, 601, 602]
    assert few.unnamed_test.tolist() == []


@pytest.mark.parametrize("part", [None, "train", "test"])
def test_official_needs_both_folders(part: str | None) -> None:
    labels, groups, _ = make_set()
    with pytest.raises(SplitError, match="needs a Training and a Testing folder"):
        split_scans("official", labels, groups, [part] * 600, 0)


@pytest.mark.parametrize("protocol", ["grouped", "random-75-25", "random-80-20"])
@pytest.mark.parametrize("scarce", [1, 2, 5])
def test_too_few_scans_are_refused(protocol: Protocol, scarce: int) -> None:
    labels = np.array([0] * 40 + [1] * scarce)
    with pytest.raises(SplitError, match=r"too few scans|would hold no scan of 1 of the 2"):
        split_scans(protocol, labels, np.arange(len(labels)), [None] * len(labels), 0)


def test_a_class_that_is_one_group_cannot_be_divided() -> None:
    labels = np.repeat([0, 1], 30)
    groups = np.where(labels == 1, 99, np.arange(60))
    with pytest.raises(SplitError, match=r"would hold no scan.*--protocol random-80-20"):
        split_scans("grouped", labels, groups, [None] * 60, 0)


def test_a_testing_folder_without_a_class_is_refused() -> None:
    labels, groups, parts = make_set()
    parts = ["train" if label == 3 else part for label, part in zip(labels, parts, strict=True)]
    with pytest.raises(SplitError, match="test part would hold no scan of 1 of the 4"):
        split_scans("official", labels, groups, parts, 0)
