"""The models that are served, as the REST API lists them."""

from typing import Any

from marshmallow import Schema, fields, validate

from brainscan import Model
from brainscan.bundle.plain import to_plain
from tumorapp.api.openapi import Answer, Operation
from tumorapp.api.predict import blueprint
from tumorapp.api.schemas import about
from tumorapp.catalog import get_catalog


class ScanSpecificationSchema(Schema):
    """How a scan is prepared for a model."""

    size = fields.Integer(**about("Width and height of the array, in pixels."))
    crop = fields.Boolean(**about("Whether the scan is cropped around the head first."))


class ModelSchema(Schema):
    """A model that is served; what its card says of it."""

    name = fields.String(required=True)
    version = fields.String(required=True)
    classes = fields.List(fields.String(), required=True)
    default = fields.Boolean(**about("Whether it answers requests that name no model."))
    heatmap = fields.Boolean(
        **about("Whether it gives heat maps that were shown to point at tumours.")
    )
    lesion = fields.Boolean(**about("Whether it marks where a tumour is."))
    decision = fields.Dict(
        allow_none=True,
        **about(
            "The thresholds, chosen on validation scans, that make a verdict of its probabilities; "
            "null if none were chosen, so that the most probable class is the answer."
        ),
    )
    refusal = fields.Dict(
        allow_none=True,
        **about(
            "The thresholds beyond which it does not recognise an image; null if it cannot tell, "
            "so that `in_distribution` is never true."
        ),
    )
    scan = fields.Nested(ScanSpecificationSchema, required=True)
    precision = fields.String(
        validate=validate.OneOf(["fp16", "int8", "keras"]),
        **about(
            "What is run: the published graph (fp16), the faster quantized graph (int8) or the "
            "Keras model."
        ),
    )
    graphs = fields.Dict(
        keys=fields.String(),
        values=fields.Dict(keys=fields.String(), values=fields.Float(allow_none=True)),
        allow_none=True,
        **about(
            "If the model also has an int8 graph: what was measured of both graphs on the test "
            "scans. `measurement` is that of the fp16 graph."
        ),
    )
    architecture = fields.String(required=True)
    parameters = fields.Integer(required=True)
    created = fields.String(**about("The day it was published, ISO 8601."))
    protocol = fields.String(
        allow_none=True, **about("How the data was divided into training and test scans.")
    )
    measurement = fields.Dict(
        allow_none=True, **about("What its card says was measured; null for an imported model.")
    )
    intended_use = fields.String(required=True)
    limits = fields.String(required=True)
    sources = fields.List(fields.Dict(), required=True)


class RefusalSchema(Schema):
    """A bundle that is installed but not served, and why."""

    name = fields.String(required=True)
    version = fields.String(required=True)
    reason = fields.String(required=True)


class ModelsSchema(Schema):
    """The models that are served, and the bundles that were refused."""

    default = fields.String(allow_none=True, **about("The model that answers if none is named."))
    models = fields.List(fields.Nested(ModelSchema), required=True)
    refused = fields.List(fields.Nested(RefusalSchema), required=True)


_MODELS = ModelsSchema()


def _list_models() -> dict[str, Any]:
    catalog = get_catalog()
    default = catalog.default_name
    models = [
        {**_describe(model), "default": name == default} for name, model in catalog.models.items()
    ]
    listed = {"default": default, "models": models, "refused": catalog.refused}
    written: dict[str, Any] = _MODELS.dump(listed)
    return written


@blueprint.get("/models")
@Operation("images", {200: Answer("The models.", ModelsSchema, _list_models)})
def list_models() -> dict[str, Any]:
    """List the models.

    These are the models that are served, with what their cards say of them, and the bundles that
    were refused.
    """
    return _list_models()


def _describe(model: Model) -> dict[str, Any]:
    card = model.card
    return {
        **to_plain(card),
        "heatmap": card.has_reliable_map,
        "lesion": card.has_lesion_map,
        "precision": model.engine.precision,
        "protocol": card.measurement.protocol if card.measurement else None,
    }
