import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from brainscan.scan import ScanSpecification
from training.data.dataset import Dataset, describe_problems, load_dataset
from training.data.sources import DataError

Grow = Callable[..., Path]


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Dataset]:
    def load(*roots: Path, binary: bool = False, exclude: tuple[str, ...] = ()) -> Dataset:
        return load_dataset(
            roots,
            ScanSpecification(32),
            tmp_path / "cache",
            binary=binary,
            exclude=exclude,
        )

    return load


def test_one_tree(tmp_path: Path, grow_tree: Grow, load: Callable[..., Dataset]) -> None:
    root = grow_tree(
        tmp_path / "set", {"Training/no_tumor": 3, "Training/glioma": 2, "Testing/no_tumor": 1}
    )
    dataset = load(root)
    assert dataset.classes == ("glioma", "notumor")
    assert dataset.names == (
        "set/Testing/no_tumor/0.png",
        "set/Training/glioma/0.png",
        "set/Training/glioma/1.png",
        "set/Training/no_tumor/0.png",
        "set/Training/no_tumor/1.png",
        "set/Training/no_tumor/2.png",
    )
    assert dataset.labels.tolist() == [1, 0, 0, 1, 1, 1]
    assert dataset.parts == ("test", "train", "train", "train", "train", "train")
    assert (dataset.pixels.shape, dataset.pixels.dtype) == ((6, 32, 32, 1), np.uint8)
    assert len(set(dataset.groups)) == 6
    assert dataset.sources == ()


def test_several_trees_are_merged(
    tmp_path: Path, grow_tree: Grow, load: Callable[..., Dataset]
) -> None:
    """One of them may hold a single class."""
    roots = [
        grow_tree(tmp_path / "sartaj", {"glioma_tumor": 2}, seed=1),
        grow_tree(tmp_path / "br35h", {"yes": 2, "no": 2, "pred": 1}, seed=2),
    ]
    dataset = load(*roots, binary=True)
    assert dataset.classes == ("healthy", "tumor")
    assert dataset.labels.tolist() == [1, 1, 0, 0, 1, 1]
    assert [source.name for source in dataset.sources] == ["sartaj", "br35h"]
    assert len(dataset.notes) == 1
    assert "pred' (1 images)" in dataset.notes[0]


