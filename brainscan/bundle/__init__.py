"""What a published model is on disk, and how it is written and read: numpy and JSON only."""

from brainscan.bundle.card import CARD_FORMAT, HEALTHY_CLASSES, Card, Origin, Source, Training
from brainscan.bundle.decision import Decision, LesionMap, Refusal
from brainscan.bundle.measurement import (
    ClassFigures,
    CurveAreas,
    Faithfulness,
    GraphFigures,
    Graphs,
    Int8Figures,
    Intervals,
    Leaks,
    Measurement,
    Mistake,
    Parts,
    Pointing,
    UnnamedFigures,
)
from brainscan.bundle.store import (
    BundleError,
    PublishError,
    installed_versions,
    publish_bundle,
    read_bundle,
)
from brainscan.bundle.versions import (
    Installed,
    pin_version,
    pinned_version,
    remove_version,
    survey_bundles,
)

__all__ = [
    "CARD_FORMAT",
    "HEALTHY_CLASSES",
    "BundleError",
    "Card",
    "ClassFigures",
    "CurveAreas",
    "Decision",
    "Faithfulness",
    "GraphFigures",
    "Graphs",
    "Installed",
    "Int8Figures",
    "Intervals",
    "Leaks",
    "LesionMap",
    "Measurement",
    "Mistake",
    "Origin",
    "Parts",
    "Pointing",
    "PublishError",
    "Refusal",
    "Source",
    "Training",
    "UnnamedFigures",
    "installed_versions",
    "pin_version",
    "pinned_version",
    "publish_bundle",
    "read_bundle",
    "remove_version",
    "survey_bundles",
]
