"""The objects that a PACS gets, checked by those who read them: highdicom, DCMTK, dicom3tools."""

import io
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from brainscan import Answer, ImageFile, Model, Problem, ScanError, examine_files, open_model
from tests.cards import VERDICTS
from tests.volumes import write_dicom, write_series, write_series_of
from tumorapp.pacs.answered import NOTICE
from tumorapp.pacs.objects import LONGEST_KEPT, write_objects

PROJECT = Path(__file__).parents[2]
NIFTI = PROJECT.parent / "shared" / "samples" / "nifti"


@dataclass(frozen=True)
class Written:
    """What was written of a series."""

    answer: Answer
    objects: dict[str, Dataset]


def examine(model: Model, files: Sequence[bytes]) -> Written:
    named = [ImageFile(str(number), data) for number, data in enumerate(files)]
    [answer] = examine_files(model, named, longest_kept=LONGEST_KEPT)
    assert not isinstance(answer, ScanError)
    headers = [dcmread(io.BytesIO(data), stop_before_pixels=True) for data in files]
    return Written(answer, {one.Modality: one for one in write_objects(answer, headers)})


def validate(objects: dict[str, Dataset], folder: Path) -> None:
    for modality, one in objects.items():
        file = folder / f"{modality}.dcm"
        one.save_as(file)
        if shutil.which("dciodvfy"):
            checked = subprocess.run(
                ["dciodvfy", "-new", file], capture_output=True, text=True, check=False
            )
            assert "Error" not in checked.stderr, checked.stderr
        if modality == "SR" and shutil.which("dsrdump"):
            subprocess.run(["dsrdump", file], capture_output=True, check=True)


def draw_heads(slices: int = 4) -> NDArray[np.uint16]:
    """Give slices of a head with a meningioma, of 12 bits."""
    with Image.open(PROJECT / "static" / "samples" / "slice-1.webp") as picture:
        head = np.asarray(picture.convert("L"), np.uint16) * 16
    return np.stack([head] * slices)


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model(PROJECT / "instance" / "models" / "lesion-lite0")


# As radiologists see it; and stored sideways, so that its picture is turned.
@pytest.mark.parametrize("turned", [False, True])
def test_what_is_marked_lies_on_the_stored_pixels(
    model: Model, turned: bool, tmp_path: Path
) -> None:
    heads = draw_heads()
    stored = heads.transpose(0, 2, 1)[:, ::-1] if turned else heads
    directions = (0, 1, 0, -1, 0, 0) if turned else (1, 0, 0, 0, 1, 0)
    written = examine(model, write_series(stored, "1.2.1.1", directions=directions))
    assert [*written.objects] == ["SEG", "OT", "SR"]
    validate(written.objects, tmp_path)
    lesion = written.answer.lesion
    assert lesion is not None

    masks = highdicom.seg.segread(tmp_path / "SEG.dcm").pixel_array
    assert masks.shape == stored.shape
    shown = masks[:, ::-1].transpose(0, 2, 1) if turned else masks
    rows, columns = np.nonzero(shown[0])
    places = np.array(lesion.outline[0]) * shown.shape[:0:-1]
    assert np.allclose((columns.min(), rows.min()), places.min(0), atol=1.5)
    assert np.allclose((columns.max(), rows.max()), places.max(0), atol=1.5)

    report = highdicom.sr.srread(tmp_path / "SR.dcm")
    regions = report.content.get_planar_roi_measurement_groups()
    assert len(regions) == len(heads) * len(lesion.outline)
    outline = regions[0].roi.value
    rows, columns = np.nonzero(masks[0])
    assert np.allclose((columns.min(), rows.min()), outline.min(0), atol=1.5)
    assert np.allclose((columns.max(), rows.max()), outline.max(0), atol=1.5)
    assert (outline[0] == outline[-1]).all()


