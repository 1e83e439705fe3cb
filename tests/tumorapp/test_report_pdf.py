"""The report: what the PDF says, whatever was sent, and both addresses that give it."""

import hashlib
import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from pypdf import PdfReader

from brainscan import Examination, Lesion, Message
from brainscan.bundle import Card, Intervals
from brainscan.reading import Reading
from brainscan.scan import Box, Picture, PreparedScan, ScanSpecification
from tests.cards import GRAPHS, VERDICTS, draw_measurement
from tumorapp import create_app
from tumorapp.language import translation
from tumorapp.report.api import name_report
from tumorapp.report.pdf import CAUTION, NOTICE, Report, draw_lesion, draw_report
from tumorapp.report.text import make_plain

PROJECT = Path(__file__).parents[2]
Form = Callable[..., dict[str, Any]]


def read(pdf: bytes) -> tuple[PdfReader, str]:
    """Read a PDF back: the document, and its text on one line."""
    reader = PdfReader(io.BytesIO(pdf))
    assert len(reader.pages) == 1
    return reader, " ".join(reader.pages[0].extract_text().split())


@pytest.mark.parametrize("address", ["/api/report", "/report"])
def test_a_report(client: FlaskClient, form: Form, scan: bytes, address: str) -> None:
    parts = form(("image", "head 1.jpg", scan), ("model", None, b"binary-cnn"))
    before = datetime.now(UTC)
    response = client.post(address, **parts)
    assert response.status_code == 200
    assert response.mimetype == "application/pdf"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Disposition"] == "attachment; filename=head-1-report.pdf"
    reader, text = read(response.data)
    answer = client.post("/api/predict", **parts).get_json()["predictions"][0]
    for expected in (
        "head 1.jpg",
        "No tumour" if answer["label"] == "healthy" else "Tumour",
        f"{answer['confidence']:.1%}",
        "binary-cnn, version 1",
        "50.0%",
        "grouped",
        hashlib.sha256(scan).hexdigest(),
        "200 × 220 pixels",
        "resized to 48 × 48",
        f"{before:%Y-%m-%d}",
        "TumorApp 0.1.0",
        NOTICE,
        CAUTION,
    ):
        assert expected in text
    assert len(reader.pages[0].images) == 2
    metadata = reader.metadata or {}
    assert not any(metadata.get(f"/{name}") for name in ("Author", "Subject", "Creator"))


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ([("image", "letter.txt", b"Dear doctor")], 422),
        ([("image", "", b"")], 400),
        ([("model", None, b"binary-cnn")], 400),
        ([("image", "a.jpg", b"1"), ("image", "b.jpg", b"2")], 413),
        ([("image", "a.jpg", b"1"), ("model", None, b"none")], 404),
    ],
)
def test_what_is_refused(client: FlaskClient, form: Form, sent: Any, status: int) -> None:
    for address in ("/api/report", "/report"):
        response = client.post(address, **form(*sent))
        assert response.status_code == status
        assert response.mimetype == "application/problem+json"
    page = client.post("/report", **form(*sent), headers={"Accept": "text/html"})
    assert (page.status_code, page.mimetype) == (status, "text/html")


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("脳.jpg", "?.jpg"),
        ("Schädel – größer.png", "Schädel – größer.png"),
        ("łódź.png", "?ódz.png"),
        ("e\u0301tude.png", "étude.png"),
        ("gpj.\u202exe", "gpj. xe"),
        ("two\nlines\0.png", "two lines .png"),
        ("<b>bold</b> &amp; %s.png", "<b>bold</b> &amp; %s.png"),
        ("\ud800.png", " .png"),
    ],
)
def test_any_file_name(make_card: Callable[..., Card], name: str, written: str) -> None:
    assert make_plain(name) == written
    _, text = read(draw_report(make_report(make_card(), name)))
    assert written.partition(".")[0].strip("? ") in text


def test_a_file_name_over_the_wire(client: FlaskClient, form: Form, scan: bytes) -> None:
    response = client.post("/report", **form(("image", "脳 scan.jpg", scan)))
    assert response.headers["Content-Disposition"] == "attachment; filename=scan-report.pdf"
    assert "? scan.jpg" in read(response.data)[1]


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("scans/left 1.jpg", "left-1-report.pdf"),
        ("C:\\scans\\a.b.png", "a.b-report.pdf"),
        ("Schädel.png", "Schadel-report.pdf"),
        ("..", "scan-report.pdf"),
        ('"\r\n;.png', "scan-report.pdf"),
        ("x" * 500 + ".png", "x" * 60 + "-report.pdf"),
    ],
)
def test_the_name_of_a_report(filename: str, name: str) -> None:
    assert name_report(filename) == name


