from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from brainscan.scan import ScanSpecification
from training.data.dataset import load_dataset
from training.data.folders import read_trees
from training.data.manifest import read_manifest
from training.data.sources import DataError

HEADER = "file,label,group,finding,keep"


@pytest.fixture
def write(phantom_tree: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write a manifest of all phantoms, and then some lines: `write("a.png,glioma,,,1")`."""

    def write(*lines: str, header: str = HEADER) -> Path:
        rows = [
            f"{path},{path.parent.name},0,,{int(path.stem != '3')}"
            for path in sorted(phantom_tree.glob("*/*.png"))
        ]
        manifest = tmp_path / "scans.csv"
        manifest.write_text("\n".join([header, *rows, *lines]) + "\n", encoding="utf-8")
        return manifest

    return write


def test_training_takes_what_is_kept_with_its_labels(
    write: Callable[..., Path], phantom_tree: Path, tmp_path: Path
) -> None:
    manifest = write()
    text = manifest.read_text().replace(
        f"{phantom_tree}/Healthy/0.png,Healthy", "a.png,Brain Tumor"
    )
    manifest.write_text(text)
    (tmp_path / "a.png").write_bytes((phantom_tree / "Healthy" / "0.png").read_bytes())
    specification = ScanSpecification(32)
    data = load_dataset([], specification, tmp_path / "cache", binary=True, manifest=manifest)
    assert np.bincount(data.labels).tolist() == [18, 20]
    assert "phantoms/Healthy/1.png" in data.names
    assert "phantoms/Healthy/3.png" not in data.names


def test_only_scans_of_the_folders_given_are_taken(
    write: Callable[..., Path], phantom_tree: Path
) -> None:
    (tree,) = read_trees([phantom_tree / "Healthy"], manifest=write())
    assert {scan.label for scan in tree.scans} == {"notumor"}
    assert len(tree.scans) == 19
    with pytest.raises(DataError, match="keeps none of its 40 scans below the data folders given"):
        read_manifest(write(), [phantom_tree / "nowhere"])


def test_parts_and_sets_are_read_from_the_folders(tmp_path: Path) -> None:
    paths = ["nickparvar/Training/glioma/1.jpg", "nickparvar/Testing/notumor/1.jpg", "b/no/1.jpg"]
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    rows = "".join(f"{path},glioma,1\n" for path in paths)
    (tmp_path / "m.csv").write_text(f"file,label,keep\n{rows}")
    found = read_trees([], exclude=["b/*"], manifest=tmp_path / "m.csv")
    trees = {tree.name: tree for tree in found}
    assert [scan.part for scan in trees["nickparvar"].scans] == ["test", "train"]
    assert trees["b"].excluded == {"b/*": 1}


@pytest.mark.parametrize(
    ("lines", "header", "message"),
    [
        (["gone.png,glioma,,,1"], HEADER, r"1 rows that name a file that is not there:\n  line 42"),
        (["gone.png,,,,1"], HEADER, r"have no label:\n  line 42 \(.*gone.png\)"),
        (["a.png,glioma,,,1", "a.png,glioma,,,0"], HEADER, r"name a file twice:\n  line 42"),
        (["a.png,glioma,,,yes"], HEADER, r"neither 0 nor 1 as keep:\n  line 42 \('yes'\)"),
        (["a.png,glioma"], HEADER, r"more or fewer cells than the header:\n  line 42"),
        ([f"{n}.png,no,,,1" for n in range(9)], HEADER, "and 4 more"),
        ([], "path,label,group,finding,keep", "has the columns path, label"),
        ([], "file;label;keep", "separated by commas"),
    ],
)
def test_rows_that_cannot_be_used_are_named(
    write: Callable[..., Path], lines: list[str], header: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_manifest(write(*lines, header=header))


def test_a_row_that_is_left_out_may_name_a_file_that_is_gone(write: Callable[..., Path]) -> None:
    assert read_manifest(write("gone.png,glioma,,,0"))


def test_what_is_no_table_is_said(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(b"\xff\xfe\x00picture")
    with pytest.raises(DataError, match="cannot be read"):
        read_manifest(tmp_path / "m.csv")
