"""An audit of a small tree that has one of everything that goes wrong."""

import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from training.data.audit.findings import KINDS, Audit, describe
from training.data.audit.page import SHOWN, write_page
from training.data.audit.run import audit_trees
from training.data.folders import read_tree
from training.data.manifest import write_manifest
from training.data.sources import DataError

Draw = Callable[..., tuple[NDArray[np.uint8], object]]


def save(path: Path, picture: NDArray[np.uint8], *options: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture, options)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, draw_phantoms: Draw) -> Path:
    root = tmp_path_factory.mktemp("audit") / "heads"
    # All with a blob: in the others the skull is what is brightest, as on CT.
    heads = draw_phantoms(48, size=96)[0][1::2, ..., 0]
    for number, head in enumerate(heads):
        name = "glioma" if number % 2 else "notumor"
        part = "Testing" if number >= 20 else "Training"
        save(root / part / name / f"{number:02}.png", head)
    training = root / "Training"
    save(training / "notumor" / "copy 00.png", heads[0])
    save(training / "notumor" / "copy 02.png", heads[2][:, ::-1])
    save(training / "notumor" / "copy 04.png", cv2.resize(heads[4], (61, 61)))
    save(training / "notumor" / "copy 06.jpg", heads[6], cv2.IMWRITE_JPEG_QUALITY, 90)
    save(training / "notumor" / "copy 08.png", (heads[8] * 0.6).astype(np.uint8))
    save(training / "notumor" / "copy 20.png", heads[20][:, ::-1])
    save(training / "glioma" / "copy 10.png", heads[10])
    save(training / "glioma" / "blank.png", np.full((64, 64), 7, np.uint8))
    marked = cv2.cvtColor(heads[11], cv2.COLOR_GRAY2BGR)
    cv2.circle(marked, (48, 48), 20, (0, 0, 255), 2)
    save(training / "glioma" / "11.png", marked)
    speck = np.zeros((64, 64), np.uint8)
    speck[30:34, 30:34] = 200
    save(training / "glioma" / "speck.png", speck)
    (training / "glioma" / "text.png").write_text("no image")
    return root


@pytest.fixture(scope="module")
def audit(tree: Path) -> Audit:
    return audit_trees([read_tree(tree)])


def names(audit: Audit, code: str) -> list[str]:
    return [Path(audit.scans[one.scan].name).name for one in audit.findings[code]]


def test_each_file_that_is_wrong_is_found(audit: Audit) -> None:
    assert names(audit, "unreadable") == ["text.png"]
    assert names(audit, "blank") == ["blank.png"]
    assert names(audit, "annotated") == ["11.png"]
    assert names(audit, "no-head-outline") == ["speck.png"]
    assert names(audit, "leak") == ["copy 20.png"]
    assert sorted(names(audit, "contradiction")) == ["10.png", "copy 10.png"]


def test_copies_are_named_by_what_was_changed(audit: Audit) -> None:
    notes = {Path(audit.scans[one.scan].name).name: one.note for one in audit.findings["near-copy"]}
    assert notes["copy 02.png"] == "mirrored"
    assert "rescaled" in notes["copy 04.png"]
    assert notes["copy 06.jpg"] == "recompressed"
    assert "contrast changed" in notes["copy 08.png"]
    assert "copy 00.png" in names(audit, "exact-copy")


def test_leaks_are_counted_by_class(audit: Audit) -> None:
    (leaks,) = audit.leaks
    assert leaks.classes == {"glioma": (0, 2), "notumor": (1, 2)}
    assert "heads: 1 of 4 Testing scans have a near-duplicate in Training." in describe(audit)


def test_a_set_that_gives_the_class_away_is_said(tree: Path) -> None:
    parts = [read_tree(tree / "Training" / name) for name in ("glioma", "notumor")]
    audit = audit_trees(parts)
    assert audit.by_set.guessed[0] == 1
    assert audit.shared["notumor", "glioma"] > 0
    assert any("only the set of a scan" in line and "100%" in line for line in describe(audit))


def test_the_manifest_leaves_out_what_should_be(audit: Audit, tmp_path: Path) -> None:
    write_manifest(tmp_path / "scans.csv", audit.list_rows())
    rows = list(csv.DictReader((tmp_path / "scans.csv").read_text().splitlines()))
    assert len(rows) == len(audit.scans)
    assert all((tmp_path / row["file"]).is_file() for row in rows)
    for row in rows:
        left_out = any(kind.left_out for kind in KINDS if kind.code in row["finding"].split())
        assert row["keep"] == str(int(not left_out))
    kept = {Path(row["file"]).name for row in rows if row["keep"] == "1"}
    assert {"00.png", "02.png", "copy 02.png", "20.png"} <= kept
    assert not kept & {"copy 00.png", "copy 20.png", "10.png", "blank.png", "text.png"}


def test_the_page_needs_no_other_file_and_shows_only_some(audit: Audit, tmp_path: Path) -> None:
    many = audit.findings["near-copy"] * SHOWN
    object.__setattr__(audit, "findings", {**audit.findings, "near-copy": many})
    write_page(tmp_path / "audit.html", audit)
    text = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert "data:image/jpeg;base64," in text
    assert "http" not in text
    assert "<script" not in text
    assert f"And {len(many) - SHOWN} more" in text
    assert "prefers-color-scheme: dark" in text
    assert "Scans that cannot be read: 1" in text


def test_a_folder_where_no_file_can_be_read(tmp_path: Path) -> None:
    for name in ("glioma", "notumor"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"None of the 2 scans can be read:\n.*text\.png: "):
        audit_trees([read_tree(tmp_path)])