def make_report(
    card: Card,
    filename: str = "scan.jpg",
    *,
    box: Box = Box(100, 50, 800, 250),  # noqa: B008  it cannot be changed
    warnings: tuple[Message, ...] = (),
) -> Report:
    scan = PreparedScan(np.zeros((64, 64, 1), np.uint8), box, (900, 300))
    reading = Reading(filename, scan, Picture(np.zeros((300, 900), np.uint8)))
    probabilities = dict.fromkeys(card.classes, 1 / len(card.classes))
    found = Examination(reading, card, "int8", probabilities, None, warnings)
    return Report(found, "0" * 64, datetime.now(UTC), "TumorApp")


@pytest.mark.parametrize(
    ("language", "rest", "accuracy"),
    [
        (
            "en",
            "and 14 less probable classes",
            "(95% interval 89.0% to 91.0%); the served int8 graph: 94.3%",
        ),
        ("de", "und 14 weniger wahrscheinliche", "; int8-Graph in Betrieb: 94,3"),
    ],
)
def test_everything_fits_onto_the_page(
    make_card: Callable[..., Card],
    language: str,
    rest: str,
    accuracy: str,
) -> None:
    service = Flask(__name__)
    translation.init_app(service)
    classes = tuple(f"a-kind-of-tumour-with-a-long-name-{number}" for number in range(20))
    card = make_card(
        classes=classes,
        architecture="layers and layers " * 40,
        scan=ScanSpecification(64),
        measurement=draw_measurement(
            classes,
            accuracy=0.9,
            scans=1_000_000,
            protocol="random-80-20",
            intervals=Intervals(*4 * ((0.89, 0.91),)),
        ),
        graphs=GRAPHS,
    )
    report = make_report(card, "name " * 100, warnings=(Message("not-a-scan"),) * 9)
    with service.test_request_context(f"/report?lang={language}"):
        _, text = read(draw_report(report))
    assert rest in text
    assert accuracy in text


def test_no_accuracy_and_no_crop(make_card: Callable[..., Card]) -> None:
    report = make_report(make_card(measurement=None), box=Box(0, 0, 900, 300))
    _, text = read(draw_report(report))
    assert "unknown" in text
    assert "none: the whole scan" in text


@pytest.mark.parametrize(
    ("verdict", "pictures", "expected"),
    [
        ("tumor", 2, ["Pituitary tumour", "The model marks this region: "]),
        ("tumor-kind-unclear", 2, ["Tumour, kind unclear", "probability of a tumour", "Still"]),
        ("unclear", 2, ["Unclear whether there is a tumour", "probability of a tumour"]),
        ("no-tumor", 1, ["No tumour found", "The model marks no region."]),
        (
            "not-recognised",
            1,
            ["Not recognised as an MRI slice of a head", "What the model would have said: No"],
        ),
    ],
)
def test_each_verdict(
    tmp_path: Path,
    publish_model: Callable[..., Path],
    form: Form,
    scan: bytes,
    verdict: str,
    pictures: int,
    expected: list[str],
) -> None:
    publish_model(tmp_path, **VERDICTS[verdict])
    client = create_app({"MODELS_DIR": tmp_path}).test_client()
    reader, text = read(client.post("/report", **form(("image", "a.jpg", scan))).data)
    assert [words for words in expected if words not in text] == []
    assert len(reader.pages[0].images) == pictures


@pytest.mark.parametrize("verdict", ["tumor", "no-tumor"])
def test_no_part_of_the_page_stays_blank(
    tmp_path: Path, publish_model: Callable[..., Path], form: Form, scan: bytes, verdict: str
) -> None:
    publish_model(tmp_path, **VERDICTS[verdict])
    client = create_app({"MODELS_DIR": tmp_path}).test_client()
    pdf = client.post("/report", **form(("image", "a.jpg", scan))).data
    page = PdfReader(io.BytesIO(pdf)).pages[0]
    heights: list[float] = []
    page.extract_text(
        visitor_text=lambda text, matrix, *others: (
            heights.append(matrix[5]) if text.strip() else None
        )
    )
    assert min(heights) < 0.25 * float(page.mediabox.height)


def test_the_region_is_drawn_where_it_is() -> None:
    square = ((0.2, 0.4), (0.6, 0.4), (0.6, 0.8), (0.2, 0.8))
    drawn = draw_lesion(np.full((200, 400), 90, np.uint8), Lesion((0.4, 0.6), (square,), 0.1, 1.0))
    rows, columns = np.nonzero(drawn[..., 0] != drawn[..., 2])
    assert (columns.min(), columns.max()) == pytest.approx((80, 240), abs=2)
    assert (rows.min(), rows.max()) == pytest.approx((80, 160), abs=2)
    assert (drawn[120, 160] == 90).all()  # what is inside stays as it is


def test_it_is_documented(client: FlaskClient) -> None:
    operation = client.get("/api/openapi.json").get_json()["paths"]["/api/report"]["post"]
    assert operation["responses"]["200"]["content"].keys() == {"application/pdf"}
    assert {"400", "404", "413", "415", "422", "503"} <= operation["responses"].keys()
