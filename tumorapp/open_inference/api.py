"""The Open Inference Protocol (KServe V2) over HTTP, with tensors in JSON.

https://github.com/kserve/open-inference-protocol describes it. Clients made for it work here as
with any other server; for images, the operations under /api say more.
"""

from typing import Any, cast

from flask import Blueprint, current_app, json, request
from marshmallow import ValidationError
from werkzeug.exceptions import RequestEntityTooLarge

from brainscan import Examination, Model, Problem
from brainscan.bundle import Card
from brainscan.messages import Kind
from tumorapp.api.openapi import (
    FILE_PROBLEMS,
    VERSION,
    Answer,
    ErrorShape,
    Operation,
    document,
    show_text,
)
from tumorapp.catalog import Catalog
from tumorapp.feature import Feature
from tumorapp.language.translation import tell
from tumorapp.open_inference import schemas, tensors
from tumorapp.open_inference.tensors import refuse
from tumorapp.problems import PROTOCOL_PREFIX
from tumorapp.uploads import read_body

# A request has few values beside those of its tensor: names, shapes, parameters.
_OTHER_VALUES = 1000
_BINARY_HEADER = "Inference-Header-Content-Length"  # of an extension that is not known here
_PLATFORMS = {"openvino": "openvino_ir", "tensorflow": "tensorflow_keras"}

_MODEL_PROBLEMS = ("unknown-model", "unknown-version", "no-model")
_INFER_PROBLEMS = (
    "invalid-inference-request",
    "request-too-large",
    "too-many-images",
    *FILE_PROBLEMS,
)


def _write_error(kind: Kind) -> dict[str, Any]:
    return {"error": show_text(kind), "code": kind.code}


_ERRORS = ErrorShape("application/json", schemas.ErrorSchema, _write_error)

blueprint = Blueprint("open_inference", __name__, url_prefix=PROTOCOL_PREFIX)
health = Blueprint("open_inference_health", __name__, url_prefix=f"{PROTOCOL_PREFIX}/health")


def _operation(summary: str, answer: Answer, *problems: str, **more: Any) -> Operation:
    return Operation(
        summary,
        "Open Inference Protocol",
        {200: answer, **more.pop("answers", {})},
        problems,
        _ERRORS,
        parameters=[schemas.NAME, schemas.VERSION],  # those that are in its path
        **more,
    )


@blueprint.get("", strict_slashes=False)
@document(_operation("Name the server", schemas.SERVER))
def describe_server() -> dict[str, Any]:
    """Say which server this is, and which extensions of the protocol it knows: none."""
    return {"name": "tumorapp", "version": VERSION, "extensions": []}


@health.get("/live")
@document(_operation("Ask whether the server lives", schemas.LIVE))
def check_health() -> dict[str, Any]:
    """Answer as long as the process answers at all."""
    return {"live": True}


@health.get("/ready")
@document(
    _operation(
        "Ask whether the server can predict", schemas.READY, answers={400: schemas.NOT_READY}
    )
)
def check_readiness() -> tuple[dict[str, Any], int]:
    """Tell whether the default model is served; the protocol wants a 4xx where it is not."""
    try:
        current_app.extensions["catalog"].get()
    except Problem:
        return {"ready": False}, 400
    return {"ready": True}, 200


@blueprint.get("/models/<name>")
@blueprint.get("/models/<name>/versions/<version>", endpoint="describe_version")
@document(_operation("Describe a model", schemas.MODEL, *_MODEL_PROBLEMS))
def describe_model(name: str, version: str | None = None) -> dict[str, Any]:
    """Describe a model's tensors: it takes one of the inputs, and gives the outputs asked for."""
    return _describe(_find(name, version).card)


@blueprint.get("/models/<name>/ready")
@blueprint.get("/models/<name>/versions/<version>/ready", endpoint="check_version")
@document(_operation("Ask whether a model can predict", schemas.MODEL_READY, *_MODEL_PROBLEMS))
def check_model(name: str, version: str | None = None) -> dict[str, Any]:
    """Answer 200 where the model, in that version, is served, else 404."""
    return {"name": _find(name, version).card.name, "ready": True}


