"""A trained model → a verified bundle, next to the older versions."""

import shutil
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from brainscan.bundle import Card, PublishError, publish_bundle
from brainscan.engine.openvino import OpenVINOEngine
from brainscan.familiarity import Familiarity
from training.data.outlines import Outline
from training.export import export_graph
from training.lesion.measure import measure_pointing
from training.task import Task

AGREEMENT = 1e-3
_CHECKED_SCANS = 64


def publish(
    model: keras.Model,
    card: Card,
    scans: NDArray[np.uint8],
    root: Path,
    write_report: Callable[[Path, Card], None],
    *,
    outlines: Sequence[Outline | None] = (),
    familiarity: Familiarity | None = None,
) -> Path:
    """Convert a model, check the graph on real scans, and publish both with card and report.

    Args:
        model: to be served, its weights rounded and calibrated.
        card: everything but its version, its files, its feature layer and the graph's difference.
        scans: uint8, shape (scans, size, size, 1): real ones to compare the two on.
        root: folder of all bundles.
        write_report: writes the report into the folder it is given.
        outlines: of the tumours on these scans; how well the graph's maps point at them is added to
            the card.
        familiarity: what the scans that it knows look like, of a card with a refusal.

    Raises:
        PublishError: graph and model differ by more than 1e-3 on a probability, or on a value of
            the lesion map; or the disk failed. The installed versions stay as they were.
        ExportError: the model could not be converted.
    """
    with tempfile.TemporaryDirectory(prefix="tumorapp-") as name:
        converted = Path(name)
        final = _convert(model, card, scans, converted)
        final = _add_pointing(final, converted, scans, outlines)

        def write_files(folder: Path, numbered: Card) -> None:
            shutil.copytree(converted, folder, dirs_exist_ok=True)
            if familiarity is not None:
                familiarity.write(folder)
            write_report(folder / "report", numbered)

        return publish_bundle(root, final, write_files)


def _convert(model: keras.Model, card: Card, scans: NDArray[np.uint8], folder: Path) -> Card:
    """Write model and graph into a folder; give the card with what converting has shown."""
    try:
        _save_compressed(model, folder / "model.keras")
    except OSError as error:
        raise PublishError(
            f"{card.name} could not be written into {folder}: {error}. Nothing was published; "
            "make room, or let TMPDIR name another folder, then run the same command again."
        ) from error
    layer = export_graph(folder / "model.keras", folder)
    task = Task(card.classes, binary=model.layers[-1].output.shape[-1] == 1)
    checked = scans[:: max(1, len(scans) // _CHECKED_SCANS)]
    outputs = model.predict(checked, verbose=0)
    served = OpenVINOEngine(folder).predict(checked)
    difference = float(np.abs(served.probabilities - task.read_outputs(outputs)).max())
    if served.lesions is not None:
        difference = max(difference, float(np.abs(served.lesions - outputs["lesion"]).max()))
    if not difference <= AGREEMENT:  # nor NaN
        raise PublishError(
            f"The graph of {card.name} differs from the Keras model by {difference:.2g} on "
            f"{len(checked)} scans; at most {AGREEMENT:g} is accepted. Nothing was published."
        )
    return replace(card, feature_layer=layer, graph_difference=difference)


def _add_pointing(
    card: Card, folder: Path, scans: NDArray[np.uint8], outlines: Sequence[Outline | None]
) -> Card:
    """Add to a card how well the maps of its graph point at outlined tumours."""
    if card.measurement is None or not any(outlines):
        return card
    outputs = OpenVINOEngine(folder).predict(scans)
    maps = outputs.heatmaps if outputs.lesions is None else outputs.lesions
    if maps is None:
        return card
    limits = card.decision.lesion if card.decision else None
    found = measure_pointing(maps, scans, outlines, limits)
    return replace(card, measurement=replace(card.measurement, pointing=found))


def _save_compressed(model: keras.Model, path: Path) -> None:
    """Save a model with its archive deflated: rounded weights take half the space."""
    plain = path.with_suffix(".plain.keras")
    model.save(plain)
    with (
        zipfile.ZipFile(plain) as source,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    plain.unlink()
