"""Name → architecture. Importing a module of this package registers what it defines."""

import csv
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import keras


# Every architecture, so that they can be listed without Keras: to import it and to build each of
# them takes most of a minute.
LISTING = Path(__file__).with_name("architectures.csv")


class WeightsError(ValueError):
    """Pretrained weights are not there or belong to another network; the message says which."""


@dataclass(frozen=True)
class Recipe:
    """How an architecture is trained unless the command line says otherwise.

    Attributes:
        epochs: the most; without a cosine, early stopping may end sooner.
        batch: scans a step.
        learning_rate: of AdamW at the start.
        weight_decay: of AdamW.
        average: momentum of the moving average of the weights that is validated and published;
            lowered where it would span more than six epochs.
        label_smoothing: how much of the target's certainty is spread over all classes.
        patience: epochs without a better validation loss before training stops; the learning
            rate is cut after half as many.
        augmentation: strength of the augmentation, 0 (none) upwards; 1 is the usual one.
        variants: how many of document 000's 21 fixed variants of each training scan an epoch shows;
            over the epochs each gets its turn. 0 shows the scan itself.
        mixup: how strongly scans of a batch are blended with each other; 0 is not at all.
        every_copy: whether an epoch takes every scan, instead of the square root of the size of
            each near-duplicate group.
        balanced: whether every class weighs the same in the loss, however many scans it has.
        normalisation: "kept" lets a pretrained network's batch normalisation keep ImageNet's
            statistics; "keras" and "pytorch" let it learn its own, which follow the scans with the
            momentum of the network's layers in Keras, or with PyTorch's.
        schedule: of the learning rate: "plateau" cuts it where the validation loss no longer
            falls; "cosine" lets it rise for 200 steps and then fall to zero at the last epoch;
            "constant" leaves it.
        drawn: how many scans an epoch of a lesion network draws, with as many of each class.
    """

    epochs: int = 30
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    average: float = 0.998
    label_smoothing: float = 0.05
    patience: int = 8
    augmentation: float = 1.0
    variants: int = 0
    mixup: float = 0.0
    every_copy: bool = False
    balanced: bool = True
    normalisation: Literal["kept", "keras", "pytorch"] = "kept"
    schedule: Literal["plateau", "cosine", "constant"] = "plateau"
    drawn: int = 0


@dataclass(frozen=True)
class Architecture:
    """A network that can be trained by name.

    The networks that `build` gives keep a contract that the rest of the code relies on:

    - They take scans (batch, size, size, 1), uint8 or float, 0 to 255, as `brainscan.scan` prepares
      them, from an input named "scans", and scale them themselves.
    - They are flat: no model within the model. Rounding, exporting and explaining read the layers
      one by one (`training.half_precision`, `brainscan.engine.gradcam`).
    - The last layer is a `Dense` with a bias, in float32 also where the rest is in half precision:
      a softmax over the classes, or one sigmoid neuron where the network is binary. Calibration
      divides its kernel and bias (`training.calibrate`); a support vector machine replaces them
      (`training.heads`).
    - Between the last feature maps and the first dense layer there are only pooling, `Flatten` and
      `Dropout` layers, and the activation of a dense layer is ReLU, softmax or sigmoid. Heat maps
      need no more than that (`brainscan.engine.gradcam`); a network without convolutions has none.
    - A pretrained one has a layer named "pool" that gives its features (batch, width). The layers
      after it form a chain and can be copied by their configuration (`training.frozen`).
    - All layers are Keras's own: `model.keras` is loaded in Keras's safe mode.
    - Its weights can be rounded to half precision. A batch normalisation that follows a linear
      convolution is folded into it first (`training.half_precision`); any other stays as it is.

    Attributes:
        name: what the command line calls it.
        summary: its layers in a line, for the card.
        document: the source document it comes from.
        size: width and height of its input, in pixels.
        make: (size, width of the output) → an uncompiled model with random weights. Raises
            ValueError where its layers leave nothing of scans that small.
        load: fills such a model with pretrained weights, "imagenet" or a file, and gives how many
            tensors it took from there; None where the network is trained from scratch. Raises
            WeightsError.
        binary: whether it tells tumour from healthy through one sigmoid neuron.
        lesion: whether it gives a lesion map: its outputs are then "probabilities" and "lesion"
            (batch, rows, columns), 0 to 1. It is never trained with a frozen backbone, and its last
            dense layer may be reached on more ways than through pools.
        recipe: its default training.
    """

    name: str
    summary: str
    document: str
    size: int
    make: Callable[[int, int], "keras.Model"]
    load: Callable[["keras.Model", str | Path], int] | None = None
    binary: bool = False
    lesion: bool = False
    recipe: Recipe = field(default_factory=Recipe)

    @property
    def pretrained(self) -> bool:
        """Whether it can start from pretrained weights."""
        return self.load is not None

    def build(self, size: int, outputs: int, weights: str | Path | None = None) -> "keras.Model":
        """Give an uncompiled model of scans to probabilities.

        Where there are weights to start from, batch normalisation keeps ImageNet's statistics:
        those of a few thousand scans are worse.

        Args:
            size: width and height of the scans, in pixels.
            outputs: how many classes, or 1 where the network is binary.
            weights: "imagenet" (they are downloaded), a file, or None for random ones. The model's
                `tensors_loaded` says how many were taken from there.

        Raises:
            WeightsError: nothing can be downloaded, or the file is missing or of another network.
            ValueError: the scans are too small for the layers.
        """
        try:
            model = self.make(size, outputs)
        except ValueError as error:
            raise ValueError(
                f"{self.name} cannot be built for scans of {size} × {size} pixels. Choose a larger "
                f"--size; its own is {self.size}. (Keras: {str(error).strip()})"
            ) from error
        if self.load and weights:
            model.tensors_loaded = self.load(model, weights)
            for layer in model.layers:
                if type(layer).__name__ == "BatchNormalization":
                    layer.trainable = False
        return model


