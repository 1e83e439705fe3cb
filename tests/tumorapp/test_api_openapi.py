"""The OpenAPI document, and schemathesis: does the application do what the document says?"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, given, settings
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from brainscan.bundle import installed_versions, read_bundle
from brainscan.bundle.plain import to_plain
from brainscan.messages import KINDS
from tumorapp import create_app
from tumorapp.api.openapi import VERSION

PROJECT = Path(__file__).parents[2]
METHODS = {"get", "post", "put", "patch", "delete"}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def document(app: Flask) -> dict[str, Any]:
    response = app.test_client().get("/api/openapi.json")
    assert response.status_code == 200
    assert response.mimetype == "application/json"
    return response.get_json()


@pytest.fixture(scope="module")
def api(app: Flask) -> Any:
    """The document as schemathesis reads it; the models named are mostly those there are."""
    loaded = schemathesis.openapi.from_wsgi("/api/openapi.json", app)

    @loaded.hook
    def map_path_parameters(context: Any, path_parameters: Any) -> Any:
        if path_parameters and len(path_parameters.get("name", "")) % 2 == 0:
            path_parameters["name"] = "mobilenet-v2"
            if "version" in path_parameters:
                path_parameters["version"] = "1"
        return path_parameters

    return loaded


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_operation_answers_as_documented(api: Any, mode: GenerationMode) -> None:
    asked = set()
    for found in api.get_all_operations():
        operation = found.ok()
        if mode.is_negative and not (operation.body or operation.query):
            continue  # nothing that could be wrong: any text is a model's name

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=20 if operation.body else 5,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def ask(case: Any) -> None:
            case.call_and_validate(checks=CHECKS)

        ask()
        asked.add(operation.label)
    assert len(asked) >= (10 if mode.is_positive else 3)


def test_it_is_valid(document: dict[str, Any]) -> None:
    validate(document, cls=OpenAPIV31SpecValidator)
    schemas = document["components"]["schemas"]
    assert schemas["Prediction"]["properties"]["heatmap"]["type"] == ["string", "null"]


def test_every_code_is_listed(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    listed = [schemas[name]["properties"]["code"]["enum"] for name in ("Problem", "Warning")]
    assert {code for codes in listed for code in codes} == KINDS.keys()


def test_every_address_of_the_api_is_documented(app: Flask, document: dict[str, Any]) -> None:
    rules = {
        re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith(("/api/", "/v2"))
        and rule.endpoint not in ("api_page.show_page", "api_page.static")
    }
    assert rules == document["paths"].keys()


def test_every_operation_says_what_it_does(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    names = []
    for path, item in document["paths"].items():
        for method in METHODS & item.keys():
            operation = item[method]
            names.append(operation["operationId"])
            assert operation["summary"], path
            assert operation["description"], path
            assert "500" in operation["responses"], path
            assert any(status < "300" for status in operation["responses"]), path
            kind = "application/json" if path.startswith("/v2") else "application/problem+json"
            for status, response in operation["responses"].items():
                assert response["description"], (path, status)
                if status >= "401":
                    [(content_type, media)] = response["content"].items()
                    assert content_type == kind, (path, status)
                    assert media["examples"], (path, status)
    assert len(names) == len(set(names))


def test_the_bodies_of_a_prediction(document: dict[str, Any]) -> None:
    operation = document["paths"]["/api/predict"]["post"]
    content = operation["requestBody"]["content"]
    assert {"multipart/form-data", "image/jpeg", "application/octet-stream"} <= content.keys()
    options = {parameter["name"] for parameter in operation["parameters"]}
    assert options == {"model", "heatmap", "strict"}
    assert {"200", "400", "404", "413", "415", "422", "503"} <= operation["responses"].keys()
    problem = operation["responses"]["404"]["content"]["application/problem+json"]
    assert problem["examples"]["unknown-model"]["value"]["code"] == "unknown-model"


def test_examples_follow_their_schemas(api: Any, document: dict[str, Any]) -> None:
    jsonschema_rs = pytest.importorskip("jsonschema_rs")
    for path, item in document["paths"].items():
        for method in METHODS & item.keys():
            for status, response in item[method]["responses"].items():
                for media in response.get("content", {}).values():
                    whole = {**media["schema"], "components": document["components"]}
                    check = jsonschema_rs.validator_for(whole)
                    found = [example["value"] for example in media.get("examples", {}).values()]
                    for example in [*found, *([media["example"]] if "example" in media else [])]:
                        assert check.is_valid(example), (path, status, example)


def test_the_examples_are_those_of_the_models_that_are_served() -> None:
    """So that they cannot drift from the cards."""
    client = create_app({"MODELS_DIR": PROJECT / "instance/models"}).test_client()
    document = client.get("/api/openapi.json").get_json()

    def example(path: str, method: str) -> Any:
        answers = document["paths"][path][method]["responses"]
        return answers["200"]["content"]["application/json"]["example"]

    models = example("/api/models", "get")
    assert models == client.get("/api/models").get_json()
    assert {model["name"] for model in models["models"]} == set(
        installed_versions(PROJECT / "instance/models")
    )
    for model in models["models"]:
        card = read_bundle(PROJECT / "instance/models" / model["name"] / model["version"])
        assert model["measurement"] == json.loads(json.dumps(to_plain(card.measurement)))
    answer = example("/api/predict", "post")
    served = next(model for model in models["models"] if model["default"])
    assert (answer["model"], answer["version"]) == (served["name"], served["version"])
    [prediction] = answer["predictions"]
    assert list(prediction["probabilities"]) == served["classes"]


def test_without_a_model_there_is_a_document_too(tmp_path: Path) -> None:
    document = create_app({"MODELS_DIR": tmp_path}).test_client().get("/api/openapi.json")
    assert document.status_code == 200


def test_its_version_is_the_projects() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    assert project["project"]["version"] == VERSION


def test_a_start_does_not_wait_for_what_few_ask_for() -> None:
    program = (
        "import sys, tumorapp.api.openapi, tumorapp.open_inference.api, tumorapp.pages.how, "
        "tumorapp.report.api; print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert not {"apispec", "openvino", "reportlab", "yaml"} & set(done.stdout.split())


def test_the_page_loads_everything_from_this_server(client: FlaskClient) -> None:
    response = client.get("/api/docs", headers={"Accept": "text/html"})
    assert response.status_code == 200
    page = response.get_data(as_text=True)
    links = re.findall(r'(?:src|href|data-document|data-sheet|data-script)="([^"]+)"', page)
    assert any("swagger-ui-bundle.js" in link for link in links)
    for link in links:
        if not link.startswith(("#", "?")):
            assert link.startswith("/"), link
            with client.get(link) as found:
                assert found.status_code == 200, link
    assert not re.search(r"<script(?![^>]* src=)", page)
    assert "style=" not in page


@pytest.mark.parametrize("name", ["LICENSE", "NOTICE", "swagger-ui-bundle.js.LICENSE.txt"])
def test_the_pages_licence_lies_beside_it(client: FlaskClient, name: str) -> None:
    with client.get(f"/api/docs/swagger-ui/{name}") as found:
        assert found.status_code == 200
