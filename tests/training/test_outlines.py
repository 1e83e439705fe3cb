"""Outlines and patients as users bring them."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from training.data.outlines import draw_mask, mirror, read_annotations
from training.data.sources import DataError

SQUARE = "0.25 0.25;0.5 0.25;0.5 0.5;0.25 0.5"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "glioma").mkdir()
    for number in range(1, 6):
        cv2.imwrite(str(tmp_path / f"glioma/{number}.png"), np.full((40, 80), 99, np.uint8))
    return tmp_path


def write_table(root: Path, *rows: str, columns: str = "file,border") -> None:
    (root / "slices.csv").write_text("\n".join([columns, *rows]) + "\n")


def test_an_outline_of_the_table(root: Path) -> None:
    write_table(root, f"glioma/1.png,{SQUARE}", "glioma/2.png,")
    outlines = read_annotations(root, [Path("glioma/1.png")]).outlines
    assert list(outlines) == ["glioma/1.png"]
    mask = draw_mask(outlines["glioma/1.png"], 64)
    assert np.argwhere(mask).min(axis=0) == pytest.approx([16, 16], abs=1)
    assert (mask > 0).mean() == pytest.approx(1 / 16, rel=0.2)
    mirrored = draw_mask(mirror(outlines["glioma/1.png"]), 64)
    assert np.abs(mirrored[:, ::-1].astype(int) - mask).mean() < 8


@pytest.mark.parametrize(
    ("border", "reason"),
    [
        ("0.1 0.1;0.2 0.2", "fewer than three points"),
        ("0.1 0.1;0.2 x;0.3 0.1", "not a list of pairs"),
        ("0.1 0.1;0.2 1.7;0.3 0.1", "leaves the picture"),
        ("0.1 0.1;0.2 nan;0.3 0.1", "leaves the picture"),
    ],
)
def test_an_outline_that_is_none(border: str, reason: str, root: Path) -> None:
    write_table(root, f"glioma/1.png,{SQUARE}", f"glioma/2.png,{border}")
    with pytest.raises(DataError, match=rf"1 rows(.|\n)*line 3, glioma/2\.png: .*{reason}"):
        read_annotations(root, [])


def test_a_row_of_a_missing_file(root: Path) -> None:
    write_table(root, f"glioma/9.png,{SQUARE}")
    with pytest.raises(DataError, match=r"line 2, glioma/9\.png: there is no such file"):
        read_annotations(root, [])


def test_patients_of_the_table(root: Path) -> None:
    write_table(root, "glioma/1.png,A", "glioma/2.png,A", columns="file,patient")
    assert len(set(read_annotations(root, []).patients.values())) == 1


def test_a_fold_stands_for_its_patients(root: Path) -> None:
    """Slices of one patient are in one fold, but need not follow each other."""
    write_table(root, "glioma/1.png,1", "glioma/2.png,2", "glioma/3.png,1", columns="file,fold")
    patients = read_annotations(root, []).patients
    assert patients["glioma/1.png"] == patients["glioma/3.png"] != patients["glioma/2.png"]


def test_a_mask_next_to_its_scan(root: Path) -> None:
    mask = np.zeros((40, 80), np.uint8)
    mask[10:20, 40:60] = 255
    cv2.imwrite(str(root / "glioma/1_mask.png"), mask)
    (outline,) = read_annotations(root, [Path("glioma/1.png")]).outlines.values()
    drawn = np.argwhere(draw_mask(outline, 80))
    assert drawn.min(axis=0) == pytest.approx([20, 40], abs=2)
    assert drawn.max(axis=0) == pytest.approx([40, 60], abs=2)


def test_a_mask_of_another_size(root: Path) -> None:
    cv2.imwrite(str(root / "glioma/1_mask.png"), np.zeros((40, 40), np.uint8))
    with pytest.raises(DataError, match=r"1_mask\.png has 40 × 40 pixels, and its scan 80 × 40"):
        read_annotations(root, [Path("glioma/1.png")])