class Listed(NamedTuple):
    """A row of the list of architectures, as text.

    Attributes:
        name: what the command line calls it.
        parameters: of four classes (one neuron where it is binary) at the default size.
        size: width and height of its input, in pixels.
        document: the source document it comes from.
        pretrained: "yes" where it can start from pretrained weights, else "no".
        summary: its layers in a line.
    """

    name: str
    parameters: str
    size: str
    document: str
    pretrained: str
    summary: str


def list_architectures() -> list[Listed]:
    """Give every architecture's row, in alphabetical order, from the list that is kept on file."""
    with LISTING.open(encoding="utf-8", newline="") as file:
        return [Listed(**row) for row in csv.DictReader(file)]


def describe_architecture(entry: Architecture, network: "keras.Model") -> Listed:
    """Give the row of an architecture, of which `network` was built at its default size."""
    return Listed(
        entry.name,
        f"{network.count_params():,}",
        str(entry.size),
        entry.document,
        "yes" if entry.pretrained else "no",
        entry.summary,
    )


def build_without_weights(entry: Architecture, size: int) -> "keras.Model":
    """Build the layers of a network in no time: the weights of the largest take a gigabyte.

    Args:
        entry: what to build, for four classes, or with one neuron where it is binary.
        size: width and height of the scans, in pixels.
    """
    import keras

    with keras.StatelessScope(initialize_variables=False):
        network = entry.build(size, 1 if entry.binary else 4)
    keras.utils.clear_session(free_memory=False)  # else Keras makes them with the next network's
    return network


# How documents 000 and 001 train, as far as they say: Adam (AdamW without weight decay) on
# categorical cross-entropy, batches of 32, early stopping; none of this project's refinements.
DOCUMENTED = Recipe(
    weight_decay=0.0,
    average=0.0,
    label_smoothing=0.0,
    augmentation=0.0,
    every_copy=True,
    balanced=False,
)

# How a pretrained network is trained unless the command line says otherwise: chosen on the
# validation part of mobilenet-v2; the others take it over.
FINE_TUNING = Recipe(
    epochs=40, learning_rate=2e-4, label_smoothing=0.1, augmentation=1.6, mixup=0.3
)

_REGISTRY: dict[str, Architecture] = {}


def register(entry: Architecture) -> Architecture:
    """Add an architecture; raises ValueError where the name is taken."""
    if entry.name in _REGISTRY:
        raise ValueError(f"An architecture named {entry.name!r} is registered already.")
    _REGISTRY[entry.name] = entry
    return entry


def architectures() -> dict[str, Architecture]:
    """Give every architecture by name, in alphabetical order."""
    package = importlib.import_module("training.models")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"training.models.{module.name}")
    return dict(sorted(_REGISTRY.items()))


def architecture(name: str) -> Architecture:
    """Give one architecture; raises ValueError that lists the known names."""
    known = architectures()
    if name not in known:
        raise ValueError(f"Unknown model {name!r}. Known models: {', '.join(known)}.")
    return known[name]
