"""Predictions as FHIR, validated by fhir.resources; its R4B is R4 as far as this goes."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from tests.volumes import draw_small, pack, write_dicom, write_nifti
from tumorapp import create_app

GLIOMA = Path("../shared/samples/nifti/btp_02_t1post.nii.gz")
R4, R5 = "application/fhir+json", "application/fhir+json; fhirVersion=5.0"
MODULES = {R4: "fhir.resources.R4B", R5: "fhir.resources"}


def ask(client: FlaskClient, data: bytes, accept: str) -> dict[str, Any]:
    headers = {"Accept": accept}
    kind = "application/octet-stream"
    answer = client.post("/api/predict", data=data, content_type=kind, headers=headers)
    assert (answer.status_code, answer.mimetype) == (200, "application/fhir+json")
    return answer.get_json(force=True)


def validate(resource: dict[str, Any], accept: str) -> None:
    """Validate a resource and what it contains."""
    name = resource["resourceType"]
    kind = getattr(import_module(f"{MODULES[accept]}.{name.lower()}"), name)
    kind.model_validate_json(json.dumps(resource))


@pytest.mark.parametrize("accept", [R4, R5])
@pytest.mark.parametrize("is_series", [False, True], ids=["picture", "series"])
def test_a_preliminary_report(
    client: FlaskClient, scan: bytes, accept: str, is_series: bool
) -> None:
    data = write_nifti(np.stack([draw_small()] * 3, axis=-1)) if is_series else scan
    report = ask(client, data, accept)
    validate(report, accept)
    assert (report["resourceType"], report["status"]) == ("DiagnosticReport", "preliminary")
    assert "not for diagnosis" in report["conclusion"]
    device, *observations = report["contained"]
    assert device["version"] == [{"value": "1"}]
    assert [f"#{one['id']}" for one in observations] == [
        one["reference"] for one in report["result"]
    ]
    assert {one["status"] for one in observations} == {"preliminary"}
    assert all("not for diagnosis" in one["note"][0]["text"] for one in observations)
    _, probability, kind = observations
    [expected] = client.post(
        "/api/predict", data=data, content_type="application/octet-stream"
    ).json["predictions"]
    assert probability["valueQuantity"]["value"] == pytest.approx(
        100 * expected["tumor_probability"], abs=1e-3
    )
    assert probability["valueQuantity"]["code"] == "%"
    shares = [one["valueQuantity"]["value"] / 100 for one in kind["component"]]
    assert shares == pytest.approx(
        [expected["probabilities"][name] for name in ("glioma", "meningioma", "pituitary")],
        abs=1e-5,
    )


def test_nothing_of_the_patient(client: FlaskClient) -> None:
    text = json.dumps(ask(client, write_dicom(), R4))
    assert "Doe" not in text
    assert "subject" not in text


@pytest.mark.parametrize("accept", [R4, R5])
def test_several_are_a_bundle(client: FlaskClient, scan: bytes, accept: str) -> None:
    bundle = ask(client, pack(("a.jpg", scan), ("bad", b"?")), accept)
    validate(bundle, accept)
    report, bad = (entry["resource"] for entry in bundle["entry"])
    assert report["resourceType"] == "DiagnosticReport"
    [issue] = bad["issue"]
    assert issue["details"]["coding"][0]["code"] == "not-an-image"


@pytest.mark.skipif(not GLIOMA.exists(), reason="needs the samples")
def test_a_volume_in_millilitres() -> None:
    client = create_app({"MODELS_DIR": Path("instance/models")}).test_client()
    report = ask(client, GLIOMA.read_bytes(), R4)
    validate(report, R4)
    volume = report["contained"][-1]["valueQuantity"]
    assert (volume["unit"], volume["system"]) == ("mL", "http://unitsofmeasure.org")
    assert volume["value"] > 1


@pytest.mark.parametrize("accept", ["", "*/*", "text/html,*/*;q=0.8", f"{R4};q=0.5, */*"])
def test_others_get_json(client: FlaskClient, scan: bytes, accept: str) -> None:
    headers = {"Accept": accept}
    answer = client.post("/api/predict", data=scan, content_type="image/jpeg", headers=headers)
    assert answer.mimetype == "application/json"
