"""The report of a scan as a PDF: from the API, and from the page, which no key is asked for."""

import hashlib
import re
import unicodedata
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from flask import Blueprint, Response, current_app, request

from brainscan.scan import decode_scan
from tumorapp.api.openapi import PREDICTION_ERRORS, VERSION, Answer, Operation, document
from tumorapp.api.schemas import read_options
from tumorapp.catalog import Catalog
from tumorapp.errors import (
    IMAGE_TYPES,
)
from tumorapp.feature import Feature
from tumorapp.inference import examine_scans
from tumorapp.uploads import read_uploads

PDF = "application/pdf"

_FILE = {"type": "string", "format": "binary"}
_MODEL = {
    "type": "string",
    "maxLength": 100,
    "description": "The model that answers; the default one where none is named.",
}
_BODY: dict[str, Any] = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["image"],
            "additionalProperties": False,
            "properties": {
                "image": {**_FILE, "description": "One JPEG, PNG, TIFF, BMP or WebP file."},
                "model": {**_MODEL, "default": ""},
            },
        }
    },
    **{kind: {"schema": _FILE} for kind in (*IMAGE_TYPES, "application/octet-stream")},
}

blueprint = Blueprint("reports", __name__, url_prefix="/api")
page_blueprint = Blueprint("report_page", __name__)
FEATURE = Feature("reports", blueprint)
PAGE = Feature("report_page", page_blueprint, page=True)


@blueprint.post("/report")
@document(
    Operation(
        summary="Predict a scan and get a report to print",
        tag="images",
        answers={200: Answer("The report.", others={PDF: "%PDF-1.4 …"})},
        errors=PREDICTION_ERRORS,
        body=_BODY,
        parameters=[
            {
                "in": "query",
                "name": "model",
                "description": _MODEL["description"],
                "schema": _MODEL,
            }
        ],
    )
)
def make_report() -> Response:
    """Predict one image and describe the result on one A4 page, as a PDF.

    It shows the scan, the heat map over it where the model gives one, the probabilities, the
    warnings, what the model is and how it was measured. Nothing of it is kept here.
    """
    return _make_report()


@page_blueprint.post("/report")
def send_report() -> Response:
    """Answer the page's button with the same report."""
    return _make_report()


def _make_report() -> Response:
    # Imported with the first report: most workers never need what draws it.
    from tumorapp.report.pdf import Report, draw_report

    [upload] = read_uploads(request, max_images=1)
    options = read_options(request.values)
    catalog: Catalog = current_app.extensions["catalog"]
    model = catalog.get(options.model)
    max_pixels: int = current_app.config["MAX_PIXELS"]
    found = examine_scans(model, [upload], heatmap=True, max_pixels=max_pixels)
    report = Report(
        card=model.card,
        precision=model.engine.precision,
        prediction=found.predictions[0],
        scan=found.scans[0],
        grey=decode_scan(upload.data, max_pixels=max_pixels),
        sha256=hashlib.sha256(upload.data).hexdigest(),
        made=datetime.now(UTC),
        software=f"TumorApp {VERSION}",
    )
    response = Response(draw_report(report), mimetype=PDF)
    name = name_report(upload.filename)
    response.headers.set("Content-Disposition", "attachment", filename=name)
    return response


def name_report(filename: str) -> str:
    """Name the report of a file, in ASCII as headers are: "left 1.jpg" → "left-1-report.pdf"."""
    stem = PurePosixPath(filename.replace("\\", "/")).stem
    ascii_stem = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode("ascii")
    kept = re.sub(r"[^\w.-]+", "-", ascii_stem).strip(".-")[:60]
    return f"{kept or 'scan'}-report.pdf"
