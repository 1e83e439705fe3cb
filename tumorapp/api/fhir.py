"""Predictions as FHIR R4 or R5: a DiagnosticReport of each picture or series.

It contains the model as a Device and what it says as Observations. All are preliminary and say that
they are not for diagnosis. They name no patient: the program that stores them adds one.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any, Literal
from uuid import uuid4

from werkzeug.datastructures import MIMEAccept

from brainscan import Answer, ScanError, SeriesExamination
from brainscan.bundle import Card
from tumorapp.language import wording
from tumorapp.language.translation import tell

MEDIA_TYPE = "application/fhir+json"
Release = Literal["4.0", "5.0"]

_RELEASES: Mapping[str, Release] = {
    MEDIA_TYPE: "4.0",
    f"{MEDIA_TYPE}; fhirVersion=4.0": "4.0",
    f"{MEDIA_TYPE}; fhirVersion=5.0": "5.0",
}
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_PROBLEMS = "urn:problem-type:tumorapp"
_NOT_FOR_DIAGNOSIS = "By a research model. Not a medical device, not for diagnosis."

_Resource = dict[str, Any]


def choose_release(accepted: MIMEAccept) -> Release | None:
    """Choose a release by an Accept header; None where JSON of our own is preferred."""
    offered = ["application/json", *_RELEASES]
    return _RELEASES.get(accepted.best_match(offered, offered[0]))


def write_fhir(card: Card, found: Sequence[Answer | ScanError], release: Release) -> _Resource:
    """Write a prediction; of several a Bundle, with an OperationOutcome for each bad file."""
    resources = [
        _write_failure(one) if isinstance(one, ScanError) else _write_report(card, one, release)
        for one in found
    ]
    if len(resources) == 1:
        return resources[0]
    entries = [{"fullUrl": uuid4().urn, "resource": resource} for resource in resources]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def _write_report(card: Card, found: Answer, release: Release) -> _Resource:
    conclusion = f"{wording.answer(found)}. {_NOT_FOR_DIAGNOSIS}"
    observations = _list_observations(card, found)
    return {
        "resourceType": "DiagnosticReport",
        "text": {
            "status": "generated",
            "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><p>{escape(conclusion)}</p></div>',
        },
        "contained": [_write_device(card, release), *observations],
        "status": "preliminary",
        "category": [_code(f"{_TERMINOLOGY}/v2-0074", "RAD", "Radiology")],
        "code": _code("http://loinc.org", "24590-2", "MR Brain"),
        "issued": datetime.now(UTC).isoformat(timespec="seconds"),
        "result": [{"reference": f"#{one['id']}"} for one in observations],
        "conclusion": conclusion,
    }


def _list_observations(card: Card, found: Answer) -> list[_Resource]:
    finding = _observe(
        "finding",
        "What a neural network finds on MR images of a head",
        valueCodeableConcept={"text": wording.headline(found)},
    )
    finding["note"] += [{"text": tell(warning)} for warning in found.warnings]
    if found.verdict == "not-recognised":  # its probabilities mean nothing
        return [finding]
    probability = _write_percentage(found.tumor_probability)
    text = "Probability of a brain tumour of any kind"
    observations = [finding, _observe("probability", text, valueQuantity=probability)]
    kinds = [name for name in card.classes if card.is_tumor(name)]
    if len(kinds) > 1:
        components = [
            {
                "code": {"text": wording.class_name(name)},
                "valueQuantity": _write_percentage(found.probabilities[name]),
            }
            for name in kinds
        ]
        text = "Probability of each kind of brain tumour"
        observations.append(_observe("kind", text, component=components))
    if isinstance(found, SeriesExamination) and found.volume is not None:
        volume = _write_quantity(found.volume, "mL")
        text = "Volume marked as brain tumour"
        observations.append(_observe("volume", text, valueQuantity=volume))
    return observations


def _observe(name: str, text: str, **value: Any) -> _Resource:
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "preliminary",
        "category": [_code(f"{_TERMINOLOGY}/observation-category", "imaging", "Imaging")],
        "code": {"text": text},
        "bodySite": _code("http://snomed.info/sct", "12738006", "Brain structure"),
        "device": {"reference": "#device"},
        "note": [{"text": _NOT_FOR_DIAGNOSIS}],
        **value,
    }


def _write_device(card: Card, release: Release) -> _Resource:
    kind = {"text": "Neural network for research"}
    named: _Resource = (
        {"deviceName": [{"name": card.name, "type": "model-name"}], "type": kind}
        if release == "4.0"
        else {"name": [{"value": card.name, "type": "user-friendly-name"}], "type": [kind]}
    )
    version = [{"value": str(card.version)}]
    return {"resourceType": "Device", "id": "device", **named, "version": version}


def _write_failure(error: ScanError) -> _Resource:
    code = {"coding": [{"system": _PROBLEMS, "code": error.code}], "text": tell(error.message)}
    issue = {"severity": "error", "code": "invalid", "details": code}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def _code(system: str, code: str, display: str) -> _Resource:
    return {"coding": [{"system": system, "code": code, "display": display}]}


def _write_percentage(share: float) -> _Resource:
    return _write_quantity(round(100 * share, 4), "%")


def _write_quantity(value: float, unit: str) -> _Resource:
    system = "http://unitsofmeasure.org"
    return {"value": value, "unit": unit, "system": system, "code": unit}
