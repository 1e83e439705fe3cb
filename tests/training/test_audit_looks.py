"""What is seen in a single picture, and what many pictures say of their labels."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from brainscan.scan import Picture, read_picture
from training.data.audit.labels import find_label_errors, guess_labels
from training.data.audit.modality import CT_FROM, rate_ct
from training.data.plane import guess_plane
from training.data.task import Task

SHARED = Path(__file__).parents[2] / "../shared/data"


def draw_slice(*, ring: int, gap: int) -> NDArray[np.uint8]:
    """Draw an axial slice: a ring around a darker one, around a grey brain."""
    picture = np.zeros((200, 200), np.uint8)
    for axes, grey in (((75, 90), ring), ((67, 82), gap), ((62, 77), 110)):
        cv2.ellipse(picture, (100, 100), axes, 0, 0, 360, grey, cv2.FILLED)
    return picture


def test_bone_is_bright_on_ct_and_dark_on_mr() -> None:
    assert rate_ct(Picture(draw_slice(ring=255, gap=255))) > CT_FROM
    mr = draw_slice(ring=160, gap=20)
    cv2.circle(mr, (100, 130), 12, 255, cv2.FILLED)
    assert rate_ct(Picture(mr)) < CT_FROM
    assert rate_ct(Picture(np.zeros((64, 64), np.uint8))) == 0


@pytest.mark.skipif(not SHARED.exists(), reason="the shared scans are not here")
def test_ct_slices_are_found_among_real_scans() -> None:
    ct = sorted((SHARED / "not_brain_mri" / "head_ct").glob("*.jpg"))
    mr = sorted((SHARED / "figshare").glob("*/*.jpg"))[::30]
    found = [[rate_ct(read_picture(one.read_bytes())) for one in files] for files in (ct, mr)]
    assert np.mean(np.array(found[0]) >= CT_FROM) > 0.9
    assert np.mean(np.array(found[1]) >= CT_FROM) < 0.02


def test_planes_are_told_apart_by_outline() -> None:
    assert guess_plane(Picture(draw_slice(ring=160, gap=20))) == "axial"
    sagittal = np.zeros((200, 200), np.uint8)
    cv2.ellipse(sagittal, (105, 85), (88, 75), 0, 0, 360, 120, cv2.FILLED)
    sagittal[90:200, 20:75] = 120  # the face
    sagittal[120:200, 100:140] = 120  # the neck
    assert guess_plane(Picture(sagittal)) == "sagittal"
    assert guess_plane(Picture(np.zeros((64, 64), np.uint8))) == "unknown"


def test_labels_that_all_look_alikes_contradict_are_suspected() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(120) % 3
    descriptors = (np.eye(3)[labels] * 4 + random.normal(size=(120, 3))).astype(np.float16)
    task, groups = Task(("glioma", "notumor", "pituitary")), np.arange(120)
    wrong = labels.copy()
    wrong[[3, 4]] = [2, 0]
    guesses = guess_labels(descriptors, task, wrong, groups)
    assert guesses is not None
    suspected, meant = find_label_errors(guesses, task, wrong)
    found = dict(zip(suspected.tolist(), meant.tolist(), strict=True))
    assert {3: 0, 4: 1}.items() <= found.items()
    assert len(found) < 10


def test_a_tumour_of_unnamed_kind_is_suspected_only_of_being_none() -> None:
    task = Task(("glioma", "notumor"), unnamed=True)
    guesses = np.array([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.1, 0.9]])
    suspected, meant = find_label_errors(guesses, task, np.array([0, 1, 2, 2]))
    assert suspected.tolist() == [3]
    assert meant.tolist() == [1]


def test_too_few_scans_of_a_class_say_nothing() -> None:
    descriptors = np.zeros((8, 4), np.float16)
    labels = np.array([0] * 6 + [1] * 2)
    assert guess_labels(descriptors, Task(("a", "b")), labels, np.arange(8)) is None
