"""The report of a scan as a PDF: from the API, and from the page, which no key is asked for."""

import re
import unicodedata
from datetime import UTC, datetime
from pathlib import PurePosixPath

from flask import Blueprint, Response, current_app, request

from tumorapp.api.openapi import PREDICTION_PROBLEMS, VERSION, Answer, Operation
from tumorapp.api.options import FrameOptionSchema, PageOptionsSchema, describe_body, read_options
from tumorapp.catalog import get_catalog
from tumorapp.feature import Feature
from tumorapp.uploads import read_file

PDF = "application/pdf"

blueprint = Blueprint("reports", __name__, url_prefix="/api")
page_blueprint = Blueprint("report_page", __name__)
FEATURE = Feature("reports", blueprint)
PAGE = Feature("report_page", page_blueprint, page=True)


@blueprint.post("/report")
@Operation(
    "images",
    {200: Answer("The report.", others=[PDF])},
    PREDICTION_PROBLEMS,
    body=lambda: describe_body(FrameOptionSchema, several=False),
    query=FrameOptionSchema,
)
def make_report() -> Response:
    """Predict a scan and get a printable report.

    The report is an A4 page as PDF. It shows the scan, the heat map (if the model gives one), the
    probabilities, the warnings, what the model is and how it was measured. It is not kept here.
    """
    return _make_report()


@page_blueprint.post("/report")
def send_report() -> Response:
    """Answer the page's button with the same report."""
    return _make_report()


def _make_report() -> Response:
    # Imported with the first report: most workers never need what draws it.
    from tumorapp.report.pdf import Report, draw_report

    file = read_file(request)
    options = read_options(request.values, PageOptionsSchema)
    model = get_catalog().get(options.model)
    max_pixels = current_app.config["MAX_PIXELS"]
    report = Report(
        examination=model.examine_one(
            file, max_pixels=max_pixels, frame=options.frame, want_heatmap=True
        ),
        sha256=file.sha256,
        made=datetime.now(UTC),
        software=f"TumorApp {VERSION}",
    )
    response = Response(draw_report(report), mimetype=PDF)
    name = name_report(file.name)
    response.headers.set("Content-Disposition", "attachment", filename=name)
    return response


def name_report(filename: str) -> str:
    """Name the report of a file, in ASCII as headers are: "left 1.jpg" → "left-1-report.pdf"."""
    stem = PurePosixPath(filename.replace("\\", "/")).stem
    ascii_stem = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode("ascii")
    kept = re.sub(r"[^\w.-]+", "-", ascii_stem).strip(".-")[:60]
    return f"{kept or 'scan'}-report.pdf"
