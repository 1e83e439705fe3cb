"""Other ways to serve a bundle, which `benchmarks.serving` compares with this project.

Each follows its own documentation, prepares scans as this project does, and answers
`POST /predict` with an `image` part: `python -m benchmarks.peers.NAME BUNDLE PORT`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brainscan.bundle import Card, read_bundle


def read_arguments() -> tuple[Path, Card, int]:
    """Give the folder of the bundle to serve, its card, and the port."""
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    return folder, read_bundle(folder), port


def load_network(folder: Path) -> Any:
    """Load a bundle's network for TensorFlow, without its lesion map if it has one."""
    import keras  # not for the peer that serves the graph

    model = keras.models.load_model(folder / "model.keras", compile=False)
    return keras.Model(model.inputs, model.outputs[-1])


def name_classes(card: Card, probabilities: Sequence[float]) -> dict[str, Any]:
    """Give the answer for one scan."""
    named = dict(zip(card.classes, map(float, probabilities), strict=True))
    return {"label": max(named, key=lambda name: named[name]), "probabilities": named}
