"""What a model says of a series → DICOM objects for a PACS: a report, a segmentation, a picture.

The UID of each follows from the series, the model and the kind of the object, so that what is made
again, after a crash, takes the place of what is there already.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import cv2
import highdicom
import numpy as np
from highdicom import seg, sr
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID
from pydicom.valuerep import DA, TM

from brainscan import Answer, Examination, Problem, SliceExamination
from brainscan.lesion import Polygon
from brainscan.verdict import Verdict
from tumorapp.api.openapi import VERSION

NOTICE = "TumorApp: preliminary, made by software. Not for diagnosis."
# The longest side of the pictures that an answer must have kept.
LONGEST_KEPT = 1024

_MAKER = "TumorApp"
_LEAST_WIDTH = 512  # of the picture, so that its text can be read
_SAME_DIRECTION = 1e-3
_OUTLINE, _TEXT = (255, 64, 64), (255, 220, 0)  # RGB
_NEOPLASM = Code("126952004", "SCT", "Neoplasm of brain")
_KINDS = {
    "glioma": Code("393564001", "SCT", "Glioma"),
    "meningioma": Code("302820008", "SCT", "Intracranial meningioma"),
    "pituitary": Code("127024001", "SCT", "Neoplasm of pituitary gland"),
    "tumor": _NEOPLASM,
}
_PRESENCE = Code("705057003", "SCT", "Presence")
_PRESENT, _ABSENT = codes.SCT.Present, Code("2667000", "SCT", "Absent")
_PRESENCES: Mapping[Verdict, Code] = {
    "tumor": _PRESENT,
    "tumor-kind-unclear": _PRESENT,
    "no-tumor": _ABSENT,
    "unclear": codes.SCT.Indeterminate,
}
_PROBABILITY = Code("122157", "DCM", "Probability")
_MILLILITRE = Code("ml", "UCUM", "ml")
# What may be empty, but not missing, and is often missing or wrong all the same; and what takes
# only what is right.
_MAY_BE_EMPTY: Mapping[str, Callable[[Any], Any]] = {
    "AccessionNumber": str,
    "PatientBirthDate": DA,
    "PatientID": str,
    "PatientName": str,
    "PatientSex": highdicom.PatientSexValues,
    "ReferringPhysicianName": str,
    "StudyDate": DA,
    "StudyID": str,
    "StudyTime": TM,
}
_NUMBERS = {"report": 1000, "segmentation": 2000, "picture": 3000}  # added to the series'


def write_objects(answer: Answer, sources: Sequence[Dataset]) -> list[Dataset]:
    """Write what a PACS keeps of an answer.

    Args:
        answer: whose pictures were kept, up to `LONGEST_KEPT`; its verdict is not
            "not-recognised".
        sources: the headers of the files of its series; there may be others.

    Returns:
        Where a region is marked, its segmentation (if the header says where slices lie) and a
        picture of the strongest slice; and the report, which is last.

    Raises:
        Problem: the header lacks what such objects need, or contradicts itself.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # highdicom's quote names
            return _Writer.of(answer, sources).write()
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # Its text may quote the header; of what is missing, the name is one of DICOM's.
        reason = getattr(error, "name", None) or type(error).__name__
        raise Problem("unusable-header", reason=reason) from error


