"""A Keras model that somebody already has → a bundle that says what is not known of it."""

import datetime
import hashlib
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray
from scipy.special import expit, softmax

from brainscan.bundle import Card, Origin, PublishError
from brainscan.bundle.sentences import IMPORTED_LIMITS, IMPORTED_USE
from brainscan.scan import ScanSpecification
from training.data.sources import canonical_class
from training.export import ExportError
from training.half_precision import round_weights
from training.models.blocks import SCALINGS
from training.models.copies import call_copies
from training.publish import publish

# What pixels of 0 to 255 are scaled by, as arguments of a Rescaling layer.
SCALES: dict[str, dict[str, Any]] = {
    "0..255": {"scale": 1.0, "offset": 0.0},
    "0..1": {"scale": 1 / 255, "offset": 0.0},
    "-1..1": SCALINGS["-1 to 1"],
    "imagenet": SCALINGS["torch"],
    "bgr-means": SCALINGS["caffe"],
}
_OF_COLOURS = ("imagenet", "bgr-means")
# How a file starts → the ending by which Keras knows its format.
_ENDINGS = {b"\x89HDF\r\n\x1a\n": ".h5", b"PK\x03\x04": ".keras"}
_CLOSE = 0.01
_SMALLEST = 1e-7

_NOTE = "Imported: nothing was measured here, and its training is not known."


class ImportModelError(ValueError):
    """A file cannot be made a bundle; the message says why and what is accepted."""


@dataclass(frozen=True)
class ImportRequest:
    """What is imported, and what its file does not say.

    Attributes:
        file: a whole Keras model, `.keras` or `.h5`.
        name: of the model here.
        classes: in the order of its outputs; one sigmoid neuron's class for 0, then that for 1.
        scale: how the pixels it was trained on were scaled, a key of `SCALES`: their range; 0 to 1
            less ImageNet's mean, by its deviation; or 0 to 255 less its means, blue first.
        models: the folder of all bundles.
        size: width and height of its input; needed only where its file leaves them open.
        tumor_free: the class that is not a tumour, where its name does not tell.
        logits: whether its last layer has no softmax or sigmoid.
        crop: whether scans are cropped around the head first.
    """

    file: Path
    name: str
    classes: tuple[str, ...]
    scale: str
    models: Path
    size: int | None = None
    tumor_free: str | None = None
    logits: bool = False
    crop: bool = False


def import_model(
    request: ImportRequest, inspect: Callable[[Card, Path], None] | None = None
) -> Path:
    """Wrap a Keras model so that it takes this project's scans, and publish it.

    Args:
        request: what to import, and how.
        inspect: as `publish` takes it.

    Returns:
        The folder of the bundle. It has heat maps where the model's layers allow them.

    Raises:
        ImportModelError: the file is not a whole model of Keras's own layers, or does not fit.
        ExportError, PublishError: it could not be converted, checked or written.
    """
    classes = name_classes(request.classes, request.tumor_free)
    theirs = load_safely(request.file)
    size = _find_size(theirs, request.size)
    if request.scale in _OF_COLOURS and theirs.input_shape[3] != 3:
        raise ImportModelError(
            f"Its input has one channel, and --scale {request.scale} is for three: choose another."
        )
    _check_outputs(theirs, classes)
    pictures = _draw_pictures(size)
    expected = _ask(theirs, pictures, request)
    flat = _wrap(theirs, size, request)
    try:
        round_weights(flat)
    except ValueError as error:
        raise ImportModelError(f"{request.file.name} cannot be served: {error}") from error
    difference = float(np.abs(np.asarray(flat.predict(pictures, verbose=0)) - expected).max())
    if not difference <= _CLOSE:  # nor NaN
        raise ImportModelError(
            f"In half precision {request.file.name} answers otherwise by {difference:.2g}; at most "
            f"{_CLOSE:g} is accepted. Was it trained to the end?"
        )
    card = _draw_up_card(request, classes, size, flat, difference)
    try:
        return publish(flat, card, pictures, request.models, _write_report, inspect=inspect)
    except (ExportError, PublishError):  # its head allows no heat map; see brainscan.engine.gradcam
        sealed = _seal(flat)
        return publish(sealed, card, pictures, request.models, _write_report, inspect=inspect)


def load_safely(file: Path) -> keras.Model:
    """Load a Keras model that consists of Keras's own layers; no code of the file is run.

    Raises:
        ImportModelError: the file is not such a model, or holds code.
    """
    with file.open("rb") as opened:
        start = opened.read(8)
    ending = next((one for magic, one in _ENDINGS.items() if start.startswith(magic)), file.suffix)
    with tempfile.TemporaryDirectory(prefix="tumorapp-") as folder:
        link = Path(folder, f"{file.stem}{ending}")
        link.symlink_to(file.resolve())
        try:
            model = keras.saving.load_model(link, compile=False, safe_mode=True)
        except (
            *(OSError, ValueError, TypeError, KeyError, AttributeError),
            zipfile.BadZipFile,
        ) as error:
            # Keras goes on with how to run the code all the same.
            reason = " ".join(str(error).split()).partition(" If you trust")[0]
            reason = reason.replace(f"{folder}/", "") or type(error).__name__
            raise ImportModelError(
                f"Keras cannot load {file.name}: {reason} Accepted: a whole model of Keras's own "
                "layers, saved as .keras or HDF5."
            ) from error
    if isinstance(model, keras.Sequential) and model.built:
        model = keras.Model(model.inputs[0], model.outputs[0])
    if not hasattr(model, "inputs") or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ImportModelError(f"{file.name} is not a model of one input and one output.")
    return model