def test_the_current_folder_has_a_name(
    tmp_path: Path, grow_tree: Grow, load: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(grow_tree(tmp_path / "nickparvar", {"yes": 1, "no": 1}))
    dataset = load(Path())
    assert dataset.names == ("nickparvar/no/0.png", "nickparvar/yes/0.png")
    assert [source.name for source in dataset.sources] == ["nickparvar"]


def test_excluded_scans_are_gone(
    tmp_path: Path, grow_tree: Grow, load: Callable[..., Dataset]
) -> None:
    roots = [
        grow_tree(tmp_path / "sartaj", {"glioma": 2, "no": 2}, seed=1),
        grow_tree(tmp_path / "figshare", {"glioma": 3}, seed=2),
    ]
    dataset = load(*roots, exclude=("sartaj/glioma/*",))
    assert np.bincount(dataset.labels).tolist() == [3, 2]
    assert dataset.notes == ("Left out 2 images that match 'sartaj/glioma/*', as asked.",)


def test_tumours_whose_kind_is_not_named_are_of_no_class(
    tmp_path: Path, grow_tree: Grow, load: Callable[..., Dataset]
) -> None:
    roots = [
        grow_tree(tmp_path / "a", {"yes": 2, "no": 1}, seed=1),
        grow_tree(tmp_path / "b", {"glioma": 1, "meningioma": 1}, seed=2),
    ]
    dataset = load(*roots)
    assert dataset.classes == ("glioma", "meningioma", "notumor")
    assert dataset.task.unnamed
    assert sorted(dataset.labels[:3].tolist()) == [0, 1, 2]
    assert dataset.labels[3:].tolist() == [3, 3]
    assert dataset.names[3:] == ("a/yes/0.png", "a/yes/1.png")
    assert len(dataset.pixels) == len(dataset.parts) == 5
    assert not np.isin(dataset.groups[3:], dataset.groups[:3]).any()
    assert any("2 further scans" in line for line in describe_problems(dataset))
    assert dataset.task.healthy == 2
    assert load(*roots, binary=True).labels.tolist() == [0, 1, 1, 1, 1]
    without = load(*roots, exclude=("a/yes/*",))
    assert without.classes == dataset.classes
    assert not without.task.unnamed


def test_next_to_classes_that_are_not_kinds_a_tumour_is_a_class(
    tmp_path: Path, grow_tree: Grow, load: Callable[..., Dataset]
) -> None:
    roots = [
        grow_tree(tmp_path / "a", {"no": 1, "yes": 1}, seed=1),
        grow_tree(tmp_path / "b", {"abscess": 1, "stroke": 1}, seed=2),
    ]
    dataset = load(*roots)
    assert dataset.classes == ("abscess", "notumor", "stroke", "tumor")
    assert not dataset.task.unnamed


def test_tumours_whose_kind_is_not_named_need_a_healthy_class(
    tmp_path: Path, grow_tree: Grow, load: Callable[..., Dataset]
) -> None:
    root = grow_tree(tmp_path / "a", {"glioma": 1, "meningioma": 1, "yes": 1})
    with pytest.raises(DataError, match=r"class 'tumor'.*no class is healthy here"):
        load(root)
    with pytest.raises(DataError, match=r"class 'tumor'.*no class is healthy here"):
        load(root, exclude=("a/meningioma/*",))
    assert load(root, exclude=("a/yes/*",)).classes == ("glioma", "meningioma")


def test_a_copy_names_the_kind_or_contradicts(
    tmp_path: Path, grow_tree: Grow, load: Callable[..., Dataset]
) -> None:
    nameless = grow_tree(tmp_path / "a", {"yes": 3, "no": 1}, seed=1)
    named = grow_tree(tmp_path / "b", {"glioma": 1, "meningioma": 1, "notumor": 1}, seed=2)
    shutil.copy(nameless / "yes/0.png", named / "glioma/copy.png")
    shutil.copy(nameless / "yes/1.png", named / "notumor/copy.png")
    dataset = load(nameless, named)
    assert dataset.contradictions == ("a/yes/1.png", "b/notumor/copy.png")
    assert "b/glioma/copy.png" in dataset.names
    assert dataset.names[-1] == "a/yes/2.png"
    assert np.count_nonzero(dataset.labels == 3) == 1


def test_unreadable_and_uncropped_scans_are_listed(
    tmp_path: Path, grow_tree: Grow, load: Callable[..., Dataset]
) -> None:
    root = grow_tree(tmp_path / "set", {"yes": 3, "no": 3})
    (root / "no/1.png").write_bytes(b"")
    (root / "yes/0.png").write_text("no image")
    speck = Image.new("L", (200, 200))
    speck.paste(255, (90, 90, 110, 110))
    speck.save(root / "yes/2.png")
    dataset = load(root)
    assert dataset.names == ("set/no/0.png", "set/no/2.png", "set/yes/1.png", "set/yes/2.png")
    assert dataset.labels.tolist() == [0, 0, 1, 1]
    assert [name for name, _ in dataset.skipped] == ["set/no/1.png", "set/yes/0.png"]
    assert dataset.skipped[0][1].startswith("The file is empty")
    assert dataset.uncropped == ("set/yes/2.png",)


def test_a_class_without_a_readable_scan_is_named(
    tmp_path: Path, grow_tree: Grow, load: Callable[..., Dataset]
) -> None:
    root = grow_tree(tmp_path / "set", {"glioma": 2, "no": 2, "pituitary": 7})
    for path in (root / "pituitary").iterdir():
        path.write_text("no image")
    with pytest.raises(
        DataError, match=r"No scan of pituitary can be used\. 7 left out:"
    ) as caught:
        load(root)
    lines = str(caught.value).splitlines()
    assert lines[1].startswith("  set/pituitary/0.png: The file is not an image")
    assert lines[-1] == "  and 2 more"


def test_near_duplicates_with_two_labels_are_dropped(
    tmp_path: Path, grow_tree: Grow, load: Callable[..., Dataset]
) -> None:
    root = grow_tree(tmp_path / "set", {"glioma": 3, "no": 3})
    mirrored = cv2.imread(str(root / "glioma/1.png"), cv2.IMREAD_GRAYSCALE)[:, ::-1]
    cv2.imwrite(str(root / "no/copy.png"), mirrored)
    shutil.copy(root / "glioma/2.png", root / "glioma/copy.png")
    dataset = load(root)
    assert dataset.contradictions == ("set/glioma/1.png", "set/no/copy.png")
    assert dataset.names[1:3] == ("set/glioma/2.png", "set/glioma/copy.png")
    assert dataset.groups[1] == dataset.groups[2]
    assert len(set(dataset.groups)) == 5
    assert len(dataset.pixels) == len(dataset.labels) == len(dataset.parts) == 6


def test_a_class_that_contradicts_itself_away_is_named(
    tmp_path: Path, grow_tree: Grow, load: Callable[..., Dataset]
) -> None:
    root = grow_tree(tmp_path / "set", {"glioma": 2, "no": 2})
    shutil.copytree(root / "glioma", root / "pituitary")
    with pytest.raises(DataError, match=r"No scan of glioma or pituitary(.|\n)*another label"):
        load(root)


def test_problems_are_described(
    tmp_path: Path, grow_tree: Grow, load: Callable[..., Dataset]
) -> None:
    root = grow_tree(
        tmp_path / "set",
        {"Training/no": 3, "Training/glioma": 2, "Testing/no": 2, "Testing/glioma": 1},
    )
    shutil.copy(root / "Training/no/0.png", root / "Testing/no/copy.png")
    (root / "Testing/no/0.png").write_bytes(b"")
    lines = describe_problems(load(root))
    assert lines[:6] == [
        "glioma: 3 scans",
        "notumor: 5 scans",
        "8 scans form 7 groups of near-duplicates.",
        "1 of 3 Testing scans have a near-duplicate in Training.",
        "  glioma: 0 of 1",
        "  notumor: 1 of 2",
    ]
    assert lines[-2] == "1 scans cannot be read."
    assert lines[-1].startswith("  set/Testing/no/0.png: The file is empty")