@dataclass(frozen=True)
class _Writer:
    """Writes the objects of one answer.

    Attributes:
        answer: it.
        marked: its slices that a region is marked on.
        strongest: the one that shows most.
        sources: of its files, by SOP instance UID.
    """

    answer: Answer
    marked: Sequence[Examination]
    strongest: Examination
    sources: Mapping[str, Dataset]

    @classmethod
    def of(cls, answer: Answer, sources: Sequence[Dataset]) -> "_Writer":
        slices: Sequence[Examination]
        shown: list[Examination] = []
        if isinstance(answer, Examination):
            slices, strongest = [answer], answer
        else:
            slices, strongest = answer.slices, answer.slices[answer.strongest]
            shown += [one for one in answer.slices if one.shows]
        if not shown and answer.lesion:
            shown.append(strongest)
        wanted = {_place(one).instance for one in slices}
        found = {
            one.SOPInstanceUID: _complete(one) for one in sources if one.SOPInstanceUID in wanted
        }
        return cls(answer, [one for one in shown if one.lesion], strongest, found)

    def write(self) -> list[Dataset]:
        segmentation = self.write_segmentation() if self.marked else None
        picture = self.write_picture() if self.marked else None
        report = self.write_report(segmentation)
        return [one for one in (segmentation, picture, report) if one is not None]

    def source(self, found: Examination) -> Dataset:
        return self.sources[_place(found).instance]

    def make_uid(self, of: str) -> UID:
        """Make a UID that is always the same of this answer: PS3.5, B.2, of a UUID by its name."""
        card = self.answer.card
        name = f"{_place(self.strongest).series} {card.name} {card.version} {of}"
        return UID(f"2.25.{uuid5(NAMESPACE_OID, name).int}")

    def describe(self, kind: str) -> dict[str, Any]:
        """Give what all objects say of themselves."""
        number = int(self.source(self.strongest).get("SeriesNumber") or 0)
        return {
            "series_instance_uid": self.make_uid(f"{kind} series"),
            "series_number": _NUMBERS[kind] + number % 1000,
            "sop_instance_uid": self.make_uid(kind),
            "instance_number": 1,
            "manufacturer": _MAKER,
            "manufacturer_model_name": self.answer.card.name,
            "software_versions": (self.version, f"brainscan {VERSION}"),
            "device_serial_number": self.version,
            "series_description": f"TumorApp {kind} - not for diagnosis",
        }

    @property
    def version(self) -> str:
        return str(self.answer.card.version)

    def write_segmentation(self) -> Dataset | None:
        """Write the regions that are marked; None where it is not known where slices lie."""
        first = self.source(self.strongest)
        several = int(first.get("NumberOfFrames") or 1) > 1
        files = [first] if several else [self.source(one) for one in self.marked]
        if not _share_orientation(files):
            return None
        if several:  # highdicom takes all frames of one file, and leaves out the empty ones
            masks = np.zeros((int(first.NumberOfFrames), first.Rows, first.Columns), np.uint8)
            for one in self.marked:
                if self.source(one) is first:
                    masks[_place(one).frame] = _fill(one, first)
        else:
            masks = np.stack([_fill(one, self.source(one)) for one in self.marked])
        algorithm = highdicom.AlgorithmIdentificationSequence(
            name=self.answer.card.name,
            family=codes.DCM.ArtificialIntelligence,
            version=self.version,
            source=_MAKER,
        )
        segment = seg.SegmentDescription(
            segment_number=1,
            segment_label="Tumour",
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=_NEOPLASM,
            algorithm_type=seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            tracking_uid=self.make_uid("tumour"),
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
            **self.describe("segmentation"),
        )

    def write_picture(self) -> Dataset:
        """Write the strongest slice as it is shown, with the outline of the region and a notice."""
        shown = self.strongest.picture.grey
        stretch = max(1, -(-_LEAST_WIDTH // shown.shape[1]))
        grey = cv2.resize(shown, None, fx=stretch, fy=stretch, interpolation=cv2.INTER_CUBIC)
        canvas = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
        height, width = grey.shape
        for polygon in _outline(self.strongest):
            points = np.rint(np.array(polygon) * (width, height) - 0.5).astype(np.int32)
            cv2.polylines(canvas, [points], True, _OUTLINE, 2, cv2.LINE_AA)
        write = partial(cv2.putText, canvas, fontFace=cv2.FONT_HERSHEY_SIMPLEX)
        style: Any = {"color": _TEXT, "thickness": 1, "lineType": cv2.LINE_AA}
        write("TumorApp - not for diagnosis", org=(8, 20), fontScale=width / 900, **style)
        write(self.answer.verdict, org=(8, height - 10), fontScale=width / 900, **style)
        made = highdicom.sc.SCImage.from_ref_dataset(
            ref_dataset=self.source(self.strongest),
            pixel_array=canvas,
            photometric_interpretation=highdicom.PhotometricInterpretationValues.RGB,
            bits_allocated=8,
            coordinate_system=highdicom.CoordinateSystemNames.PATIENT,
            patient_orientation=("L", "P"),
            **self.describe("picture"),
        )
        made.PatientOrientation = []  # allowed, but not by highdicom: it may be of any plane
        made.BodyPartExamined, made.BurnedInAnnotation = "BRAIN", "YES"
        made.DerivationDescription = NOTICE
        return made

    def write_report(self, segmentation: Dataset | None) -> Dataset:
        """Write a measurement report (TID 1500), preliminary and not verified."""
        device = sr.DeviceObserverIdentifyingAttributes(
            uid=self.make_uid("device"),
            name=f"{self.answer.card.name} {self.version}",
            manufacturer_name=_MAKER,
            model_name=f"brainscan {VERSION}",
            serial_number=self.version,
        )
        observer = sr.ObserverContext(codes.DCM.Device, device)
        groups: list[Any] = [self.report_head(), *self.report_kinds(), *self.report_regions()]
        if segmentation is not None:
            groups.append(self.report_volume(segmentation))
        content = sr.MeasurementReport(
            observation_context=sr.ObservationContext(observer_device_context=observer),
            procedure_reported=Code("816077007", "SCT", "Magnetic resonance imaging of brain"),
            imaging_measurements=groups,
            title=codes.DCM.ImagingMeasurementReport,
        )
        for text in (NOTICE, *map(str, self.answer.warnings)):
            comment = sr.TextContentItem(
                codes.DCM.Comment, text, sr.RelationshipTypeValues.CONTAINS
            )
            content[0].ContentSequence.append(comment)
        evidence = [*self.sources.values(), *([segmentation] if segmentation is not None else [])]
        return sr.ComprehensiveSR(
            evidence=evidence,
            content=content[0],
            is_complete=True,
            is_final=False,
            is_verified=False,
            **self.describe("report"),
        )

    def group(self, of: str, finding: Code, *measurements: sr.Measurement) -> dict[str, Any]:
        """Give what all groups of measurements have."""
        algorithm = sr.AlgorithmIdentification(
            name=self.answer.card.name,
            version=self.version,
            parameters=[f"brainscan {VERSION}"],
            family=codes.DCM.ArtificialIntelligence,
            manufacturer=_MAKER,
        )
        return {
            "tracking_identifier": sr.TrackingIdentifier(self.make_uid(of), of.capitalize()),
            "algorithm_id": algorithm,
            "finding_type": finding,
            "finding_sites": [sr.FindingSite(codes.SCT.Brain)],
            "measurements": measurements,
        }

    def report_head(self) -> sr.MeasurementsAndQualitativeEvaluations:
        """Report whether there is a tumour in all that was seen, and by which slice."""
        presence = sr.QualitativeEvaluation(_PRESENCE, _PRESENCES[self.answer.verdict])
        image = sr.SourceImageForMeasurementGroup(*self.refer(self.strongest))
        measured = [_measure(self.answer.tumor_probability)]
        return sr.MeasurementsAndQualitativeEvaluations(
            **self.group("head", _NEOPLASM, *measured),
            qualitative_evaluations=[presence],
            source_images=[image],
        )

    def report_kinds(self) -> list[sr.MeasurementsAndQualitativeEvaluations]:
        """Report the kinds of tumour that remain, each with its probability."""
        return [
            sr.MeasurementsAndQualitativeEvaluations(
                **self.group(f"kind {kind}", _name(kind), _measure(self.answer.probabilities[kind]))
            )
            for kind in self.answer.possible
        ]

    def report_regions(self) -> list[sr.PlanarROIMeasurementsAndQualitativeEvaluations]:
        """Report each region of each slice that is marked, by its outline."""
        groups: list[sr.PlanarROIMeasurementsAndQualitativeEvaluations] = []
        for one in self.marked:
            image = sr.SourceImageForRegion(*self.refer(one))
            probability = _measure(one.tumor_probability)
            for polygon in _trace(one, self.source(one)):
                of = f"region {len(groups) + 1}"
                closed = np.vstack([polygon, polygon[:1]])
                groups.append(
                    sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                        **self.group(of, _NEOPLASM, probability),
                        referenced_region=sr.ImageRegion(
                            sr.GraphicTypeValues.POLYLINE, closed, image
                        ),
                    )
                )
        return groups

    def report_volume(
        self, segmentation: Dataset
    ) -> sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
        """Report what the slices that show the tumour mark together, and how large it is."""
        volume = getattr(self.answer, "volume", None)
        measured = [] if volume is None else [sr.Measurement(codes.SCT.Volume, volume, _MILLILITRE)]
        series = self.source(self.strongest).SeriesInstanceUID
        return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            **self.group("tumour", _NEOPLASM, *measured),
            referenced_segment=sr.ReferencedSegment(
                sop_class_uid=segmentation.SOPClassUID,
                sop_instance_uid=segmentation.SOPInstanceUID,
                segment_number=1,
                source_series=sr.SourceSeriesForSegmentation(series),
            ),
        )

    def refer(self, found: Examination) -> tuple[str, str, list[int] | None]:
        """Give the SOP class and instance of a slice, and its frame where there are several."""
        source = self.source(found)
        several = int(source.get("NumberOfFrames") or 1) > 1
        frame = [_place(found).frame + 1] if several else None
        return source.SOPClassUID, source.SOPInstanceUID, frame