def test_what_a_report_says(model: Model, tmp_path: Path) -> None:
    written = examine(model, write_series(draw_heads(), "1.2.2.1", PatientSex="F"))
    validate(written.objects, tmp_path)
    answer, report = written.answer, highdicom.sr.srread(tmp_path / "SR.dcm")
    assert (report.PreliminaryFlag, report.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")
    assert (report.PatientName, report.PatientSex) == ("Doe^Jane", "F")
    assert report.StudyInstanceUID == "1.2.2"
    head, *kinds = report.content.get_image_measurement_groups()
    assert head.finding_type.meaning == "Neoplasm of brain"
    [probability] = head.get_measurements()
    assert (probability.name.meaning, probability.unit.value) == ("Probability", "%")
    assert probability.value == pytest.approx(100 * answer.tumor_probability, abs=0.01)
    found = {one.name.meaning: one.value.meaning for one in head.get_qualitative_evaluations()}
    assert found["Presence"] == "Present"
    assert [kind.tracking_identifier for kind in kinds] == [
        f"Kind {one}" for one in answer.possible
    ]
    [whole] = report.content.get_volumetric_roi_measurement_groups()
    assert whole.get_measurements()[0].value == answer.volume  # type: ignore[union-attr]
    segment = whole.referenced_segment
    assert segment.referenced_sop_instance_uid == written.objects["SEG"].SOPInstanceUID
    texts = {element.value for element in report.iterall() if element.keyword == "TextValue"}
    assert {NOTICE, *map(str, answer.warnings), answer.card.name, "brainscan 0.1.0"} <= texts


def test_a_picture_shows_the_outline_and_says_what_it_is_not(model: Model) -> None:
    picture = examine(model, write_series(draw_heads(), "1.2.3.1")).objects["OT"]
    pixels = picture.pixel_array
    assert min(pixels.shape[:2]) >= 512
    coloured = pixels.max(-1).astype(int) - pixels.min(-1) > 60
    height = len(pixels)
    assert coloured[:40].any()  # the text
    assert coloured[height // 4 : height // 2].any()  # the outline
    assert picture.BurnedInAnnotation == "YES"
    assert "Not for diagnosis" in picture.DerivationDescription


def test_frames_of_one_file(model: Model, tmp_path: Path) -> None:
    frames = []
    for number in range(4):
        position, plane, frame = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, 5 * number]
        plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        frame.PlanePositionSequence, frame.PlaneOrientationSequence = [position], [plane]
        frames.append(frame)
    shared, measures = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [1, 1], 5
    shared.PixelMeasuresSequence = [measures]
    file = write_dicom(
        draw_heads(),
        SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1",
        SOPInstanceUID="1.2.4.1.1",
        StudyInstanceUID="1.2.4",
        SeriesInstanceUID="1.2.4.1",
        FrameOfReferenceUID="1.2.4.0",
        PerFrameFunctionalGroupsSequence=frames,
        SharedFunctionalGroupsSequence=[shared],
    )
    written = examine(model, [file])
    validate(written.objects, tmp_path)
    report = highdicom.sr.srread(tmp_path / "SR.dcm")
    regions = report.content.get_planar_roi_measurement_groups()
    images = [group.roi.ContentSequence[0].ReferencedSOPSequence[0] for group in regions]
    assert {one.ReferencedSOPInstanceUID for one in images} == {"1.2.4.1.1"}
    assert {one.ReferencedFrameNumber for one in images} == {1, 2, 3, 4}
    assert written.objects["SEG"].NumberOfFrames == 4


def test_no_segmentation_where_it_is_not_known_where_slices_lie(
    model: Model, tmp_path: Path
) -> None:
    [file] = write_series(draw_heads(1), "1.2.5.1", FrameOfReferenceUID=None)
    objects = examine(model, [file]).objects
    assert [*objects] == ["OT", "SR"]
    validate(objects, tmp_path)


@pytest.mark.parametrize("verdict", ["no-tumor", "unclear", "tumor-kind-unclear"])
def test_every_verdict(publish_model: Callable[..., Path], verdict: str, tmp_path: Path) -> None:
    model = open_model(publish_model(tmp_path, **VERDICTS[verdict]))
    written = examine(model, write_series(draw_heads(1), "1.2.6.1"))
    assert written.answer.verdict == verdict
    validate(written.objects, tmp_path)
    said = {"no-tumor": "Absent", "unclear": "Indeterminate", "tumor-kind-unclear": "Present"}
    assert said[verdict] in str(written.objects["SR"])
    assert ("SEG" in written.objects) == (verdict != "no-tumor")


def test_the_same_series_gets_the_same_uids(model: Model) -> None:
    files = write_series(draw_heads(), "1.2.7.1")
    once, again = (examine(model, part).objects for part in (files, files[::-1]))
    assert [one.SOPInstanceUID for one in once.values()] == [
        one.SOPInstanceUID for one in again.values()
    ]
    other = examine(model, write_series(draw_heads(), "1.2.7.2")).objects
    assert not {one.SOPInstanceUID for one in once.values()} & {
        one.SOPInstanceUID for one in other.values()
    }


def test_a_header_without_what_a_report_needs(model: Model) -> None:
    files = write_series(draw_heads(), "1.2.8.1", StudyInstanceUID=None)
    with pytest.raises(Problem) as raised:
        examine(model, files)
    assert raised.value.code == "unusable-header"
    assert raised.value.message.values == {"reason": "StudyInstanceUID"}


@pytest.mark.skipif(not NIFTI.exists(), reason="needs the samples")
def test_a_real_tumour(model: Model, tmp_path: Path) -> None:
    truth = np.asarray(nibabel.load(NIFTI / "btp_02_mask.nii.gz").dataobj) > 0
    written = examine(model, write_series_of(NIFTI / "btp_02_t1post.nii.gz", "1.2.9.1"))
    validate(written.objects, tmp_path)
    marked = highdicom.seg.segread(tmp_path / "SEG.dcm")
    numbers = [
        int(
            item.DerivationImageSequence[0]
            .SourceImageSequence[0]
            .ReferencedSOPInstanceUID.rpartition(".")[2]
        )
        - 1
        for item in marked.PerFrameFunctionalGroupsSequence
    ]
    masks, true = marked.pixel_array > 0, truth.transpose(2, 1, 0)[numbers]
    assert (masks & true).sum() > 0.8 * true.sum()
    report = highdicom.sr.srread(tmp_path / "SR.dcm")
    regions = report.content.get_planar_roi_measurement_groups()
    slices = written.answer.slices  # type: ignore[union-attr]
    assert len(regions) == sum(len(one.region) for one in slices)
    assert len(regions) < sum(len(one.lesion.outline) for one in slices if one.shows and one.lesion)
