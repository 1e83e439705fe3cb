"""What a model marks on the slices of a series → a DICOM segmentation."""

from collections.abc import Sequence

import cv2
import highdicom
import numpy as np
from highdicom import seg
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from brainscan import Examination
from tumorapp.pacs.answered import MAKER, NEOPLASM, NOTICE, AnsweredSeries, place_of

_SAME_DIRECTION = 1e-3


def write_segmentation(series: AnsweredSeries) -> Dataset | None:
    """Write the regions that are marked; None where it is not known where slices lie."""
    first = series.source(series.strongest)
    several = int(first.get("NumberOfFrames") or 1) > 1
    files = [first] if several else [series.source(one) for one in series.marked]
    if not _share_orientation(files):
        return None
    if several:  # highdicom takes all frames of one file, and leaves out the empty ones
        masks = np.zeros((int(first.NumberOfFrames), first.Rows, first.Columns), np.uint8)
        for one in series.marked:
            if series.source(one) is first:
                masks[place_of(one).frame] = _fill(series, one)
    else:
        masks = np.stack([_fill(series, one) for one in series.marked])
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=series.answer.card.name,
        family=codes.DCM.ArtificialIntelligence,
        version=series.version,
        source=MAKER,
    )
    segment = seg.SegmentDescription(
        segment_number=1,
        segment_label="Tumour",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=NEOPLASM,
        algorithm_type=seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        tracking_uid=series.make_uid("tumour"),
        tracking_id="Tumour",
        anatomic_regions=[codes.SCT.Brain],
    )
    return seg.Segmentation(
        source_images=files,
        pixel_array=masks,
        segmentation_type=seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[segment],
        content_label="TUMOUR",
        content_description=NOTICE,
        **series.describe("segmentation"),
    )


def _share_orientation(files: Sequence[Dataset]) -> bool:
    """Give files, or the frames of one, the same orientation if they have nearly the same.

    highdicom takes no others. False where they have not, or it is not known where slices lie.
    """
    first = files[0]
    frames = first.get("PerFrameFunctionalGroupsSequence")
    if "FrameOfReferenceUID" not in first or ("NumberOfFrames" in first and not frames):
        return False
    if frames:
        shared = first.SharedFunctionalGroupsSequence[0]
        for keyword in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
            if keyword not in shared:
                setattr(shared, keyword, frames[0].get(keyword))
        planes = [one.get("PlaneOrientationSequence") for one in frames]
        planes = [plane or shared.PlaneOrientationSequence for plane in planes]
        directions = [plane[0].ImageOrientationPatient for plane in planes]
    elif all("ImagePositionPatient" in one for one in files):
        directions = [one.ImageOrientationPatient for one in files]
        for one in files:
            one.ImageOrientationPatient = first.ImageOrientationPatient
    else:
        return False
    return bool(np.ptp(np.array(directions, float), axis=0).max() < _SAME_DIRECTION)


def _fill(series: AnsweredSeries, found: Examination) -> NDArray[np.uint8]:
    """Give the stored pixels within the outlines: 1 of uint8, shape (rows, columns), else 0."""
    source = series.source(found)
    mask = np.zeros((source.Rows, source.Columns), np.uint8)
    polygons = [np.rint(one - 0.5).astype(np.int32) for one in series.trace(found)]
    cv2.fillPoly(mask, polygons, 1)
    return mask
