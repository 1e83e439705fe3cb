"""The page of the models and the reports behind it, as the server renders them."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from brainscan.bundle import Card
from brainscan.bundle.study import RESULTS_FILE, Result, append_result
from tumorapp import create_app
from tumorapp.pages.rows import COLUMNS
from tumorapp.pages.study import read_study
from tumorapp.security import HEADERS

HTML = {"Accept": "text/html"}
DRAWING = '<svg xmlns="http://www.w3.org/2000/svg"/>'
METRICS = {
    "protocol": "random-80-20",
    "accuracy": 0.9,
    "balanced_accuracy": 0.89,
    "f1_macro": 0.88,
    "loss": 0.3,
    "roc_auc": 0.99,
    "scans": 200,
    "intervals": {"accuracy": [0.85, 0.94], "roc_auc": [0.98, 0.995]},
    "by_class": {
        name: {"precision": 0.9, "recall": 0.8, "f1": 0.85, "scans": 50}
        for name in ("glioma", "meningioma", "notumor", "pituitary")
    },
    "confusion": [[41, 3, 3, 3], [2, 42, 3, 3], [1, 1, 47, 1], [1, 1, 1, 47]],
    "mistakes": [{"label": "glioma", "answer": "meningioma", "scans": 3, "confidence": 0.97}],
    "parts": {"train": 700, "validation": 100, "test": 200},
    "leaks": {"scans": 50, "accuracy_with": 0.99, "accuracy_without": 0.87},
}
RESULT = Result(
    id="002-resnet18-quick-random-80-20",
    document="002",
    row="ResNet18",
    model="resnet18",
    method="frozen",
    head="svm",
    budget="quick",
    protocol="random-80-20",
    data=("nickparvar", "sartaj"),
    size=96,
    epochs=10,
    epochs_run=7,
    seconds_per_epoch=1.5,
    parameters=11_178_564,
    device="CPU, tensorflow",
    date="2026-11-21",
    test_scans=200,
    accuracy=0.9,
    balanced_accuracy=0.89,
    f1_macro=0.88,
    loss=0.3,
    roc_auc=0.99,
    interval=(0.85, 0.94),
    leaks=METRICS["leaks"],
    published={"accuracy": 0.9786, "loss": None, "f1": 0.97},
    command="flask study 002 --budget quick --only resnet18",
)
OTHERS = (
    ("000-ann-128-full-grouped", "ann-128-nodes-0-dense", "000", "full", "grouped", 0.25, None),
    ("000-ann-32-own-grouped", "ann-32-nodes-0-dense", "000", "own", "grouped", 0.95, 0.1),
)


def write_study(folder: Path, make_card: Callable[..., Card]) -> None:
    append_result(folder, RESULT)
    report = folder / RESULT.id / "report"
    report.mkdir(parents=True)
    card = make_card("resnet18", metrics=METRICS, training={"seed": 7, "recipe": {"batch": 32}})
    report.with_name("card.json").write_text(card.to_json(), encoding="utf-8")
    for name in ("history", "confusion", "roc", "reliability"):
        (report / f"{name}.svg").write_text(DRAWING, encoding="utf-8")
    (report / "README.md").write_text("# Übersicht", encoding="utf-8")
    for identity, model, document, budget, protocol, accuracy, loss in OTHERS:
        changes: dict[str, Any] = {
            "id": identity,
            "model": model,
            "document": document,
            "budget": budget,
            "protocol": protocol,
            "accuracy": accuracy,
            "loss": loss,
            "method": "fine-tune",
        }
        append_result(folder, replace(RESULT, **changes, head="softmax", leaks={"scans": 0}))


@pytest.fixture
def study(tmp_path: Path, make_card: Callable[..., Card]) -> Path:
    folder = tmp_path / "study"
    write_study(folder, make_card)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, publish_model: Callable[..., Path]) -> Path:
    root = tmp_path_factory.mktemp("models")
    publish_model(root, "mobilenet-v2", metrics={**METRICS, "accuracy": 0.5, "leaks": {}})
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
    rows = re.findall(r"<tr (data-text.*?)</tr>", html, flags=re.DOTALL)
    shown = [row for row in rows if not row.partition(">")[0].endswith("hidden")]
    return [re.findall(r'<th scope="row".*?<a [^>]*>(.*?)</a>', row)[0] for row in shown]


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
        assert "97.86%" in text
        assert "frozen backbone, SVM head" in text
        assert "random-80-20 25% leaked" in text
        assert html.count('<span class="badge quick">quick</span>') == 2  # its row and the legend

    @pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
    @pytest.mark.parametrize("order", ["ascending", "descending"])
    def test_every_column_sorts(self, client: FlaskClient, column: Any, order: str) -> None:
        html = read(client, f"/models?sort={column.name}&order={order}")
        assert len(list_models(html)) == 4
        assert html.count("aria-sort=") == 1
        assert f'aria-sort="{order}"' in html

    def test_numbers_in_names_count_as_numbers(self, client: FlaskClient) -> None:
        found = list_models(read(client, "/models?sort=model&order=ascending"))
        assert found[:2] == ["ann-32-nodes-0-dense", "ann-128-nodes-0-dense"]

    @pytest.mark.parametrize("order", ["ascending", "descending"])
    def test_a_row_without_the_value_goes_last(self, client: FlaskClient, order: str) -> None:
        found = list_models(read(client, f"/models?sort=loss&order={order}"))
        assert found[-1] == "ann-128-nodes-0-dense"

    def test_a_header_links_to_the_other_order_and_keeps_the_filter(
        self, client: FlaskClient
    ) -> None:
        html = read(client, "/models?document=000&sort=loss&order=ascending")
        links = [link.replace("&amp;", "&") for link in re.findall(r'"sort" href="(.*?)"', html)]
        [link] = [link for link in links if "sort=loss" in link]
        assert "order=descending" in link
        assert list_models(read(client, link)) == ["ann-32-nodes-0-dense", "ann-128-nodes-0-dense"]

    @pytest.mark.parametrize(
        ("query", "count"),
        [
            ("text=SARTAJ+svm", 1),
            ("document=000", 2),
            ("protocol=grouped", 2),
            ("budget=served", 1),
            ("budget=quick&document=000", 0),
        ],
    )
    def test_filters(self, client: FlaskClient, query: str, count: int) -> None:
        html = read(client, f"/models?{query}")
        assert len(list_models(html)) == count
        assert f"{count} of 4 rows" in words(html)

    @pytest.mark.parametrize("text", ["frozen", "eingefroren", "Eingefroren svm", "head"])
    def test_in_german_both_words_find_a_row(self, client: FlaskClient, text: str) -> None:
        assert list_models(read(client, f"/models?lang=de&text={text}")) == ["resnet18"]

    @pytest.mark.parametrize("query", ["sort=size_of_heart", "order=up", "sort=<script>"])
    def test_an_order_that_there_is_not(self, client: FlaskClient, query: str) -> None:
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
        assert "flask study all --budget quick" in html
        assert list_models(html) == ["mobilenet-v2"]

    def test_with_nothing_at_all(self, tmp_path: Path) -> None:
        nothing = {"MODELS_DIR": tmp_path / "none", "STUDY_DIR": tmp_path / "none"}
        assert "flask train" in read(create_app(nothing).test_client(), "/models")

    @pytest.mark.parametrize("damage", ["{", "[]", '{"id": 1}', "\x00\xff", "[" * 100_000])
    @pytest.mark.parametrize("line", [0, 1, 3])
    def test_a_damaged_line_is_told_and_costs_no_other(
        self, client: FlaskClient, study: Path, damage: str, line: int
    ) -> None:
        file = study / RESULTS_FILE
        lines = file.read_text(encoding="utf-8").splitlines()
        lines.insert(line, damage)
        file.write_text("\n".join(lines), encoding="utf-8")
        html = read(client, "/models")
        assert "The study’s results are damaged" in html
        assert f"{RESULTS_FILE}, line {line + 1}" in html
        assert str(study) not in html
        assert len(list_models(html)) == 4

    def test_a_file_that_is_no_file(self, models: Path, tmp_path: Path) -> None:
        (tmp_path / RESULTS_FILE).mkdir()
        app = create_app({"MODELS_DIR": models, "STUDY_DIR": tmp_path})
        assert "cannot be read" in read(app.test_client(), "/models")

    def test_the_file_is_read_again_only_when_it_changed(
        self, client: FlaskClient, study: Path
    ) -> None:
        assert "another" not in list_models(read(client, "/models"))
        assert read_study(study) is read_study(study)
        append_result(study, replace(RESULT, id="another", model="another"))
        assert "another" in list_models(read(client, "/models"))

    def test_figures_that_are_not_known(self, client: FlaskClient, study: Path) -> None:
        bare = replace(RESULT, id="bare", leaks={}, published={}, loss=None, roc_auc=None, data=())
        append_result(study, replace(bare, seconds_per_epoch=None, method="", head=""))
        read(client, "/models?columns=all")
        assert "–" in read(client, "/models/reports/bare")


class TestReports:
    ADDRESS = f"/models/reports/{RESULT.id}"

    def test_of_the_study(self, client: FlaskClient) -> None:
        html = read(client, self.ADDRESS)
        text = words(html)
        assert "90.00% accuracy, 95% interval 85.00 to 94.00%" in text
        assert "50 of the 200 test scans have a near-duplicate in training (25%)" in text
        assert "On those its accuracy is 99.00%" in text
        assert "which are new to it, 87.00%" in text
        assert "Accuracy 90.00% 85.00 to 94.00% 97.86%" in text
        assert "F1, mean of the classes 0.8800 0.97" in text
        assert "Pituitary tumour 1 1 1 47" in text
        assert "7 of 10" in text
        assert "Seed 7" in text
        assert "no equal of the published ones" in text
        assert "Knows nothing." in text
        assert RESULT.command in text
        files = re.findall(r'<img src="(/models/.*?)"', html)
        assert len(files) == 4
        for file in files:
            with client.get(file) as answer:
                assert answer.get_data(as_text=True) == DRAWING

    def test_published_figures_are_written_as_in_the_language(self, client: FlaskClient) -> None:
        assert "0,8800 0,97" in words(read(client, f"{self.ADDRESS}?lang=de"))

    def test_of_a_bundle(self, client: FlaskClient) -> None:
        text = words(read(client, "/models/mobilenet-v2/1"))
        assert "50.00% accuracy" in text
        assert "Published" not in text.replace("Published epoch", "")
        assert "Each class" in text
        assert "mobilenet-v2, version 1 of 2026-11-21" in text
        assert "SHA-256 of its 2 files" in text
        assert "Tests. Knows nothing." in text

    def test_of_a_bundle_with_two_graphs(
        self, app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loaded = app.extensions["catalog"].models["mobilenet-v2"]
        monkeypatch.setitem(loaded.card.metrics, "graph_difference", 6.13e-05)
        measured = {"accuracy": 0.93, "milliseconds": 1.5}
        more = {"largest_difference": 0.2214, "other_answers": 0.0075}
        monkeypatch.setitem(loaded.card.graphs, "fp16", measured)
        monkeypatch.setitem(loaded.card.graphs, "int8", measured | more)
        fp16 = (
            "Graph in fp16 Its probabilities differ from the trained network’s by at most 0.000061."
        )
        int8 = "from the fp16 graph’s by at most 0.22, and 0.75% of its answers do."
        served, other = " This one is served.", "; the int8 graph that is served: 93.0%"
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
        assert "8 more are spread over other pairs" in text

    @pytest.mark.parametrize("address", ["/models/mobilenet-v2/1", ADDRESS])
    def test_the_card_is_downloaded(self, client: FlaskClient, address: str) -> None:
        [link] = re.findall(r'href="([^"]*)" download', read(client, address))
        answer = client.get(link)
        assert answer.mimetype == "application/json"
        assert "attachment" in answer.headers["Content-Disposition"]
        assert Card.from_json(answer.text).metrics["confusion"] == METRICS["confusion"]

    @pytest.mark.parametrize("card", [None, "{", json.dumps({"format": 1})])
    def test_without_a_whole_card_the_line_is_shown(
        self, client: FlaskClient, study: Path, card: str | None
    ) -> None:
        path = study / RESULT.id / "card.json"
        path.unlink() if card is None else path.write_text(card, encoding="utf-8")
        text = words(read(client, self.ADDRESS))
        assert "missing or damaged" in text
        assert "near-duplicate in training" in text
        assert RESULT.command in text

    def test_without_plots_none_is_promised(self, client: FlaskClient) -> None:
        html = read(client, f"/models/reports/{OTHERS[0][0]}")
        assert '<img src="/models' not in html
        assert "The written report" not in html

    @pytest.mark.parametrize(
        "address",
        [
            "reports/none",
            "reports/..",
            "reports/none/roc.svg",
            "reports/none/card.json",
            f"reports/{OTHERS[0][0]}/card.json",
            f"reports/{RESULT.id}/..%2fcard.json",
            f"reports/{RESULT.id}/%2e%2e/card.json",
            f"reports/{OTHERS[0][0]}/roc.svg",
            "mobilenet-v2/2",
            "mobilenet-v2/1/graph.bin",
            "mobilenet-v2/1/..%2fcard.json",
            "mobilenet-v2/1/roc.svg",
            "absent/1",
        ],
    )
    def test_what_there_is_not(self, client: FlaskClient, address: str) -> None:
        assert "Go to the start page" in read(client, f"/models/{address}", 404)


class TestFiles:
    ADDRESS = f"/models/reports/{RESULT.id}"

    def test_a_plot_is_sent_again_only_when_it_changed(
        self, client: FlaskClient, study: Path
    ) -> None:
        with client.get(f"{self.ADDRESS}/roc.svg") as first:
            assert first.mimetype == "image/svg+xml"
            assert first.cache_control.no_cache
        again = {"If-None-Match": first.headers["ETag"]}
        with client.get(f"{self.ADDRESS}/roc.svg", headers=again) as same:
            assert same.status_code == 304
        (study / RESULT.id / "report" / "roc.svg").write_text(DRAWING + "\n", encoding="utf-8")
        with client.get(f"{self.ADDRESS}/roc.svg", headers=again) as changed:
            assert changed.status_code == 200

    @pytest.mark.parametrize("file", ["", "/roc.svg", "/README.md"])
    def test_it_comes_with_the_strict_policy(self, client: FlaskClient, file: str) -> None:
        with client.get(self.ADDRESS + file) as answer:
            policies = answer.headers.getlist("Content-Security-Policy")
        assert policies == [HEADERS["Content-Security-Policy"]]

    def test_the_written_report_is_text(self, client: FlaskClient) -> None:
        with client.get(f"{self.ADDRESS}/README.md") as answer:
            assert answer.content_type == "text/plain; charset=utf-8"
            assert answer.get_data(as_text=True) == "# Übersicht"


def test_what_a_file_holds_is_never_markup(
    client: FlaskClient, study: Path, make_card: Callable[..., Card]
) -> None:
    bold = "<b>bold</b>"
    append_result(study, replace(RESULT, row=bold, device=bold, command=bold))
    card = make_card("resnet18", sources=({"title": bold, "url": "javascript:alert(1)"},))
    (study / RESULT.id / "card.json").write_text(card.to_json(), encoding="utf-8")
    for address in ("/models?text=<b>", f"/models/reports/{RESULT.id}"):
        html = read(client, address)
        assert "<b>" not in html
        assert "javascript:" not in html
