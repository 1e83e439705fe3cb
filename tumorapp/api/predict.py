"""The REST API's predictions."""

from types import SimpleNamespace
from typing import Any

from flask import Blueprint, Response, current_app, request

from brainscan import Lesion, Problem, ScanError, examine_files
from brainscan.archive import is_archive
from brainscan.bundle import HEALTHY_CLASSES
from brainscan.verdict import judge
from tumorapp.api import fhir
from tumorapp.api.openapi import ARCHIVE_PROBLEMS, PREDICTION_PROBLEMS, Answer, Operation
from tumorapp.api.options import FILE, PredictOptionsSchema, describe_body, read_options
from tumorapp.api.schemas import ANSWER, PredictionSchema, write_outcome
from tumorapp.catalog import get_catalog
from tumorapp.feature import Feature
from tumorapp.uploads import ZIP_TYPES, read_files, unpack

_EXAMPLE = PredictionSchema(exclude=("heatmap",))
_LESION = Lesion((0.41, 0.5), (((0.38, 0.46), (0.45, 0.47), (0.43, 0.55)),), 0.012, 0.98)

blueprint = Blueprint("api", __name__, url_prefix="/api")
FEATURE = Feature("api", blueprint)


def show_answer() -> dict[str, Any] | None:
    """Give an answer as the default model writes it, with made-up probabilities, for OpenAPI."""
    catalog = get_catalog()
    model = catalog.models.get(catalog.default_name or "")
    if model is None:
        return None
    first, *others = sorted(model.card.classes, key=HEALTHY_CLASSES.__contains__)
    shares = {first: 0.97, **dict.fromkeys(others, 0.03 / len(others))}
    probabilities = {name: shares[name] for name in model.card.classes}
    prediction = {
        "name": "scan.jpg",
        **vars(judge(model.card, probabilities, distance=None if model.familiarity is None else 0)),
        "uncertain": False,
        "probabilities": probabilities,
        "lesion": _LESION if model.card.has_lesion_map else None,
        "header": {},
        "warnings": [],
    }
    return {
        "model": model.card.name,
        "version": str(model.card.version),
        "predictions": [_EXAMPLE.dump(SimpleNamespace(**prediction))],
    }


@blueprint.post("/predict")
@Operation(
    "images",
    {200: Answer("The predictions.", ANSWER, show_answer, others=[fhir.MEDIA_TYPE])},
    (*PREDICTION_PROBLEMS, "too-many-slices", *ARCHIVE_PROBLEMS, "not-recognised"),
    body=lambda: {**describe_body(PredictOptionsSchema), ZIP_TYPES[0]: {"schema": FILE}},
    query=PredictOptionsSchema,
)
def predict() -> dict[str, Any] | Response:
    """Predict scans.

    Send a form with one or more images, JSON with images in base64, or the bytes of one image or
    ZIP with its own content type. Options come from the form, the JSON or the query string.

    A NIfTI or multi-frame DICOM file, and the DICOM files of one series, get one prediction, with
    one for each slice. A ZIP may hold several series and images; a file in it that cannot be read
    gets an error in its place. Without a ZIP, such a file makes the request fail. A request with
    too many images, slices or megabytes is refused; the error says how many are accepted.

    As `application/fhir+json`, each prediction is a FHIR DiagnosticReport, preliminary and not for
    diagnosis: of R4, or with the parameter `fhirVersion=5.0` of R5. Several come in a Bundle.
    """
    config = current_app.config
    files = read_files(request, config["MAX_IMAGES"], config["MAX_SLICES"])
    options = read_options(request.values, PredictOptionsSchema)
    model = get_catalog().get(options.model)
    found = examine_files(
        model,
        unpack(files, config),
        max_pixels=config["MAX_PIXELS"],
        max_slices=config["MAX_SLICES"],
        want_heatmaps=options.heatmap,
        skip_bad=any(is_archive(file.data) for file in files),
    )
    for one in found:
        if options.strict and not isinstance(one, ScanError) and one.verdict == "not-recognised":
            raise Problem("not-recognised", subject=one.name)
    if release := fhir.choose_release(request.accept_mimetypes):
        report = current_app.json.dumps(fhir.write_fhir(model.card, found, release))
        return Response(report, mimetype=fhir.MEDIA_TYPE)
    return {
        "model": model.card.name,
        "version": str(model.card.version),
        "predictions": [write_outcome(one, heatmap=options.heatmap) for one in found],
    }