def _complete(header: Dataset) -> Dataset:
    """Give a header all that may be empty, and nothing in it that is not of its kind."""
    whole = Dataset()
    whole.update(header)
    for keyword, take in _MAY_BE_EMPTY.items():
        try:
            take(whole[keyword].value)
        except (KeyError, TypeError, ValueError):
            setattr(whole, keyword, None)
    return whole


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


def _place(found: Examination) -> Any:
    return found.reading.place


def _name(kind: str) -> Code:
    meaning = kind.replace("-", " ").replace("_", " ").capitalize()
    return _KINDS.get(kind) or Code(kind[:16], "99TUMORAPP", meaning)


def _measure(probability: float) -> sr.Measurement:
    return sr.Measurement(_PROBABILITY, round(100 * probability, 2), codes.UCUM.Percent)


def _outline(found: Examination) -> Sequence[Polygon]:
    """Give what is marked; where the tumour of a series is shown, only what is part of it."""
    if isinstance(found, SliceExamination) and found.shows:
        return found.region
    return found.lesion.outline if found.lesion else ()


def _trace(found: Examination, source: Dataset) -> list[NDArray[np.float64]]:
    """Give the outlines of a slice's regions, in columns and rows of its stored pixels."""
    size = source.Columns, source.Rows
    undo = _place(found).turn.undo
    return [np.array([undo(*point) for point in polygon]) * size for polygon in _outline(found)]


def _fill(found: Examination, source: Dataset) -> NDArray[np.uint8]:
    """Give the stored pixels within the outlines: 1 of uint8, shape (rows, columns), else 0."""
    mask = np.zeros((source.Rows, source.Columns), np.uint8)
    polygons = [np.rint(one - 0.5).astype(np.int32) for one in _trace(found, source)]
    cv2.fillPoly(mask, polygons, 1)
    return mask