@blueprint.post("/models/<name>/infer")
@blueprint.post("/models/<name>/versions/<version>/infer", endpoint="infer_version")
@document(
    _operation(
        "Predict",
        schemas.INFERENCE,
        *_MODEL_PROBLEMS,
        *_INFER_PROBLEMS,
        body=lambda: schemas.INFERENCE_BODY,
    )
)
def infer(name: str, version: str | None = None) -> dict[str, Any]:
    """Run a model on one tensor: `scans`, prepared arrays, or `image`, image files in base64."""
    model = _find(name, version)
    config, card = current_app.config, model.card
    sent = _read_request(config["MAX_IMAGES"] * card.scan.size**2 + _OTHER_VALUES)
    names = tensors.choose_outputs(card, [output["name"] for output in sent.get("outputs") or ()])
    readings = tensors.read_batch(
        sent["inputs"][0], model, config["MAX_IMAGES"], config["MAX_PIXELS"]
    )
    found = model.conclude(readings)
    answer: dict[str, Any] = {"model_name": card.name, "model_version": str(card.version)}
    if sent.get("id"):
        answer["id"] = sent["id"]
    # The protocol's parameters are texts and numbers, so this is JSON within JSON.
    if warnings := [_describe_warnings(one) for one in found if one.warnings]:
        answer["parameters"] = {"warnings": json.dumps(warnings)}
    answer["outputs"] = tensors.write_outputs(found, names)
    return answer


def _describe_warnings(examination: Examination) -> dict[str, Any]:
    """Give the warnings of a scan, as the API writes them."""
    return {
        "name": examination.name,
        "warnings": [{"code": one.code, "detail": tell(one)} for one in examination.warnings],
    }


def _read_request(most_values: int) -> dict[str, Any]:
    """Read the body of a request for inference.

    Its values are counted before they are parsed: each takes more memory than its text.

    Raises:
        Problem: it is not JSON, or not as the protocol has it.
        RequestEntityTooLarge: it is larger, or holds more values, than is accepted.
    """
    if _BINARY_HEADER in request.headers:
        raise refuse(
            "The tensors come as binary data. Accepted: JSON. With tritonclient, give "
            "set_data_from_numpy(…, binary_data=False)."
        )
    body = read_body(request)
    if body.count(b",") > most_values or body.count(b"[") + body.count(b"{") > 2 * most_values:
        raise RequestEntityTooLarge
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError):
        raise refuse(
            f"The body is not JSON: {len(body):,} bytes of {request.mimetype or 'no type'} were "
            "received. Send an inference request of the Open Inference Protocol, with its tensors "
            "in JSON and uncompressed."
        ) from None
    try:
        return cast(dict[str, Any], schemas.REQUEST.load(sent))
    except ValidationError as error:
        raise refuse(f"The request is not valid: {_name_fault(error)}") from None


def _name_fault(error: ValidationError) -> str:
    """Say where the first fault is and what it is: "inputs.0.shape: Not a valid list."."""
    place: list[str] = []
    fault: Any = error.messages_dict
    while isinstance(fault, dict):
        name, fault = next(iter(fault.items()))
        place.append(str(name))
    return f"{'.'.join(place)}: {' '.join(fault)}"


def _describe(card: Card) -> dict[str, Any]:
    return {
        "name": card.name,
        "versions": [str(card.version)],
        "platform": _PLATFORMS[current_app.config["ENGINE"]],
        "inputs": tensors.describe_inputs(card),
        "outputs": tensors.describe_outputs(card),
        "parameters": {"classes": ",".join(card.classes)},
    }


def _find(name: str, version: str | None = None) -> Model:
    catalog: Catalog = current_app.extensions["catalog"]
    model = catalog.get(name)
    served = str(model.card.version)
    if version is not None and version != served:
        raise Problem(
            "unknown-version",
            accepted=[served],
            model=name,
            version=repr(version[:100]),
            served=served,
        )
    return model


FEATURE = Feature("open_inference", blueprint)
HEALTH = Feature("open_inference_health", health, open=True, limited=False)
