"""What tests put into cards: measurements, trainings, rows of a study."""

from dataclasses import replace
from typing import Any

from brainscan.bundle import (
    Card,
    ClassFigures,
    Decision,
    GraphFigures,
    Graphs,
    Int8Figures,
    Intervals,
    Leaks,
    LesionMap,
    Measurement,
    Mistake,
    Parts,
    Pointing,
    Refusal,
    SourceFigures,
    Training,
)
from brainscan.bundle.sentences import EXCLUDED, INTENDED_USE, LIMITS
from brainscan.bundle.study import Published, Result
from brainscan.scan import ScanSpecification

FOUR_CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
GRAPHS = Graphs(GraphFigures(0.93, 1.5), Int8Figures(0.9431, 0.9, 0.0075, 0.2214, 0.001))

# What a card says of a network with a lesion map, of which every answer is a tumour: its kinds are
# told apart, it recognises every picture, and its map marks what is bright.
LESION_NETWORK: dict[str, Any] = {
    "feature_layer": None,
    "decision": Decision(
        tumor_from=0.0, unclear=(0.0, 0.0), sure_from=0.0, lesion=LesionMap(0.85, 0.9)
    ),
    "refusal": Refusal(distance_above=1e6),
}

POINTING = Pointing(0.6, 0.4, None, centre=0.2, random=0.1, marked_healthy=None, scans=8)


def _decide(**changes: Any) -> dict[str, Any]:
    return {**LESION_NETWORK, "decision": replace(LESION_NETWORK["decision"], **changes)}


# What a card says of such a network that gives every scan the same verdict.
VERDICTS: dict[str, dict[str, Any]] = {
    "tumor": LESION_NETWORK,
    "tumor-kind-unclear": _decide(kind_from={"glioma": 0.0, "meningioma": 0.0, "pituitary": 1.0}),
    "unclear": _decide(unclear=(0.0, 1.0)),
    "no-tumor": _decide(tumor_from=1.0, unclear=(1.0, 1.0)),
    "not-recognised": {**LESION_NETWORK, "refusal": Refusal(distance_above=0.0)},
}


def draw_measurement(classes: tuple[str, ...] = FOUR_CLASSES, **changes: Any) -> Measurement:
    """Make up a measurement: half of its ten scans are right unless changes say otherwise."""
    count = len(classes)
    fields: dict[str, Any] = {
        "protocol": "grouped",
        "scans": 10,
        "groups": 8,
        "accuracy": 0.5,
        "balanced_accuracy": 0.49,
        "f1_macro": 0.48,
        "roc_auc": 0.6,
        "loss": 0.9,
        "calibration_error": 0.1,
        "intervals": Intervals((0.3, 0.7), (0.29, 0.69), (0.28, 0.68), (0.5, 0.7)),
        "bootstrap_rounds": 1000,
        "by_class": {name: ClassFigures(0.5, 0.5, 0.5, 10 // count) for name in classes},
        "confusion": tuple(
            tuple(2 if row == column else 1 for column in range(count)) for row in range(count)
        ),
        "mistakes": (),
        "parts": Parts(30, 5, 10),
        "leaks": Leaks(0, None, 0.5),
        "seconds_per_epoch": 1.5,
        "pointing": POINTING,
    }
    return Measurement(**{**fields, **changes})


def draw_training(**changes: Any) -> Training:
    """Make up a training of ten epochs at the most, of which seven ran."""
    fields: dict[str, Any] = {
        "command": "flask train --model mobilenet-v2",
        "method": "fine-tune",
        "head": "softmax",
        "recipe": {"epochs": 10, "batch": 32},
        "seed": 7,
        "epochs": 7,
        "best_epoch": 2,
        "temperature": 1.25,
        "precision": "float32",
        "device": "CPU, tensorflow",
        "versions": {"python": "3.12"},
        "manifest": "abc123",
        "classes": dict.fromkeys(FOUR_CLASSES, 100),
    }
    return Training(**{**fields, **changes})


def draw_up_card(name: str = "mobilenet-v2", **changes: Any) -> Card:
    """Draw up the card of a made-up model."""
    binary = name.startswith("binary")
    classes = changes.get("classes", ("healthy", "tumor") if binary else FOUR_CLASSES)
    fields: dict[str, Any] = {
        "name": name,
        "version": 1,
        "classes": classes,
        "scan": ScanSpecification(size=48 if binary else 64),
        "architecture": "2 convolutions, softmax",
        "parameters": 1000,
        "feature_layer": "convolution",
        "created": "2026-11-21",
        "training": draw_training(),
        "measurement": draw_measurement(classes),
        "intended_use": INTENDED_USE,
        "limits": LIMITS,
        "sources": (),
    }
    return Card(**{**fields, **changes})


# A measurement of which much can be said.
MEASURED = draw_measurement(
    protocol="random-80-20",
    accuracy=0.9,
    balanced_accuracy=0.89,
    f1_macro=0.88,
    loss=0.3,
    roc_auc=0.99,
    scans=200,
    intervals=Intervals((0.85, 0.94), (0.84, 0.93), (0.83, 0.92), (0.98, 0.995)),
    confusion=((41, 3, 3, 3), (2, 42, 3, 3), (1, 1, 47, 1), (1, 1, 1, 47)),
    mistakes=(Mistake("glioma", "meningioma", 3, 0.97),),
    parts=Parts(700, 100, 200),
    leaks=Leaks(50, 0.99, 0.87),
    by_source={"nickparvar": SourceFigures(150, 0.92), "sartaj": SourceFigures(50, 0.84)},
    by_plane={"axial": SourceFigures(160, 0.9), "coronal": SourceFigures(40, 0.91)},
)
RESULT = Result(
    id="002-resnet18-reduced-random-80-20",
    document="002",
    row="ResNet18",
    budget="reduced",
    data=("nickparvar", "sartaj"),
    published=Published(accuracy=0.9786, f1=0.97),
    argmax_accuracy=0.9512,
    card=draw_up_card(
        "resnet18",
        parameters=11_178_564,
        measurement=MEASURED,
        training=draw_training(
            method="frozen",
            head="svm",
            command="flask study 002 --only resnet18",
            notes=(EXCLUDED.format(2, "'sartaj/*'"),),
        ),
    ),
)
