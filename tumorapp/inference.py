"""The story of a prediction: decode, prepare, predict, encode."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from blinker import Signal

from brainscan.bundle import Card
from brainscan.engine import Outputs
from brainscan.heatmap import render_heatmap
from brainscan.scan import (
    MAX_PIXELS,
    OversizedScanError,
    PreparedScan,
    ScanError,
    ScanSpecification,
    read_scan,
)
from tumorapp.api.schemas import answer_schema
from tumorapp.catalog import LoadedModel
from tumorapp.errors import IMAGE_TYPES, OversizedImageError, UnreadableScanError

# Sent with the model's card, the `labels` found, and the `seconds` that each stage took.
scans_predicted = Signal("Scans were predicted together.")

NO_HEATMAP = "This model has no convolutions, so it gives no heat map."
# Few answers of the committed models are below it, and nearly half of their mistakes: see
# docs/decisions.md.
UNCERTAIN_BELOW = 0.7
UNCERTAIN = (
    "Uncertain: this answer has a confidence of only {confidence:.0%}. Many answers below "
    "{limit:.0%} are wrong."
)


@dataclass(frozen=True)
class Upload:
    """One image file as it was received: the name its sender gave it, and its bytes."""

    filename: str
    data: bytes


@dataclass(frozen=True)
class Prediction:
    """What a model says of one scan.

    Attributes:
        filename: the name its sender gave it.
        label: the most probable class.
        tumor: whether that class is a tumour.
        confidence: its calibrated probability, 0 to 1.
        probabilities: of every class, in the model's order, summing to 1.
        warnings: what a reader of the prediction should know.
        heatmap: a PNG to lay over the scan, where one was asked for and the model has one.
    """

    filename: str
    label: str
    tumor: bool
    confidence: float
    probabilities: dict[str, float]
    warnings: tuple[str, ...]
    heatmap: bytes | None


@dataclass(frozen=True)
class Answer:
    """The predictions of one request, and the model that made them."""

    model: str
    version: str
    predictions: Sequence[Prediction]


@dataclass(frozen=True, eq=False)
class Examination:
    """What became of scans on the way to their predictions; each field has one for each scan."""

    scans: Sequence[PreparedScan]
    outputs: Outputs
    predictions: list[Prediction]


def predict_uploads(
    model: LoadedModel,
    uploads: Sequence[Upload],
    *,
    heatmap: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> dict[str, Any]:
    """Predict every scan of a request and give the API's answer.

    Raises:
        UnreadableScanError: a file is no scan; the message names it and the reason.
        OversizedImageError: a file has more than `max_pixels` pixels.
    """
    predictions = predict_scans(model, uploads, heatmap=heatmap, max_pixels=max_pixels)
    answer: dict[str, Any] = answer_schema(heatmap=heatmap).dump(
        Answer(model.card.name, str(model.card.version), predictions)
    )
    return answer


def predict_scans(
    model: LoadedModel, uploads: Sequence[Upload], *, heatmap: bool, max_pixels: int
) -> list[Prediction]:
    """Predict scans together, in their order; raises as `predict_uploads` does."""
    return examine_scans(model, uploads, heatmap=heatmap, max_pixels=max_pixels).predictions


def examine_scans(
    model: LoadedModel, uploads: Sequence[Upload], *, heatmap: bool, max_pixels: int
) -> Examination:
    """Predict scans as `predict_scans` does, and keep what led to the predictions."""
    start = perf_counter()
    scans = [prepare_upload(upload, model.card.scan, max_pixels) for upload in uploads]
    prepared = perf_counter()
    outputs = model.engine.predict(np.stack([scan.pixels for scan in scans]))
    inferred = perf_counter()
    names = [upload.filename for upload in uploads]
    predictions = encode_predictions(model.card, names, scans, outputs, heatmap=heatmap)
    seconds = {
        "prepare": prepared - start,
        "infer": inferred - prepared,
        "encode": perf_counter() - inferred,
    }
    labels = [prediction.label for prediction in predictions]
    scans_predicted.send(model.card, labels=labels, seconds=seconds)
    return Examination(scans, outputs, predictions)


def prepare_upload(
    upload: Upload, specification: ScanSpecification, max_pixels: int = MAX_PIXELS
) -> PreparedScan:
    """Decode and prepare one file; raises as `predict_uploads` does."""
    try:
        return read_scan(upload.data, specification, max_pixels=max_pixels)
    except OversizedScanError as error:
        raise OversizedImageError(
            f"{upload.filename}: {error}", [f"at most {max_pixels} pixels"]
        ) from error
    except ScanError as error:
        raise UnreadableScanError(f"{upload.filename}: {error}", IMAGE_TYPES) from error


def encode_predictions(
    card: Card,
    names: Sequence[str],
    scans: Sequence[PreparedScan],
    outputs: Outputs,
    *,
    heatmap: bool,
) -> list[Prediction]:
    """Put names to a model's numbers, one prediction for each scan."""
    predictions = []
    for index, (name, scan) in enumerate(zip(names, scans, strict=True)):
        probabilities = [round(float(value), 6) for value in outputs.probabilities[index]]
        best = int(np.argmax(outputs.probabilities[index]))
        warnings, picture = scan.warnings, None
        if heatmap and outputs.heatmaps is None:
            warnings = (*warnings, NO_HEATMAP)
        elif heatmap and outputs.heatmaps is not None:
            picture = render_heatmap(outputs.heatmaps[index], scan.box, scan.whole)
        if probabilities[best] < UNCERTAIN_BELOW:
            told = UNCERTAIN.format(confidence=probabilities[best], limit=UNCERTAIN_BELOW)
            warnings = (*warnings, told)
        predictions.append(
            Prediction(
                filename=name,
                label=card.classes[best],
                tumor=card.is_tumor(card.classes[best]),
                confidence=probabilities[best],
                probabilities=dict(zip(card.classes, probabilities, strict=True)),
                warnings=warnings,
                heatmap=picture,
            )
        )
    return predictions