def name_classes(given: tuple[str, ...], tumor_free: str | None = None) -> tuple[str, ...]:
    """Give classes the names that this project knows: `No_Tumor` → `notumor`.

    Raises:
        ImportModelError: fewer than two, one twice, or no such class as `tumor_free`.
    """
    if tumor_free is not None and tumor_free not in given:
        raise ImportModelError(f"{tumor_free!r} is not one of the classes {', '.join(given)}.")
    names = tuple(
        "notumor" if one == tumor_free else canonical_class(one) or one.strip() for one in given
    )
    if len(names) < 2 or "" in names or len(set(names)) < len(names):
        raise ImportModelError(
            f"Two or more different classes are needed. Received: {', '.join(names)}."
        )
    return names


def _find_size(model: keras.Model, wanted: int | None) -> int:
    shape = model.input_shape
    square = len(shape) == 4 and shape[1] == shape[2] and shape[3] in (1, 3)
    size = shape[1] or wanted if square else None
    if size is None or (wanted or size) != size:
        raise ImportModelError(
            f"Its input is {shape[1:]}, and the size asked for is {wanted or 'none'}. Accepted: "
            "squares of 1 or 3 channels; --size gives their size where the file leaves it open."
        )
    try:
        return ScanSpecification(size).size
    except ValueError as error:
        raise ImportModelError(str(error)) from error


def _check_outputs(model: keras.Model, classes: tuple[str, ...]) -> None:
    shape, count = model.output_shape, len(classes)
    if len(shape) != 2 or (shape[1] != count and (shape[1], count) != (1, 2)):
        raise ImportModelError(
            f"Its output is {shape[1:]}, and {count} classes were named: {', '.join(classes)}. "
            "Name one for each output, or two for a single neuron."
        )


def _ask(
    model: keras.Model, pictures: NDArray[np.uint8], request: ImportRequest
) -> NDArray[np.float32]:
    """Give the model's probabilities for pictures as it was trained on them."""
    scaling = SCALES[request.scale]
    colours = np.repeat(pictures.astype(np.float32), model.input_shape[3], axis=3)
    pixels = colours * np.float32(scaling["scale"]) + np.float32(scaling["offset"])
    answers = np.asarray(model.predict(pixels, verbose=0), np.float32)
    one = answers.shape[1] == 1
    if request.logits:
        answers = expit(answers) if one else softmax(answers, axis=1)
    low, high, sums = answers.min(), answers.max(), answers.sum(axis=1)
    if not (low >= 0 and high <= 1 and (one or np.allclose(sums, 1, 0, 0.01))):  # nor NaN
        raise ImportModelError(
            f"Its answers are not probabilities: they go from {low:.3g} to {high:.3g}, and a "
            f"scan's sum to {sums.min():.3g} to {sums.max():.3g}. Pass --logits if its "
            "last layer has no softmax or sigmoid, and check --scale."
        )
    return answers


def _wrap(theirs: keras.Model, size: int, request: ImportRequest) -> keras.Model:
    """Give copies of a model's layers grey scans (size, size, 1) of 0 to 255, and an activation."""
    scans = layers.Input((size, size, 1))
    x = layers.Concatenate()([scans, scans, scans]) if theirs.input_shape[3] == 3 else scans
    if request.scale != "0..255":
        x = layers.Rescaling(**SCALES[request.scale])(x)
    x = theirs(x)
    if request.logits:
        x = layers.Activation("sigmoid" if theirs.output_shape[1] == 1 else "softmax")(x)
    # Copied all at once: theirs may bear the names that Keras gives to ours.
    flat = layers.Input((size, size, 1))
    return keras.Model(flat, call_copies(keras.Model(scans, x), flat, "float32"))


def _seal(model: keras.Model) -> keras.Model:
    """Make one layer of a model, which leaves no heat map to be made, and the same answers."""
    scans = layers.Input(model.input_shape[1:])
    found = keras.ops.clip(model(scans), _SMALLEST, 1 - _SMALLEST)
    logits, activation = keras.ops.log(found), "softmax"
    if model.output_shape[1] == 1:
        logits, activation = logits - keras.ops.log(1 - found), "sigmoid"
    return keras.Model(scans, layers.Activation(activation)(logits))


def _draw_pictures(size: int) -> NDArray[np.uint8]:
    """Draw pictures with large and small shapes: uint8, shape (12, size, size, 1)."""
    random = np.random.default_rng(0)
    pictures = [
        cv2.resize(random.uniform(0, 255, (cells, cells)), (size, size))
        for cells in (2, 3, 4, 5, 6, 8, 10, 12, 14, 16, size, size)
    ]
    return np.stack(pictures).astype(np.uint8)[..., np.newaxis]


def _draw_up_card(
    request: ImportRequest, classes: tuple[str, ...], size: int, model: keras.Model, moved: float
) -> Card:
    card = Card(
        name=request.name,
        version=1,  # publishing numbers it
        classes=classes,
        scan=ScanSpecification(size, request.crop),
        architecture=f"imported, {len(model.layers)} layers",
        parameters=model.count_params(),
        feature_layer=None,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        training=None,
        measurement=None,
        intended_use=IMPORTED_USE,
        limits=IMPORTED_LIMITS,
        sources=(),
        origin=Origin(
            file=request.file.name,
            sha256=hashlib.sha256(request.file.read_bytes()).hexdigest(),
            scale=request.scale,
            logits=request.logits,
            moved_by_rounding=moved,
        ),
    )
    try:
        return Card.from_json(card.to_json())
    except ValueError as error:
        raise ImportModelError(f"No card can be made of this: {error}") from error


def _write_report(folder: Path, card: Card) -> None:
    folder.mkdir()
    text = f"# {card.name} {card.version}\n\n{_NOTE}\n\n{card.limits}\n"
    (folder / "README.md").write_text(text, encoding="utf-8")
