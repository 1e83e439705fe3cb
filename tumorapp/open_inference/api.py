"""The Open Inference Protocol (KServe V2) over HTTP, with tensors in JSON.

https://github.com/kserve/open-inference-protocol describes it. Clients made for it work here as
with any other server; for images, the operations under /api say more.
"""

from typing import Any, cast

from flask import Blueprint, current_app, json, request
from marshmallow import ValidationError
from werkzeug.exceptions import RequestEntityTooLarge

from brainscan import Examination, Model, Problem
from tumorapp.api.openapi import FILE_PROBLEMS, VERSION, Answer, Operation
from tumorapp.api.predict import show_answer
from tumorapp.api.schemas import describe_message
from tumorapp.catalog import get_catalog
from tumorapp.feature import Feature
from tumorapp.open_inference import schemas, tensors
from tumorapp.open_inference.tensors import refuse
from tumorapp.problems import PROTOCOL_PREFIX
from tumorapp.uploads import read_body

# A request has few values besides those of its tensor: names, shapes, parameters.
_OTHER_VALUES = 1000
_BINARY_HEADER = "Inference-Header-Content-Length"  # of an extension that is not supported here
_PLATFORMS = {"openvino": "openvino_ir", "tensorflow": "tensorflow_keras"}

_REQUEST = schemas.InferenceRequestSchema()
_SERVER = {"name": "tumorapp", "version": VERSION, "extensions": []}

_TAG = "Open Inference Protocol"
_MODEL_PROBLEMS = ("unknown-model", "unknown-version", "no-model")
_INFER_PROBLEMS = (
    "invalid-inference-request",
    "request-too-large",
    "too-many-images",
    *FILE_PROBLEMS,
    "audit-unavailable",
)

blueprint = Blueprint("open_inference", __name__, url_prefix=PROTOCOL_PREFIX)
health = Blueprint("open_inference_health", __name__, url_prefix=f"{PROTOCOL_PREFIX}/health")
FEATURE = Feature("open_inference", blueprint)
HEALTH = Feature("open_inference_health", health, open=True, limited=False)


@blueprint.get("", strict_slashes=False)
@Operation(_TAG, {200: Answer("The server.", schemas.ServerSchema, _SERVER)})
def describe_server() -> dict[str, Any]:
    """Get the server's name and version."""
    return _SERVER


@health.get("/live")
@Operation(_TAG, {200: Answer("It is running.", schemas.LiveSchema, {"live": True})})
def check_health() -> dict[str, Any]:
    """Ask whether the server is running."""
    return {"live": True}


@health.get("/ready")
@Operation(
    _TAG,
    {
        200: Answer("It can predict.", schemas.ReadySchema, {"ready": True}),
        400: Answer("The default model is not served.", schemas.ReadySchema, {"ready": False}),
    },
)
def check_readiness() -> tuple[dict[str, Any], int]:
    """Ask whether the server can predict.

    It can if the default model is served.
    """
    try:
        get_catalog().get()
    except Problem:
        return {"ready": False}, 400  # the protocol asks for a 4xx
    return {"ready": True}, 200


def _show_model() -> dict[str, Any] | None:
    """Describe the default model, as an example."""
    name = get_catalog().default_name
    return describe_model(name) if name else None


@blueprint.get("/models/<name>")
@blueprint.get("/models/<name>/versions/<version>", endpoint="describe_version")
@Operation(
    _TAG, {200: Answer("The model.", schemas.ModelMetadataSchema, _show_model)}, _MODEL_PROBLEMS
)
def describe_model(name: str, version: str | None = None) -> dict[str, Any]:
    """Get a model's tensors.

    A request has one of the inputs; the answer has the outputs that it asks for.
    """
    card = _find(name, version).card
    return {
        "name": card.name,
        "versions": [str(card.version)],
        "platform": _PLATFORMS[current_app.config["ENGINE"]],
        "inputs": tensors.describe_inputs(card),
        "outputs": tensors.describe_outputs(card),
        "parameters": {"classes": ",".join(card.classes)},
    }


@blueprint.get("/models/<name>/ready")
@blueprint.get("/models/<name>/versions/<version>/ready", endpoint="check_version")
@Operation(
    _TAG,
    {
        200: Answer(
            "The model can predict.",
            schemas.ModelReadySchema,
            {"name": "lesion-lite0", "ready": True},
        )
    },
    _MODEL_PROBLEMS,
)
def check_model(name: str, version: str | None = None) -> dict[str, Any]:
    """Ask whether a model can predict.

    The answer is 200 if the model, in that version, is served, and 404 if it is not.
    """
    return {"name": _find(name, version).card.name, "ready": True}


def _show_inference() -> dict[str, Any] | None:
    """Give an answer as the default model writes it, with made-up probabilities."""
    answer = show_answer()
    if answer is None:
        return None
    [found] = answer["predictions"]
    probabilities = [*found["probabilities"].values()]
    outputs = [
        ("probabilities", "FP32", [1, len(probabilities)], probabilities),
        ("verdict", "BYTES", [1], [found["verdict"]]),
    ]
    return {
        "model_name": answer["model"],
        "model_version": answer["version"],
        "id": "42",
        "outputs": [
            {"name": name, "shape": shape, "datatype": datatype, "data": data}
            for name, datatype, shape, data in outputs
        ],
    }


@blueprint.post("/models/<name>/infer")
@blueprint.post("/models/<name>/versions/<version>/infer", endpoint="infer_version")
@Operation(
    _TAG,
    {200: Answer("The prediction.", schemas.InferenceSchema, _show_inference)},
    (*_MODEL_PROBLEMS, *_INFER_PROBLEMS),
    body=lambda: {
        "application/json": {
            "schema": schemas.InferenceRequestSchema,
            "example": schemas.REQUEST,
        }
    },
)
def infer(name: str, version: str | None = None) -> dict[str, Any]:
    """Predict with a model.

    The input is one tensor: `scans`, prepared arrays, or `image`, image files in base64.
    """
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
    warnings = [describe_message(one) for one in examination.warnings]
    return {"name": examination.name, "warnings": warnings}


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
        return cast(dict[str, Any], _REQUEST.load(sent))
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


def _find(name: str, version: str | None = None) -> Model:
    model = get_catalog().get(name)
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
