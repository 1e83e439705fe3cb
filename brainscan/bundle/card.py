"""The card of a model: everything one must know to serve it, judge it and trust it."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from brainscan.bundle.decision import Decision, Refusal
from brainscan.bundle.graphs import Graphs
from brainscan.bundle.measurement import Measurement
from brainscan.bundle.plain import Amount, Count, Setting, Slug, read_json, write_json
from brainscan.scan import ScanSpecification

CARD_FORMAT = 1
HEALTHY_CLASSES = frozenset({"healthy", "notumor"})


@dataclass(frozen=True)
class Source:
    """A data set: its title, link, licence, and how to cite it."""

    title: str
    url: str = ""
    licence: str = ""
    citation: str = ""


@dataclass(frozen=True)
class Training:
    """How a model was trained.

    Attributes:
        command: the command line that repeats it.
        method: "fine-tune" or "frozen".
        head: "softmax", "svm" or "knn".
        recipe: the settings, by the names of `training.models.Recipe`.
        seed: of the division and the order of the scans.
        epochs: how many were trained.
        best_epoch: the one that was selected; 0 where there were none.
        temperature: that the probabilities are calibrated at.
        precision: of the computations, such as "float32".
        device: in words.
        versions: of Python and the packages that matter.
        manifest: SHA-256 over the contents of all files, in order.
        classes: how many scans each has, before the division.
        notes: what else a reader should know.
        contradictions: scans that were dropped, as a near-duplicate carries another label.
        uncropped: scans that were kept whole, as no clear outline of a head was found.
        skipped: scans that could not be read, and why.
        refit: whether the served model was trained again in the same way, on all scans, after
            another one, which had not seen the test part, was measured.
        weights: what it started from, as it was asked for: "imagenet" or a file; empty where its
            weights were random.
        tensors: how many were loaded from there.
        validation_loss: cross-entropy of the selected epoch on the validation part, before
            calibration, natural logarithm; None where there was no epoch.
    """

    command: str
    method: str
    head: str
    recipe: dict[str, Setting]
    seed: Count
    epochs: Count
    best_epoch: Count
    temperature: Amount
    precision: str
    device: str
    versions: dict[str, str]
    manifest: str
    classes: dict[str, Count]
    notes: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()
    uncropped: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    refit: bool = False
    weights: str = ""
    tensors: Count = 0
    validation_loss: Amount | None = None

    @property
    def planned_epochs(self) -> int:
        """The most epochs; early stopping may have ended sooner."""
        planned = self.recipe.get("epochs")
        return planned if isinstance(planned, int) else self.epochs


@dataclass(frozen=True)
class Origin:
    """Where a model that was made elsewhere is from.

    Attributes:
        file: its name.
        sha256: of that file.
        scale: the range of pixels it was trained on.
        logits: whether a softmax or sigmoid was added.
        moved_by_rounding: how far rounding its weights moved its probabilities, at most.
    """

    file: str
    sha256: str
    scale: str
    logits: bool
    moved_by_rounding: Amount


@dataclass(frozen=True)
class Card:
    """What travels with a model.

    Attributes:
        name: the model's name, such as `lesion-lite0`.
        version: 1, 2, …; the newest verified one is served.
        classes: the classes in the order of the graph's outputs, two or more.
        scan: how a scan is prepared for this model.
        architecture: a line on the network's layers.
        parameters: how many weights it has.
        feature_layer: the layer whose activations the heat map weighs; None without convolutions.
        created: the day it was made, ISO 8601.
        training: None for a model that was made elsewhere.
        measurement: on the test part; None for a model that was made elsewhere.
        intended_use: who may use it for what.
        limits: what it must not be used for and where it fails.
        sources: the data sets.
        origin: of a model that was made elsewhere, else None.
        graph_difference: how far the probabilities of the fp16 graph are from the Keras model's at
            most, 0 to 1; None before publishing.
        decision: how its outputs become a verdict; None where that was not chosen.
        refusal: when it does not recognise a picture; None where it cannot tell.
        graphs: of a bundle that has an int8 graph too, what was measured of both; else None.
        format: version of this card's own layout.

    Raises:
        ValueError: another format, fewer than two classes, or a measurement of other classes.
    """

    name: Slug
    version: Annotated[int, Meta(ge=1, le=10**9)]
    classes: tuple[str, ...]
    scan: ScanSpecification
    architecture: str
    parameters: Count
    feature_layer: str | None
    created: str
    training: Training | None
    measurement: Measurement | None
    intended_use: str
    limits: str
    sources: tuple[Source, ...]
    origin: Origin | None = None
    graph_difference: Amount | None = None
    decision: Decision | None = None
    refusal: Refusal | None = None
    graphs: Graphs | None = None
    format: Count = CARD_FORMAT

    def __post_init__(self) -> None:
        if self.format != CARD_FORMAT:
            raise ValueError(f"format {self.format}; this version of TumorApp reads {CARD_FORMAT}")
        if len(self.classes) < 2:
            raise ValueError(f"classes: {len(self.classes)} where two or more are accepted")
        if (measured := self.measurement) is None:
            return
        if set(measured.by_class) != set(self.classes):
            raise ValueError("measurement.by_class: other classes than the model's")
        if {len(measured.confusion), *map(len, measured.confusion)} != {len(self.classes)}:
            raise ValueError(
                "measurement.confusion: a row and a column for each class are accepted"
            )

    @property
    def has_lesion_map(self) -> bool:
        """Whether its graph maps where a tumour is."""
        return self.decision is not None and self.decision.lesion is not None

    @property
    def has_reliable_map(self) -> bool:
        """Whether it gives a lesion map, or a heat map that was measured to beat the centre."""
        pointing = self.measurement.pointing if self.measurement else None
        return self.has_lesion_map or (
            self.feature_layer is not None and pointing is not None and pointing.beats_centre
        )

    def is_tumor(self, label: str) -> bool:
        """Tell whether a class of this model is a tumour."""
        return label not in HEALTHY_CLASSES

    def to_json(self) -> str:
        """Write the card as indented JSON."""
        return write_json(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Card":
        """Read a card; raises ValueError with the field that is wrong and why."""
        try:
            return read_json(cls, text)
        except ValueError as error:
            raise ValueError(f"card.json: {error}") from None
