from pathlib import Path

import pytest

from training.data.folders import find_scans, read_tree, read_trees
from training.data.sources import DataError, own_classes

SHARED = Path(__file__).parents[2] / "../shared/data"


def draw(root: Path, *files: str) -> Path:
    """Make a tree of files; their content does not matter, as none is opened."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def listed(root: Path, **options: object) -> list[tuple[str, str, str | None]]:
    return [
        (scan.path.relative_to(root).as_posix(), scan.label, scan.part)
        for scan in find_scans(root, **options)
    ]


def test_parts_and_known_spellings(tmp_path: Path) -> None:
    root = draw(
        tmp_path / "sartaj",
        "Training/no_tumor/b.jpg",
        "Training/no_tumor/a.JPEG",
        "Training/glioma_tumor/1.png",
        "Testing/glioma_tumor/1.png",
        "validation/glioma_tumor/2.png",
    )
    assert listed(root) == [
        ("Testing/glioma_tumor/1.png", "glioma", "test"),
        ("Training/glioma_tumor/1.png", "glioma", "train"),
        ("Training/no_tumor/a.JPEG", "notumor", "train"),
        ("Training/no_tumor/b.jpg", "notumor", "train"),
        ("validation/glioma_tumor/2.png", "glioma", "train"),
    ]


def test_classes_may_lie_at_any_depth_and_bear_any_name(tmp_path: Path) -> None:
    root = draw(tmp_path, "Set/Set/cats/1.bmp", "Set/Set/dogs/1.webp", "Set/Set/dogs/2.TIFF")
    assert listed(root) == [
        ("Set/Set/cats/1.bmp", "cats", None),
        ("Set/Set/dogs/1.webp", "dogs", None),
        ("Set/Set/dogs/2.TIFF", "dogs", None),
    ]


def test_only_images_that_are_not_hidden_count(tmp_path: Path) -> None:
    root = draw(
        tmp_path,
        "yes/1.jpg",
        "yes/.1.jpg",
        "yes/notes.txt",
        "no/1.jpg",
        ".cache/no/1.jpg",
        "__MACOSX/no/1.jpg",
        "metadata.csv",
    )
    assert [path for path, _, _ in listed(root)] == ["no/1.jpg", "yes/1.jpg"]


def test_unlabelled_folders_are_left_out_with_a_note(tmp_path: Path) -> None:
    root = draw(
        tmp_path / "br35h",
        "yes/y1.jpg",
        "no/n1.jpg",
        "pred/pred0.jpg",
        "pred/pred1.jpg",
        "Br35H-Mask-RCNN/TRAIN/y1.jpg",
    )
    tree = read_tree(root)
    assert [scan.label for scan in tree.scans] == ["notumor", "tumor"]
    assert len(tree.notes) == 2
    assert str(root / "Br35H-Mask-RCNN/TRAIN") in tree.notes[0]
    assert f"'{root / 'pred'}' (2 images)" in tree.notes[1]
    assert "glioma" in tree.notes[1]


@pytest.mark.parametrize("classes", [("cats", "dogs"), ("glioma", "notumor")])
def test_images_beside_the_folders_of_the_classes_are_left_out_with_a_note(
    tmp_path: Path, classes: tuple[str, str]
) -> None:
    root = draw(tmp_path / "set", "1.jpg", "2.jpg", *(f"{name}/1.jpg" for name in classes))
    tree = read_tree(root)
    assert [scan.label for scan in tree.scans] == list(classes)
    (note,) = tree.notes
    assert note.startswith(
        f"Left out '{root}' (2 images): they are next to the folders of the class"
    )


def test_a_folder_of_images_may_be_a_class_itself(tmp_path: Path) -> None:
    """It has no folders of images, or bears the name of a known class."""
    assert listed(draw(tmp_path / "cats", "1.jpg")) == [("1.jpg", "cats", None)]
    root = draw(tmp_path / "Healthy", "1.jpg", "more/2.jpg")
    assert listed(root) == [("1.jpg", "notumor", None)]


def test_exclude_takes_patterns_from_the_root_name_on(tmp_path: Path) -> None:
    root = draw(
        tmp_path / "sartaj",
        "Training/glioma_tumor/1.jpg",
        "Testing/glioma_tumor/1.jpg",
        "Training/no_tumor/1.jpg",
        "Training/pituitary_tumor/1.jpg",
    )
    patterns = ["sartaj/*/glioma_tumor/*", "nickparvar/*"]
    tree = read_tree(root, exclude=patterns)
    assert [scan.label for scan in tree.scans] == ["notumor", "pituitary"]
    assert tree.notes == ("Left out 2 images that match 'sartaj/*/glioma_tumor/*', as asked.",)
    assert tree.excluded == {"sartaj/*/glioma_tumor/*": 2}


def test_each_exclude_pattern_counts_all_that_it_matches(tmp_path: Path) -> None:
    root = draw(tmp_path / "set", "a/1.jpg", "a/2.jpg", "b/1.jpg", "c/2.jpg")
    tree = read_tree(root, exclude=["set/a/*", "*/1.jpg", "*.png"])
    assert tree.name == "set"
    assert tree.excluded == {"set/a/*": 2, "*/1.jpg": 2}
    assert [scan.path.relative_to(root).as_posix() for scan in tree.scans] == ["c/2.jpg"]


def test_exclude_knows_the_name_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(draw(tmp_path / "sets", "a/1.jpg", "b/1.jpg", "c/1.jpg"))
    assert [scan.label for scan in find_scans(Path(), exclude=["sets/c/*"])] == ["a", "b"]


def test_a_pattern_without_a_match_is_a_slip(tmp_path: Path) -> None:
    root = draw(tmp_path / "sartaj", "glioma/1.jpg", "no/1.jpg")
    with pytest.raises(DataError, match=r"'sartaj/gliomas/\*' matches no image.*given: sartaj"):
        read_trees([root], exclude=("sartaj/gliomas/*", "sartaj/glioma/*"))


def test_links_are_followed_once(tmp_path: Path) -> None:
    elsewhere = draw(tmp_path / "elsewhere", "1.jpg")
    root = draw(tmp_path / "data", "healthy/1.jpg")
    (root / "tumor").symlink_to(elsewhere)
    (root / "healthy" / "loop").symlink_to(root)
    assert [path for path, _, _ in listed(root)] == ["healthy/1.jpg", "tumor/1.jpg"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"scan\.jpg is a file"):
        find_scans(draw(tmp_path, "scan.jpg") / "scan.jpg")


def test_a_folder_of_one_class_is_read(tmp_path: Path) -> None:
    """Another folder may bring the others."""
    root = draw(tmp_path, "glioma/1.jpg", "glioma_tumor/1.jpg")
    assert [label for _, label, _ in listed(root)] == ["glioma", "glioma"]


@pytest.mark.skipif(not SHARED.exists(), reason="the shared scans are not here")
def test_the_real_sets() -> None:
    counts = {
        name: len(find_scans(SHARED / name)) for name in ("nickparvar", "sartaj", "preetviradiya")
    }
    assert counts == {"nickparvar": 5843, "sartaj": 2659, "preetviradiya": 3998}
    assert {scan.part for scan in find_scans(SHARED / "sartaj")} == {"train", "test"}


def test_own_names_leave_other_folders_their_own(tmp_path: Path) -> None:
    root = draw(tmp_path, "Gliom/1.png", "Meningeom/1.png", "gesund/1.png")
    assert [one[1] for one in listed(root)] == ["Gliom", "Meningeom", "gesund"]
    with own_classes({"Gliom": "glioma", "gesund": "notumor"}):
        assert [one[1] for one in listed(root)] == ["glioma", "Meningeom", "notumor"]
    with own_classes({"Gliom": "glioma"}):
        draw(root, "no/1.png")  # known in any case, so that others are not classes
        assert [one[1] for one in listed(root)] == ["glioma", "notumor"]
