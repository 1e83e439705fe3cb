"""The page of the models and the reports behind it, as the server renders them."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from brainscan.bundle import Card, Leaks, Source
from brainscan.bundle.figures import FIGURES_FILE, Bin, Figures, History, RocCurve
from brainscan.bundle.manifest import MANIFEST_FILE, write_manifest
from brainscan.bundle.plain import write_json
from brainscan.bundle.sentences import INTENDED_USE, LIMITS
from brainscan.bundle.study import ROW_FILE, keep_result
from tests.cards import GRAPHS, MEASURED, RESULT, draw_measurement, draw_training, draw_up_card
from tumorapp import create_app
from tumorapp.pages.rows import COLUMNS
from tumorapp.security import HEADERS

HTML = {"Accept": "text/html"}
FIGURES = Figures(
    History((0.9, 0.5), (0.8, 0.6), (0.5, 0.8), (0.6, 0.7)),
    {"glioma": RocCurve(0.9123, (0, 0.1, 1), (0, 0.8, 1))},
    (Bin(0.5, 0.4, 0.2), Bin(0.95, 0.9, 0.8)),
)
OTHERS = (
    ("000-ann-128-full-grouped", "ann-128-nodes-0-dense", "000", "full", 0.25, None),
    ("000-ann-32-own-grouped", "ann-32-nodes-0-dense", "000", "own", 0.95, 0.1),
)


def write_study(folder: Path) -> None:
    report = folder.parent / "kept report"
    report.mkdir()
    (report / FIGURES_FILE).write_text(write_json(FIGURES), encoding="utf-8")
    (report / "README.md").write_text("# Übersicht", encoding="utf-8")
    keep_result(folder, RESULT, report)
    for identity, model, document, budget, accuracy, pace in OTHERS:
        measured = draw_measurement(accuracy=accuracy, seconds_per_epoch=pace)
        card = draw_up_card(model, measurement=measured)
        keep_result(
            folder,
            replace(RESULT, id=identity, document=document, budget=budget, card=card),
        )


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    write_study(folder)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, publish_model: Callable[..., Path]) -> Path:
    root = tmp_path_factory.mktemp("models")
    publish_model(
        root, "mobilenet-v2", measurement=replace(MEASURED, accuracy=0.5, leaks=Leaks(0, None, 0.5))
    )
    return root


@pytest.fixture
def app(models: Path, study: Path) -> Flask:
    return create_app({"MODELS_DIR": models, "STUDY_DIR": study})


def read(client: FlaskClient, address: str, status: int = 200) -> str:
    answer = client.get(address, headers=HTML)
    assert answer.status_code == status
    return answer.get_data(as_text=True)


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def list_models(html: str) -> list[str]:
    """Give the models of the rows that are shown, from top to bottom."""
    return re.findall(r'<th scope="row"><a [^>]*>(.*?)</a>', html)


class TestTable:
    def test_bundles_and_study_stand_in_one_table_the_best_on_top(
        self, client: FlaskClient
    ) -> None:
        html = read(client, "/models")
        assert list_models(html) == [
            "ann-32-nodes-0-dense",
            "resnet18",
            "mobilenet-v2",
            "ann-128-nodes-0-dense",
        ]
        text = words(html)
        assert "90.00% 85.00 to 94.00%" in text
        assert "97.86% ours 95.12%" in text
        assert "frozen backbone, SVM head" in text
        assert re.findall(r'<svg viewBox.*? aria-label="(.*?)"', html) == [
            "Accuracy by family",
            "Published and measured",
            "Leaked and not",
        ]
        assert "random-80-20 25% leaked" in text
        assert (
            html.count('<span class="badge reduced">reduced</span>') == 2
        )  # its row and the legend

    def test_every_column_sorts(self, client: FlaskClient) -> None:
        for column, order in product(COLUMNS, ("ascending", "descending")):
            html = read(client, f"/models?sort={column.name}&order={order}")
            assert len(list_models(html)) == 4
            assert html.count("aria-sort=") == 1
            assert f'aria-sort="{order}"' in html

    def test_numbers_in_names_count_as_numbers(self, client: FlaskClient) -> None:
        found = list_models(read(client, "/models?sort=model&order=ascending"))
        assert found[:2] == ["ann-32-nodes-0-dense", "ann-128-nodes-0-dense"]

    def test_a_row_without_the_value_goes_last(self, client: FlaskClient) -> None:
        for order in ("ascending", "descending"):
            found = list_models(read(client, f"/models?sort=published&order={order}"))
            assert found[-1] == "mobilenet-v2"

    def test_a_header_links_to_the_other_order_and_keeps_the_filter(
        self, client: FlaskClient
    ) -> None:
        html = read(client, "/models?document=000&sort=loss&order=ascending")
        links = [link.replace("&amp;", "&") for link in re.findall(r'"sort" href="(.*?)"', html)]
        [link] = [link for link in links if "sort=loss" in link]
        assert "order=descending" in link
        assert list_models(read(client, link)) == ["ann-32-nodes-0-dense", "ann-128-nodes-0-dense"]

    def test_filters(self, client: FlaskClient) -> None:
        for query, count in (
            ("text=SARTAJ+svm", 1),
            ("document=000", 2),
            ("protocol=grouped", 2),
            ("budget=served", 1),
            ("budget=reduced&document=000", 0),
        ):
            html = read(client, f"/models?{query}")
            assert len(list_models(html)) == count
            assert f"{count} of 4 rows" in words(html)

    def test_a_search_is_in_the_language_of_the_page(self, client: FlaskClient) -> None:
        html = read(client, "/models?lang=de&text=Eingefroren+svm")
        assert list_models(html) == ["resnet18"]

    def test_an_order_that_there_is_not(self, client: FlaskClient) -> None:
        for query in ("sort=size_of_heart", "order=up", "sort=<script>"):
            text = read(client, f"/models?{query}", 400)
            assert "Accepted:" in text
            assert "<script>" not in text

    def test_other_parameters_are_let_be(self, client: FlaskClient) -> None:
        assert len(list_models(read(client, "/models/?utm_source=letter"))) == 4


class TestStudyFile:
    def test_without_a_study_the_page_says_how_to_make_one(
        self, models: Path, tmp_path: Path
    ) -> None:
        app = create_app({"MODELS_DIR": models, "STUDY_DIR": tmp_path / "none"})
        html = read(app.test_client(), "/models")
        assert "flask study all" in html
        assert list_models(html) == ["mobilenet-v2"]

    def test_with_nothing_at_all(self, tmp_path: Path) -> None:
        nothing = {"MODELS_DIR": tmp_path / "none", "STUDY_DIR": tmp_path / "none"}
        assert "flask train" in read(create_app(nothing).test_client(), "/models")

    @pytest.mark.parametrize(
        ("name", "value"),
        [("accuracy", "0.9"), ("accuracy", 1e308), ("by_class", [])],
    )
    def test_a_damaged_row_is_named_and_costs_no_other(
        self, client: FlaskClient, study: Path, name: str, value: Any
    ) -> None:
        file = study / RESULT.id / ROW_FILE
        raw = json.loads(file.read_text(encoding="utf-8"))
        raw["card"]["measurement"][name] = value
        file.write_text(json.dumps(raw), encoding="utf-8")
        html = read(client, "/models")
        assert "The study’s results are damaged" in html
        assert f"{RESULT.id}/{ROW_FILE}: Expected " in html
        assert f"card.measurement.{name}" in html
        assert str(study) not in html
        assert len(list_models(html)) == 3
        read(client, f"/models/reports/{RESULT.id}", 404)

    def test_a_new_row_is_shown_at_once(self, client: FlaskClient, study: Path) -> None:
        assert "another" not in list_models(read(client, "/models"))
        keep_result(study, replace(RESULT, id="another", card=draw_up_card("another")))
        assert "another" in list_models(read(client, "/models"))


def test_a_bundle_whose_card_is_damaged_is_refused_and_the_others_are_served(
    tmp_path: Path, publish_model: Callable[..., Path]
) -> None:
    publish_model(tmp_path / "models", "binary-cnn")
    path = publish_model(tmp_path / "models", "mobilenet-v2") / "card.json"
    raw = json.loads(path.read_text())
    raw["parameters"] = 10**400
    path.write_text(json.dumps(raw))
    write_manifest(path.parent)
    folders = {"MODELS_DIR": tmp_path / "models", "STUDY_DIR": tmp_path / "none"}
    client = create_app(folders).test_client()
    assert list_models(read(client, "/models")) == ["binary-cnn"]
    read(client, "/")
    [refused] = client.get("/api/models").get_json()["refused"]
    assert "at `$.parameters`" in refused["reason"]


class TestReports:
    ADDRESS = f"/models/reports/{RESULT.id}"

    def test_of_the_study(self, client: FlaskClient) -> None:
        html = read(client, self.ADDRESS)
        text = words(html)
        assert "90.00% accuracy, 95% interval 85.00 to 94.00%" in text
        assert "50 of the 200 test scans have a near-duplicate in training (25%)" in text
        assert "On those its accuracy is 99.00%" in text
        assert "which are new to it, 87.00%" in text
        assert "Accuracy of the most probable class 95.12% 97.86%" in text
        assert "Accuracy 90.00% 85.00 to 94.00%" in text
        assert "F1, mean of the classes 0.8800 0.8300 to 0.9200 0.97" in text
        assert "Pituitary tumour 1 1 1 47" in text
        assert "7 of 10" in text
        assert "Seed 7" in text
        assert "Do not compare its figures with" in text
        assert LIMITS in text
        assert RESULT.training.command in text
        assert re.findall(r'<svg viewBox.*? aria-label="(.*?)"', html) == [
            "Loss",
            "Accuracy",
            "ROC",
            "Reliability",
        ]
        assert "Glioma, area 0.9123" in text

    def test_published_figures_are_written_as_in_the_language(self, client: FlaskClient) -> None:
        assert "0,8800 0,8300 bis 0,9200 0,97" in words(read(client, f"{self.ADDRESS}?lang=de"))

    def test_of_a_bundle(self, client: FlaskClient) -> None:
        text = words(read(client, "/models/mobilenet-v2/1"))
        assert "50.00% accuracy" in text
        assert "Published" not in text
        assert "Each class" in text
        assert "Data set Accuracy Scans nickparvar 92.00% 150 sartaj 84.00% 50" in text
        assert "Plane Accuracy Scans axial 90.00% 160 coronal 91.00% 40" in text
        assert "mobilenet-v2, version 1 of 2026-11-21" in text
        assert f"{INTENDED_USE} {LIMITS}" in text

    def test_of_a_bundle_with_two_graphs(
        self, app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loaded = app.extensions["catalog"].models["mobilenet-v2"]
        card = replace(loaded.card, graphs=GRAPHS, graph_difference=6.13e-05)
        models = {"mobilenet-v2": replace(loaded, card=card)}
        monkeypatch.setattr("tumorapp.catalog.Catalog.models", models)
        fp16 = "fp16 graph Its probabilities differ from the trained network’s by at most 0.000061."
        int8 = "from the fp16 graph’s by at most 0.22, and 0.75% of its answers are different."
        served, other = " This one is served.", "; the served int8 graph: 94.3%"
        text = words(read(client, "/models/mobilenet-v2/1"))
        assert fp16 + served in text
        assert int8 in text
        assert int8 + served not in text
        assert other not in text
        monkeypatch.setattr(loaded.engine, "precision", "int8")
        text = words(read(client, "/models/mobilenet-v2/1"))
        assert fp16 in text
        assert fp16 + served not in text
        assert int8 + served in text
        assert "85.00 to 94.00%" + other in text

    def test_its_mistakes_in_words(self, client: FlaskClient) -> None:
        text = words(read(client, "/models/mobilenet-v2/1"))
        assert "Of its 200 test scans it was wrong about 23 (11.5%)." in text
        assert "it found no tumour in 7 of the 150 scans with one (4.7%)" in text
        assert "it found a tumour in 3 of the 50 scans without one (6.0%)" in text
        assert (
            "3 of the 50 scans labelled “Glioma” (6.0%) were called “Meningioma”, "
            "with a confidence of up to 97.0%." in text
        )
        assert "3 of the 50 scans labelled “Glioma” (6.0%) were called “No tumour”." in text
        assert "8 more scans were confused in other ways" in text

    @pytest.mark.parametrize("address", ["/models/mobilenet-v2/1", ADDRESS])
    def test_the_card_is_downloaded(self, client: FlaskClient, address: str) -> None:
        [link] = re.findall(r'href="([^"]*)" download', read(client, address))
        answer = client.get(link)
        assert answer.mimetype == "application/json"
        assert "attachment" in answer.headers["Content-Disposition"]
        measured = Card.from_json(answer.text).measurement
        assert measured is not None
        assert measured.confusion == MEASURED.confusion

    def test_the_checksums_of_a_bundle(self, client: FlaskClient) -> None:
        address = f"/models/mobilenet-v2/1/{MANIFEST_FILE}"
        assert f'href="{address}">Its checksums' in read(client, "/models/mobilenet-v2/1")
        with client.get(address) as answer:
            lines = answer.text.splitlines()
        assert [line.split()[1] for line in lines] == ["card.json", "graph.bin", "graph.xml"]
        assert MANIFEST_FILE not in read(client, self.ADDRESS)

    def test_its_plots_in_german(self, client: FlaskClient) -> None:
        html = read(client, f"{self.ADDRESS}?lang=de")
        assert "Fläche 0,9123" in html
        assert ">Epoche<" in html

    @pytest.mark.parametrize(
        "figures", ["", "{}", '{"history": null, "roc": 1, "reliability": []}']
    )
    def test_damaged_numbers_leave_out_the_plots(
        self, client: FlaskClient, study: Path, figures: str
    ) -> None:
        (study / RESULT.id / "report" / FIGURES_FILE).write_text(figures)
        assert "<svg viewBox" not in read(client, self.ADDRESS)

    def test_of_an_imported_model(self, tmp_path: Path, publish_model: Callable[..., Path]) -> None:
        publish_model(tmp_path, "imported", training=None, measurement=None)
        client = create_app({"MODELS_DIR": tmp_path}).test_client()
        assert "imported" in words(read(client, "/models"))
        text = words(read(client, "/models/imported/1"))
        assert "Nothing was measured here" in text

    def test_without_plots_none_is_promised(self, client: FlaskClient) -> None:
        html = read(client, f"/models/reports/{OTHERS[0][0]}")
        assert "<svg viewBox" not in html
        assert "The written report" not in html

    def test_what_there_is_not(self, client: FlaskClient) -> None:
        for address in (
            "reports/none",
            "reports/..",
            f"reports/none/{FIGURES_FILE}",
            "reports/none/card.json",
            f"reports/{RESULT.id}/..%2fcard.json",
            f"reports/{RESULT.id}/%2e%2e/card.json",
            f"reports/{OTHERS[0][0]}/{FIGURES_FILE}",
            f"reports/{RESULT.id}/row.json",
            "mobilenet-v2/2",
            "mobilenet-v2/1/graph.bin",
            "mobilenet-v2/1/..%2fcard.json",
            f"mobilenet-v2/1/{FIGURES_FILE}",
            "absent/1",
        ):
            assert "Go to the start page" in read(client, f"/models/{address}", 404)


class TestFiles:
    ADDRESS = f"/models/reports/{RESULT.id}"

    def test_the_numbers_are_sent_again_only_when_they_changed(
        self, client: FlaskClient, study: Path
    ) -> None:
        address = f"{self.ADDRESS}/{FIGURES_FILE}"
        with client.get(address) as first:
            assert first.get_json()["roc"]["glioma"]["area"] == 0.9123
            assert first.cache_control.no_cache
        again = {"If-None-Match": first.headers["ETag"]}
        with client.get(address, headers=again) as same:
            assert same.status_code == 304
        (study / RESULT.id / "report" / FIGURES_FILE).write_text("{}", encoding="utf-8")
        with client.get(address, headers=again) as changed:
            assert changed.status_code == 200

    @pytest.mark.parametrize("file", ["", "/figures.json", "/README.md"])
    def test_it_comes_with_the_strict_policy(self, client: FlaskClient, file: str) -> None:
        with client.get(self.ADDRESS + file) as answer:
            policies = answer.headers.getlist("Content-Security-Policy")
        assert policies == [HEADERS["Content-Security-Policy"]]

    def test_the_written_report_is_text(self, client: FlaskClient) -> None:
        with client.get(f"{self.ADDRESS}/README.md") as answer:
            assert answer.content_type == "text/plain; charset=utf-8"
            assert answer.get_data(as_text=True) == "# Übersicht"


def test_what_a_file_holds_is_never_markup(client: FlaskClient, study: Path) -> None:
    bold = "<b>bold</b>"
    classes = (bold, "notumor")
    card = draw_up_card(
        "resnet18",
        classes=classes,
        architecture=bold,
        training=draw_training(device=bold, command=bold, notes=(bold,), recipe={bold: bold}),
        measurement=draw_measurement(classes, protocol=bold),
        sources=(Source(bold, "javascript:alert(1)"),),
    )
    figures = replace(FIGURES, roc={bold: FIGURES.roc["glioma"]})
    report = study / RESULT.id / "report"
    (report / FIGURES_FILE).write_text(write_json(figures), encoding="utf-8")
    damaged = study / OTHERS[0][0] / ROW_FILE
    damaged.write_text(damaged.read_text().replace('"full"', f'"{bold}"'), encoding="utf-8")
    row = replace(RESULT, row=bold, data=(bold,), card=card)
    (study / RESULT.id / ROW_FILE).write_text(write_json(row), encoding="utf-8")
    for address in ("/models?text=<b>", f"/models/reports/{RESULT.id}"):
        html = read(client, address)
        assert "<b>" not in html
        assert "javascript:" not in html
