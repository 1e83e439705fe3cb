"""The page as the server renders it, which is all of it for a browser without JavaScript."""

import io
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image

from brainscan.bundle import Intervals
from tests.cards import GRAPHS, draw_measurement
from tests.tumorapp.markup import HTML, Page, read_picture, send
from tumorapp import create_app
from tumorapp.language import wording

INTERVALS = Intervals(*4 * ((0.941, 0.9634),))
FIGURES = {"accuracy": 0.9512, "scans": 1234, "intervals": INTERVALS}


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
