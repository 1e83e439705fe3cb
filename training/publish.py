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
from brainscan.engine import Outputs
from brainscan.engine.openvino import OpenVINOEngine
from brainscan.familiarity import Familiarity
from brainscan.lesion import draw_region
from training.data.outlines import Outline
from training.data.task import Task
from training.decide import see_tumors
from training.explain import measure_faithfulness, measure_flips, shuffle_weights
from training.export import export_graph
from training.lesion.measure import measure_pointing

AGREEMENT = 1e-3
_CHECKED_SCANS = 64
_EXPLAINED_SCANS = 100  # each is predicted 130 times


def publish(
    model: keras.Model,
    card: Card,
    scans: NDArray[np.uint8],
    root: Path,
    write_report: Callable[[Path, Card], None],
    *,
    outlines: Sequence[Outline | None] = (),
    familiarity: Familiarity | None = None,
    measured: keras.Model | None = None,
    inspect: Callable[[Card, Path], None] | None = None,
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
        measured: whose figures are on the card, where that is another model: one that has not
            seen these scans.
        inspect: looks at the card and the folder of the converted model, before it is published;
            what it raises prevents that.

    Raises:
        PublishError: graph and model differ by more than 1e-3 on a probability, or on a value of
            the lesion map; or the disk failed. The installed versions stay as they were.
        ExportError: the model could not be converted.
    """
    with tempfile.TemporaryDirectory(prefix="tumorapp-") as name:
        converted = Path(name)
        final = _convert(model, card, scans, converted)
        if inspect is not None:
            inspect(final, converted)
        if measured is None or measured is model:
            final = _measure_maps(final, model, converted, scans, outlines)
        else:
            with tempfile.TemporaryDirectory(prefix="tumorapp-") as other:
                _convert(measured, card, scans, Path(other))
                final = _measure_maps(final, measured, Path(other), scans, outlines)

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


def _measure_maps(
    card: Card,
    model: keras.Model,
    folder: Path,
    scans: NDArray[np.uint8],
    outlines: Sequence[Outline | None],
) -> Card:
    """Add to a card what the maps of its graph are worth on scans whose tumours are outlined."""
    if card.measurement is None or not any(outlines):
        return card
    engine = OpenVINOEngine(folder)

    def predict(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return engine.predict(pixels).probabilities

    outputs = engine.predict(scans)
    maps = _list_maps(outputs)
    if maps is None:
        return card
    limits = seen = None
    if card.decision:
        limits = card.decision.lesion
        seen = see_tumors(outputs.probabilities, card.classes, card.decision)
    rows = [row for row, outline in enumerate(outlines) if outline]
    some = rows[:: max(1, len(rows) // _EXPLAINED_SCANS)]
    measurement = replace(
        card.measurement,
        pointing=measure_pointing(maps, scans, outlines, limits, seen),
        faithfulness=measure_faithfulness(
            predict, scans[some], maps[some], _ask_unlearned(model, scans[some])
        ),
    )
    if limits:
        size = scans.shape[1]
        regions = [
            draw_region(maps[row], limits, size) * (maps[row].max() >= limits.marked_from)
            for row in rows
        ]
        flips = measure_flips(predict, card, scans[rows], np.stack(regions))
        measurement = replace(measurement, flips=flips)
    return replace(card, measurement=measurement)


def _list_maps(outputs: Outputs) -> NDArray[np.float32] | None:
    return outputs.heatmaps if outputs.lesions is None else outputs.lesions


def _ask_unlearned(model: keras.Model, scans: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Give the maps of the same network with its weights shuffled."""
    other = keras.models.clone_model(model)
    other.set_weights(shuffle_weights(model.get_weights()))
    with tempfile.TemporaryDirectory(prefix="tumorapp-") as name:
        other.save(Path(name, "model.keras"))
        export_graph(Path(name, "model.keras"), Path(name))
        maps = _list_maps(OpenVINOEngine(Path(name)).predict(scans))
    return np.zeros((len(scans), 1, 1), np.float32) if maps is None else maps


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
