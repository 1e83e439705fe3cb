"""The card of a model: everything one must know to serve it, judge it and trust it."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, validate

from brainscan.scan import ScanSpecification

CARD_FORMAT = 1
HEALTHY_CLASSES = frozenset({"healthy", "notumor"})


@dataclass(frozen=True)
class Card:
    """What travels with a model.

    Attributes:
        name: the model's name, such as `mobilenet-v2`.
        version: 1, 2, …; the newest verified one is served.
        classes: the classes in the order of the graph's outputs.
        scan: how a scan is prepared for this model.
        architecture: a line on the network's layers.
        parameters: how many weights it has.
        feature_layer: the layer whose activations the heat map weighs; None without convolutions.
        created: the day it was published, ISO 8601.
        training: data, manifest hash, seed, epochs, recipe, device and versions.
        metrics: what was measured on the test part, with its protocol and intervals.
        intended_use: who may use it for what.
        limits: what it must not be used for and where it fails.
        sources: the data sets, their links and licences.
        graphs: of a bundle that has an int8 graph too, by precision ("fp16", "int8"): what
            `training.quantize` measured of both; else empty.
        files: SHA-256 of every other file of the bundle, by relative path.
        format: version of this card's own layout.
    """

    name: str
    version: int
    classes: tuple[str, ...]
    scan: ScanSpecification
    architecture: str
    parameters: int
    feature_layer: str | None
    created: str
    training: dict[str, Any]
    metrics: dict[str, Any]
    intended_use: str
    limits: str
    sources: tuple[dict[str, str], ...]
    graphs: dict[str, dict[str, float]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    format: int = CARD_FORMAT

    def is_tumor(self, label: str) -> bool:
        """Tell whether a class of this model stands for a tumour."""
        return label not in HEALTHY_CLASSES

    def to_json(self) -> str:
        """Write the card as indented JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Card":
        """Read a card; raises ValueError with the field that is wrong and why."""
        try:
            raw = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"card.json is not valid JSON: {error}") from None
        found = raw.get("format") if isinstance(raw, dict) else None
        if found != CARD_FORMAT:
            raise ValueError(
                f"card.json has format {found!r}; this version of TumorApp reads {CARD_FORMAT}."
            )
        try:
            return cast(Card, _CardSchema().load(raw))
        except ValidationError as error:
            raise ValueError(f"card.json: {error.messages_dict}") from None


class _ScanSchema(Schema):
    size = fields.Integer(required=True, strict=True)
    crop = fields.Boolean(required=True)

    @post_load
    def _build(self, data: dict[str, Any], **_: Any) -> ScanSpecification:
        try:
            return ScanSpecification(**data)
        except ValueError as error:
            raise ValidationError(str(error), "size") from None


class _CardSchema(Schema):
    class Meta:
        unknown = EXCLUDE  # a later release may add fields without a new format

    name = fields.String(required=True, validate=validate.Regexp(r"^[a-z0-9][a-z0-9.-]*$"))
    version = fields.Integer(required=True, strict=True, validate=validate.Range(min=1))
    classes = fields.List(fields.String(), required=True, validate=validate.Length(min=2))
    scan = fields.Nested(_ScanSchema, required=True)
    architecture = fields.String(required=True)
    parameters = fields.Integer(required=True)
    feature_layer = fields.String(required=True, allow_none=True)
    created = fields.String(required=True)
    training = fields.Dict(required=True)
    metrics = fields.Dict(required=True)
    intended_use = fields.String(required=True)
    limits = fields.String(required=True)
    sources = fields.List(fields.Dict(), required=True)
    graphs = fields.Dict(
        keys=fields.String(validate=validate.OneOf(["fp16", "int8"])),
        values=fields.Dict(keys=fields.String(), values=fields.Float()),
    )
    files = fields.Dict(
        keys=fields.String(validate=validate.ContainsNoneOf("\0")),
        values=fields.String(),
        required=True,
    )
    format = fields.Integer(required=True)

    @post_load
    def _build(self, data: dict[str, Any], **_: Any) -> Card:
        data["classes"] = tuple(data["classes"])
        data["sources"] = tuple(data["sources"])
        return Card(**data)
