"""What a model says of a series → a DICOM report (structured report, TID 1500)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from brainscan.verdict import Verdict
from tumorapp.api.openapi import VERSION
from tumorapp.pacs.answered import MAKER, NEOPLASM, NOTICE, AnsweredSeries

_KINDS = {
    "glioma": Code("393564001", "SCT", "Glioma"),
    "meningioma": Code("302820008", "SCT", "Intracranial meningioma"),
    "pituitary": Code("127024001", "SCT", "Neoplasm of pituitary gland"),
    "tumor": NEOPLASM,
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


def write_report(series: AnsweredSeries, segmentation: Dataset | None) -> Dataset:
    """Write a measurement report (TID 1500), preliminary and not verified."""
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=series.make_uid("device"),
        name=f"{series.answer.card.name} {series.version}",
        manufacturer_name=MAKER,
        model_name=f"brainscan {VERSION}",
        serial_number=series.version,
    )
    observer = sr.ObserverContext(codes.DCM.Device, device)
    groups: list[Any] = [_report_head(series), *_report_kinds(series), *_report_regions(series)]
    if segmentation is not None:
        groups.append(_report_volume(series, segmentation))
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=Code("816077007", "SCT", "Magnetic resonance imaging of brain"),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    for text in (NOTICE, *map(str, series.answer.warnings)):
        comment = sr.TextContentItem(codes.DCM.Comment, text, sr.RelationshipTypeValues.CONTAINS)
        content[0].ContentSequence.append(comment)
    evidence = [*series.sources.values(), *([segmentation] if segmentation is not None else [])]
    return sr.ComprehensiveSR(
        evidence=evidence,
        content=content[0],
        is_complete=True,
        is_final=False,
        is_verified=False,
        **series.describe("report"),
    )


def _group(
    series: AnsweredSeries, of: str, finding: Code, *measurements: sr.Measurement
) -> dict[str, Any]:
    """Give what all groups of measurements have."""
    algorithm = sr.AlgorithmIdentification(
        name=series.answer.card.name,
        version=series.version,
        parameters=[f"brainscan {VERSION}"],
        family=codes.DCM.ArtificialIntelligence,
        manufacturer=MAKER,
    )
    return {
        "tracking_identifier": sr.TrackingIdentifier(series.make_uid(of), of.capitalize()),
        "algorithm_id": algorithm,
        "finding_type": finding,
        "finding_sites": [sr.FindingSite(codes.SCT.Brain)],
        "measurements": measurements,
    }


def _report_head(series: AnsweredSeries) -> sr.MeasurementsAndQualitativeEvaluations:
    """Report whether there is a tumour in all that was seen, and by which slice."""
    presence = sr.QualitativeEvaluation(_PRESENCE, _PRESENCES[series.answer.verdict])
    image = sr.SourceImageForMeasurementGroup(*series.refer(series.strongest))
    measured = [_measure(series.answer.tumor_probability)]
    return sr.MeasurementsAndQualitativeEvaluations(
        **_group(series, "head", NEOPLASM, *measured),
        qualitative_evaluations=[presence],
        source_images=[image],
    )


def _report_kinds(series: AnsweredSeries) -> list[sr.MeasurementsAndQualitativeEvaluations]:
    """Report the kinds of tumour that remain, each with its probability."""
    return [
        sr.MeasurementsAndQualitativeEvaluations(
            **_group(
                series, f"kind {kind}", _name(kind), _measure(series.answer.probabilities[kind])
            )
        )
        for kind in series.answer.possible
    ]


def _report_regions(
    series: AnsweredSeries,
) -> list[sr.PlanarROIMeasurementsAndQualitativeEvaluations]:
    """Report each region of each slice that is marked, by its outline."""
    groups: list[sr.PlanarROIMeasurementsAndQualitativeEvaluations] = []
    for one in series.marked:
        image = sr.SourceImageForRegion(*series.refer(one))
        probability = _measure(one.tumor_probability)
        for polygon in series.trace(one):
            of = f"region {len(groups) + 1}"
            closed = np.vstack([polygon, polygon[:1]])
            groups.append(
                sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                    **_group(series, of, NEOPLASM, probability),
                    referenced_region=sr.ImageRegion(sr.GraphicTypeValues.POLYLINE, closed, image),
                )
            )
    return groups


def _report_volume(
    series: AnsweredSeries, segmentation: Dataset
) -> sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    """Report what the slices that show the tumour mark together, and how large it is."""
    volume = getattr(series.answer, "volume", None)
    measured = [] if volume is None else [sr.Measurement(codes.SCT.Volume, volume, _MILLILITRE)]
    seen = series.source(series.strongest).SeriesInstanceUID
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        **_group(series, "tumour", NEOPLASM, *measured),
        referenced_segment=sr.ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=1,
            source_series=sr.SourceSeriesForSegmentation(seen),
        ),
    )


def _name(kind: str) -> Code:
    meaning = kind.replace("-", " ").replace("_", " ").capitalize()
    return _KINDS.get(kind) or Code(kind[:16], "99TUMORAPP", meaning)


def _measure(probability: float) -> sr.Measurement:
    return sr.Measurement(_PROBABILITY, round(100 * probability, 2), codes.UCUM.Percent)
