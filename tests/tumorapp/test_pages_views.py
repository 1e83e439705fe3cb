"""The page as the server renders it, which is all of it for a browser without JavaScript."""

import base64
import io
import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from brainscan.bundle import Intervals
from tests.cards import GRAPHS, POINTING, VERDICTS, draw_measurement
from tumorapp import create_app
from tumorapp.language import wording

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
INTERVALS = Intervals(*4 * ((0.941, 0.9634),))
FIGURES = {"accuracy": 0.9512, "scans": 1234, "intervals": INTERVALS}

Attributes = dict[str, str]


class Page(HTMLParser):
    """The elements of a page, in order, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, Attributes]] = []
        self.pieces: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())

    def all(self, tag: str) -> Iterator[Attributes]:
        return (attributes for name, attributes in self.elements if name == tag)

    def by_id(self, name: str) -> Attributes:
        """Give the first element with this id: those in templates come last."""
        return next(found for _, found in self.elements if found.get("id") == name)


def send(client: FlaskClient, data: bytes | None, path: str = "/", **fields: str) -> TestResponse:
    image = {} if data is None else {"image": (io.BytesIO(data), fields.pop("name", "scan.jpg"))}
    return client.post(path, data={**fields, **image}, headers=HTML)


def read_picture(address: str) -> Image.Image:
    head, _, data = address.partition(",")
    assert head in ("data:image/png;base64", "data:image/webp;base64")
    return Image.open(io.BytesIO(base64.b64decode(data)))


def draw_photograph() -> bytes:
    """Draw a picture that is coloured and bright to its edge."""
    file = io.BytesIO()
    wide, high = Image.linear_gradient("L"), Image.linear_gradient("L").rotate(90)
    Image.merge("RGB", (wide, high, Image.new("L", (256, 256), 90))).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, publish_model: Callable[..., Path]) -> Flask:
    root = tmp_path_factory.mktemp("models")
    binary = draw_measurement(("healthy", "tumor"), **FIGURES)
    publish_model(root, "binary-cnn", measurement=binary)
    publish_model(root, "mobilenet-v2", measurement=draw_measurement(**FIGURES))
    publish_model(root, "plain-ann", feature_layer=None, measurement=None)
    app = create_app({"MODELS_DIR": root, "MAX_UPLOAD_MB": 1})
    app.config["MAX_CONTENT_LENGTH"] = 200_000  # so that no test has to send a megabyte
    return app


@pytest.fixture(scope="module")
def judging(tmp_path_factory: pytest.TempPathFactory, publish_model: Callable[..., Path]) -> Flask:
    """The application with a model for each verdict, and two with heat maps."""
    root = tmp_path_factory.mktemp("models")
    figures = draw_measurement(pointing=replace(POINTING, peak=0.9, dice=0.72))
    for verdict, changes in VERDICTS.items():
        publish_model(root, verdict, measurement=figures, **changes)
    publish_model(root, "grad-cam", measurement=figures)
    worse = draw_measurement(pointing=replace(POINTING, peak=0.1))
    publish_model(root, "grad-cam-astray", measurement=worse)
    return create_app({"MODELS_DIR": root})


class TestForm:
    def test_it_offers_the_models_and_chooses_the_default(self, client: FlaskClient) -> None:
        response = client.get("/")
        assert response.status_code == 200
        assert response.mimetype == "text/html"
        options = list(Page(response.text).all("option"))[:3]
        assert [option["value"] for option in options] == [
            "binary-cnn",
            "mobilenet-v2",
            "plain-ann",
        ]
        assert ["selected" in option for option in options] == [False, True, False]

    def test_it_posts_by_itself(self, client: FlaskClient) -> None:
        page = Page(client.get("/").text)
        form = next(page.all("form"))
        assert (form["action"], form["method"]) == ("/", "post")
        assert form["enctype"] == "multipart/form-data"
        assert page.by_id("image")["name"] == "image"
        assert "checked" in page.by_id("heatmap")

    def test_it_says_what_it_is_not_for(self, client: FlaskClient, scan: bytes) -> None:
        pages = [client.get("/"), send(client, scan), client.get("/nothing", headers=HTML)]
        for response in pages:
            text = Page(response.text).text
            assert "For research and teaching only. Not for diagnosis." in text

    def test_it_says_what_each_model_is_worth(self, client: FlaskClient) -> None:
        text = Page(client.get("/").text).text
        assert "Glioma, Meningioma, No tumour, Pituitary tumour" in text
        assert "Measured accuracy: 95.1% on 1,234 scans kept out of training" in text
        assert "Measured accuracy: unknown" in text

    def test_its_example_names_this_service(self, client: FlaskClient) -> None:
        page = Page(client.get("/", base_url="https://scans.example:8443").text)
        expected = (
            "curl -F image=@scan.jpg -F model=mobilenet-v2 https://scans.example:8443/api/predict"
        )
        assert expected in page.text
        assert "/api/models" in [link["href"] for link in page.all("a")]

    def test_its_example_shows_a_key_where_one_is_asked_for(self, tmp_path: Path) -> None:
        keys = {"API_KEYS": "on", "KEYS_FILE": tmp_path / "keys.json"}
        client = create_app({"MODELS_DIR": tmp_path, **keys}).test_client()
        expected = 'curl -H "Authorization: Bearer $KEY" -F image=@scan.jpg http'
        assert expected in Page(client.get("/").text).text

    def test_without_models_it_says_so(self, tmp_path: Path, scan: bytes) -> None:
        client = create_app({"MODELS_DIR": tmp_path}).test_client()
        assert "No model is installed" in Page(client.get("/").text).text
        response = send(client, scan)
        assert response.status_code == 503
        assert Page(response.text).by_id("error")["role"] == "alert"


class TestResult:
    def test_it_shows_what_the_api_answers(self, client: FlaskClient, scan: bytes) -> None:
        image = (io.BytesIO(scan), "scan.jpg")
        [expected] = client.post("/api/predict", data={"image": image}).get_json()["predictions"]
        response = send(client, scan)
        assert response.status_code == 200
        page = Page(response.text)
        shares = [f"{share:.1%}" for share in expected["probabilities"].values()]
        assert re.findall(
            r"\S+%(?= (?:Meningioma|No tumour|Pituitary tumour|mobilenet-v2))", page.text
        ) == (shares)
        widths = [bar["width"] for bar in page.all("rect") if bar.get("class") == "fill"]
        assert widths == [f"{share * 100:.2f}%" for share in expected["probabilities"].values()]
        assert f"{expected['confidence']:.1%} confidence" in page.text
        assert "scan.jpg" in page.text

    def test_it_names_the_model_and_its_measured_accuracy(
        self, client: FlaskClient, scan: bytes
    ) -> None:
        page = Page(send(client, scan, model="binary-cnn").text)
        assert "binary-cnn, version 1" in page.text
        assert "Measured accuracy: 95.1% on 1,234 scans kept out of training" in page.text
        assert "/models/binary-cnn/1" in [link["href"] for link in page.all("a")]
        assert re.search(r"\d+ ms on the server", page.text)
        [chosen] = [option["value"] for option in page.all("option") if "selected" in option]
        assert chosen == "binary-cnn"

    def test_it_can_be_copied_for_programs(
        self, client: FlaskClient, scan: bytes, form: Callable[..., dict[str, Any]]
    ) -> None:
        sent = form(("image", "it's 1;2.jpg", scan), ("model", None, b"binary-cnn"))
        page = Page(client.post("/", headers={"Accept": "text/html"}, **sent).text)
        copies = [button["data-copy"] for button in page.all("button") if "data-copy" in button]
        as_json, as_curl, as_python = copies
        [expected] = client.post("/api/predict", **sent).get_json()["predictions"]
        assert json.loads(as_json) == expected
        words = shlex.split(as_curl)
        assert words[:3] == ["curl", "-F", 'image=@"it\'s 1;2.jpg"']
        assert words[3:] == ["-F", "model=binary-cnn", "http://localhost/api/predict"]
        compile(as_python, "copied.py", "exec")
        assert 'open("it\'s 1;2.jpg", "rb")' in as_python

    def test_a_kind_is_explained_one_click_away(self, app: Flask) -> None:
        with app.test_request_context():
            assert wording.question("glioma") == "What is a glioma?"
            for label in ("glioma", "meningioma", "pituitary"):
                assert wording.background(label)
            assert wording.question("tumor") == wording.background("tumor") == ""

    def test_the_heat_map_lies_over_a_scan_of_its_shape(
        self, client: FlaskClient, draw_scan: Callable[..., bytes]
    ) -> None:
        data = draw_scan("TIFF", width=1536, height=1024, compression="tiff_lzw")
        page = Page(send(client, data, heatmap="1", preview="1").text)
        scan, heat = (read_picture(page.by_id(name)["src"]) for name in ("scan", "heat"))
        assert scan.size == (1024, 683)  # drawn smaller, in a format that browsers show
        assert heat.width / heat.height == pytest.approx(1.5, abs=0.01)
        assert heat.mode == "RGBA"
        assert page.by_id("heat")["alt"].startswith("Heat map over the scan")

    def test_without_a_heat_map_there_is_the_scan_alone(
        self, client: FlaskClient, scan: bytes
    ) -> None:
        page = Page(send(client, scan, preview="1").text)
        assert read_picture(page.by_id("scan")["src"]).size == (200, 220)
        assert "hidden" in page.by_id("heat")
        assert "checked" not in page.by_id("heatmap")

    def test_warnings_are_shown(self, client: FlaskClient, scan: bytes) -> None:
        page = Page(send(client, scan, model="plain-ann", heatmap="1").text)
        assert "cannot give a heat map" in page.text
        assert "Measured accuracy: unknown" in page.text

    def test_the_script_gets_the_same_result_and_nothing_else(
        self, client: FlaskClient, scan: bytes
    ) -> None:
        def without_time(html: str) -> str:
            article = html[html.index("<article") : html.index("</article>")]
            return re.sub(r"\d+ ms", "… ms", article)

        whole = send(client, scan, heatmap="1", preview="1").text
        parts = send(client, scan, path="/parts", heatmap="1").text
        assert without_time(parts) == without_time(whole)
        assert "<html" not in parts
        ids = [found["id"] for _, found in Page(parts).elements if "id" in found]
        shown = ["heat", "lesion", "crop", "caption", "slices", "result", "counterfactual"]
        assert ids == [*shown, "error"]

    def test_the_crop_is_outlined_on_the_whole_scan(
        self, client: FlaskClient, draw_scan: Callable[..., bytes]
    ) -> None:
        page = Page(send(client, draw_scan("PNG", width=200, height=220)).text)
        assert page.by_id("crop")["viewbox"] == "0 0 200 220"
        rect = next(found for found in page.all("rect") if "x" in found)
        left, top, width, height = (int(rect[name]) for name in ("x", "y", "width", "height"))
        assert (left, top) == pytest.approx((20, 15), abs=3)  # where the head was drawn
        assert (width, height) == pytest.approx((160, 190), abs=6)

    def test_a_scan_that_was_not_cropped_has_no_outline(self, client: FlaskClient) -> None:
        page = Page(send(client, draw_photograph()).text)
        assert "hidden" in page.by_id("crop")
        assert "Not recognised as an MRI slice of a head" in page.text

    def test_a_low_confidence_is_told(self, client: FlaskClient, scan: bytes) -> None:
        sure, unsure = (
            send(client, scan, model=name).text for name in ("mobilenet-v2", "binary-cnn")
        )
        assert "Uncertain" not in sure
        assert "Uncertain: the model&#39;s confidence is only 62%." in unsure


class TestVerdicts:
    """Five models, each of which gives every scan one of the five verdicts."""

    @pytest.fixture
    def client(self, judging: Flask) -> FlaskClient:
        return judging.test_client()

    @pytest.mark.parametrize(
        ("verdict", "headline", "stated"),
        [
            ("tumor", "Pituitary tumour", "{confidence:.1%} confidence"),
            (
                "tumor-kind-unclear",
                "Tumour, kind unclear",
                "{tumor_probability:.1%} probability of a tumour Still possible: Pituitary tumour",
            ),
            (
                "unclear",
                "Unclear whether there is a tumour",
                "{tumor_probability:.1%} probability of a tumour The probability is too high",
            ),
            ("no-tumor", "No tumour found", "{confidence:.1%} confidence That does not rule"),
            ("not-recognised", "Not recognised as an MRI slice of a head", " Such a slice is grey"),
        ],
    )
    def test_each_has_a_headline_and_says_how_probable_it_is(
        self, client: FlaskClient, scan: bytes, verdict: str, headline: str, stated: str
    ) -> None:
        sent = {"image": (io.BytesIO(scan), "scan.jpg"), "model": verdict}
        [found] = client.post("/api/predict", data=sent).get_json()["predictions"]
        assert found["verdict"] == verdict
        response = send(client, scan, model=verdict, heatmap="1")
        page = Page(response.text)
        assert f"scan.jpg {headline} {stated.format(**found).strip()}" in page.text
        assert page.text.startswith(f"{headline} · TumorApp")
        assert page.by_id("result")["data-finding"] == headline
        assert "healthy" not in page.text.lower().replace("healthy brain", "")

    @pytest.mark.parametrize("verdict", VERDICTS)
    def test_what_it_marks_lies_over_the_scan(
        self, client: FlaskClient, scan: bytes, verdict: str
    ) -> None:
        page = Page(send(client, scan, model=verdict, heatmap="1").text)
        assert "hidden" in page.by_id("heat")
        if verdict in ("no-tumor", "not-recognised"):
            assert "hidden" in page.by_id("lesion")
            assert page.by_id("caption")["data-map"] == "none"
            return
        assert page.by_id("lesion")["viewbox"] == "0 0 200 220"
        [points] = [found["points"] for found in page.all("polygon")]
        x, y = zip(*(map(float, place.split(",")) for place in points.split()), strict=True)
        assert (min(x), max(x)) == pytest.approx((100, 140), abs=10)  # the spot of draw_head
        assert (min(y), max(y)) == pytest.approx((99, 143), abs=10)
        area = re.search(r"the region that the model marks, (\d)% of the head", str(page.elements))
        assert area
        assert f"The model marks this region ({area[1]}% of the head)" in page.text
        assert "peak lies in the tumour in 90% of 8 scans (middle of the head: 20%)" in page.text

    def test_what_would_have_been_said_is_folded_away(
        self, client: FlaskClient, scan: bytes
    ) -> None:
        text = send(client, scan, model="not-recognised").text
        before, _, after = text[text.index("<article") :].partition("<details")
        assert "Glioma" not in before
        assert "What the model would have said" in after
        assert 'class="top"' not in after

    def test_a_heat_map_is_shown_with_its_figure_or_not_at_all(
        self, client: FlaskClient, scan: bytes
    ) -> None:
        good = Page(send(client, scan, model="grad-cam", heatmap="1").text)
        assert good.by_id("heat")["src"].startswith("data:image/png")
        assert "peak lies in the tumour in 90% of 8 scans" in good.text
        astray = Page(send(client, scan, model="grad-cam-astray", heatmap="1").text)
        assert "hidden" in astray.by_id("heat")
        assert "The heat map is left out" in astray.text
        assert "class" not in astray.by_id("heat")

    def test_all_of_them_are_compared(self, client: FlaskClient, scan: bytes) -> None:
        response = send(client, scan, "/compare/parts", model="tumor")
        page = Page(response.text)
        assert "The models disagree: 2 of 5 call it a tumour." in page.text
        assert "2 uncertain answers are not counted." in page.text
        assert "Tumour, kind unclear Still possible: Pituitary tumour" in page.text
        assert len(list(page.all("polygon"))) == 3
        assert response.text.count("<image ") == 1  # the scan is there once


class TestPrecision:
    """The card's figures are of its fp16 graph; another may be served."""

    SHOWN = "; the served int8 graph: 94.3%. How was this measured?"

    @pytest.mark.parametrize("precision", ["fp16", "int8"])
    def test_the_accuracy_of_the_served_graph_is_told(
        self,
        app: Flask,
        client: FlaskClient,
        scan: bytes,
        precision: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        loaded = app.extensions["catalog"].models["binary-cnn"]
        monkeypatch.setattr(loaded.engine, "precision", precision)
        both = replace(loaded, card=replace(loaded.card, graphs=GRAPHS))
        models = {**app.extensions["catalog"].models, "binary-cnn": both}
        monkeypatch.setattr("tumorapp.catalog.Catalog.models", models)
        for page in (
            client.get("/"),
            send(client, scan, model="binary-cnn"),
            client.get("/how?model=binary-cnn"),
        ):
            assert (self.SHOWN in Page(page.text).text) is (precision == "int8")


class TestSamples:
    def test_each_is_predicted_by_a_button_of_its_own(self, client: FlaskClient) -> None:
        page = Page(client.get("/").text)
        buttons = [found for found in page.all("button") if found.get("name") == "sample"]
        assert len(buttons) == 4
        for button in buttons:
            assert button["form"] == "samples"
            fields = {"sample": button["value"], "preview": "1"}
            answer = client.post("/", data=fields, headers=HTML)
            assert answer.status_code == 200
            found = Page(answer.text)
            assert f"{button['value']}.webp" in found.text
            assert max(read_picture(found.by_id("scan")["src"]).size) == 256
            with client.get(button["data-scan"]) as file:
                assert file.mimetype == "image/webp"
                assert len(file.data) < 25_000

    @pytest.mark.parametrize("name", ["slice-9", "../page", "slice-1.webp"])
    def test_one_that_is_not_there(self, client: FlaskClient, name: str) -> None:
        response = client.post("/", data={"sample": name}, headers=HTML)
        assert response.status_code == 400
        assert "Accepted: slice-1; slice-2" in Page(response.text).text

    def test_their_origin_is_told(self, client: FlaskClient) -> None:
        links = [link["href"] for link in Page(client.get("/").text).all("a")]
        [origin] = [address for address in links if address.endswith("README.txt")]
        with client.get(origin) as file:
            text = file.get_data(as_text=True)
        for name in ("slice-1", "slice-2", "slice-3", "slice-4", "ICBM 152", "McConnell"):
            assert name in text


class TestComparison:
    def test_all_models_are_asked(self, client: FlaskClient, scan: bytes) -> None:
        page = Page(send(client, scan, "/compare", model="binary-cnn", preview="1").text)
        assert "binary-cnn, version 1" in page.text  # the one that was chosen, in full
        assert page.by_id("comparison")["class"] == "comparison"
        for name in ("binary-cnn", "mobilenet-v2", "plain-ann"):
            image = (io.BytesIO(scan), "scan.jpg")
            answer = client.post("/api/predict", data={"image": image, "model": name}).get_json()
            [found] = answer["predictions"]
            doubt = ", uncertain" if found["confidence"] < 0.7 else " "
            assert f"{found['confidence']:.1%} confidence{doubt}" in page.text
        assert "The models agree: none of 2 finds a tumour." in page.text
        assert "1 uncertain answer is not counted." in page.text
        assert page.text.count("no measured accuracy") == 1
        assert "plain-ann no measured accuracy" in page.text

    def test_one_certain_answer_is_nothing_to_compare(
        self, client: FlaskClient, scan: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("brainscan.verdict.UNCERTAIN_BELOW", 1.0)
        page = Page(send(client, scan, "/compare/parts").text)
        assert "Fewer than two answers are certain enough to be compared." in page.text
        assert "agree:" not in page.text

    def test_an_error_is_told_at_the_form(self, client: FlaskClient) -> None:
        response = send(client, b"a letter", "/compare/parts")
        assert response.status_code == 422
        assert "not an image" in Page(response.text).text


class TestErrors:
    @pytest.mark.parametrize("path", ["/", "/parts"])
    @pytest.mark.parametrize(
        ("data", "fields", "status", "told"),
        [
            (None, {}, 400, "image"),
            (b"", {}, 422, "empty"),
            (b"a letter", {}, 422, "scan.jpg: The file is not an image"),
            (b"\xff\xd8\xff\xe0 cut", {}, 422, "scan.jpg"),
            (bytes(300_000), {}, 413, "at most 1 MB"),
            (b"", {"model": "gpt"}, 404, "Choose one of: binary-cnn, mobilenet-v2, plain-ann."),
            (b"", {"heatmap": "perhaps"}, 400, "The option heatmap cannot be 'perhaps'."),
        ],
    )
    def test_an_error_is_told_at_the_form(
        self,
        client: FlaskClient,
        path: str,
        data: bytes | None,
        fields: dict[str, str],
        status: int,
        told: str,
    ) -> None:
        response = send(client, data, path, **fields)
        assert response.status_code == status
        page = Page(response.text)
        assert page.by_id("error")["role"] == "alert"
        assert told in page.text
        assert ("form" in dict(page.elements)) is (path == "/")

    def test_one_scan_at_a_time(self, client: FlaskClient, scan: bytes) -> None:
        two = {"image": [(io.BytesIO(scan), "1.jpg"), (io.BytesIO(scan), "2.jpg")]}
        assert client.post("/", data=two, headers=HTML).status_code == 413

    def test_what_a_visitor_wrote_is_not_markup(self, client: FlaskClient, scan: bytes) -> None:
        for data in (scan, b"a letter"):
            response = send(client, data, name="<b onclick=alert(1)>.jpg", model="mobilenet-v2")
            assert "<b onclick" not in response.text
            assert "&lt;b onclick" in response.text

    def test_a_program_gets_a_problem_it_can_read(self, client: FlaskClient) -> None:
        response = client.post("/", headers={"Accept": "application/json"})
        assert response.status_code == 400
        assert response.mimetype == "application/problem+json"

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/nothing", 404),
            ("DELETE", "/", 405),
            ("GET", "/parts", 405),
        ],
    )
    def test_other_errors_are_pages(
        self, client: FlaskClient, method: str, path: str, status: int
    ) -> None:
        response = client.open(path, method=method, headers=HTML)
        assert response.status_code == status
        page = Page(response.text)
        assert str(status) in page.text
        assert "/" in [link["href"] for link in page.all("a")]


def test_the_markup_is_free_of_inline_code_and_of_other_sites(
    client: FlaskClient, scan: bytes
) -> None:
    pages = [
        client.get("/").text,
        send(client, scan, "/compare", heatmap="1", preview="1").text,
        send(client, scan, "/parts", heatmap="1").text,
        send(client, b"a letter").text,
        client.get("/nothing", headers=HTML).text,
    ]
    files = set()
    for tag, attributes in (found for page in pages for found in Page(page).elements):
        assert tag != "style"
        assert tag != "script" or attributes["src"].startswith("/static/")
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        assert tag != "img" or "alt" in attributes
        address = attributes.get("src" if tag in ("img", "script") else "href", "")
        assert address.startswith(("data:", "/", "#", "?")) or not address
        if address.startswith("/static/"):
            files.add(address)
    for address in files:
        with client.get(address) as response:
            assert response.status_code == 200
