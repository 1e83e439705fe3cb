"""What the study does with a row: its data, its protocol, its settings, and its name."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from brainscan.bundle.protocols import Protocol
from brainscan.bundle.study import Budget
from training.study.documents import DOCUMENTS, Document
from training.study.rows import Row

if TYPE_CHECKING:
    from training.models import Architecture, Recipe
    from training.run import TrainingRequest

# The reduced budget: width and height in pixels, and the most epochs, with one variant of a scan an
# epoch. A third of the pixels and a twentieth of the steps are what two cores do in minutes.
REDUCED = 128, 25


@dataclass(frozen=True)
class Plan:
    """A row, and how it is to be trained.

    Attributes:
        row: what to train.
        budget: "reduced", "unvaried", "full" or "own".
        instance: holds `runs`, `cache` and `data`.
        study: takes the results.
        data: folder-per-class trees; where none is given, the document's own data set.
        protocol: how the scans are divided; where none is given, as the document does.
        weights: "imagenet", "none", or a folder that is searched for the architecture's file.
        precision: a Keras dtype policy. Sums of many raw pixels are more than float16 holds.
        fresh: train again what could be resumed.
        command: the command line.
    """

    row: Row
    budget: Budget
    instance: Path
    study: Path
    data: tuple[Path, ...] = ()
    protocol: str = ""
    weights: str = "imagenet"
    precision: str = "float32"
    fresh: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        own = self.document
        object.__setattr__(self, "data", self.data or (self.instance / "data" / own.data,))
        object.__setattr__(self, "protocol", self.protocol or own.protocol)

    @property
    def document(self) -> Document:
        """The document that the row is from."""
        return DOCUMENTS[self.row.document]

    @property
    def names(self) -> tuple[str, ...]:
        """What results call the data sets: their folders' names."""
        return tuple(folder.name.strip(".") or folder.resolve().name for folder in self.data)

    @property
    def id(self) -> str:
        """Name the row with all that tells its results apart; it serves as a folder's name."""
        parts = [self.row.slug, self.budget, self.protocol]
        if self.names != (self.document.data,):
            parts += ["on", *self.names]
        return re.sub(r"[^a-z0-9.]+", "-", "-".join(parts).lower()).strip("-")

    @property
    def log(self) -> Path:
        """The file that takes what the training prints."""
        return self.instance / "runs" / "study" / f"{self.id}.log"


def build_request(plan: Plan) -> "TrainingRequest":
    """Turn a plan into what `training.pipeline.train` takes. Keras loads here.

    Raises:
        ValueError: no such architecture; its subclass WeightsError: no weights for it.
    """
    from training.models import architecture
    from training.run import TrainingRequest

    network = architecture(plan.row.model)
    recipe, size = _choose_settings(plan, network)
    return TrainingRequest(
        model=network.name,
        data=plan.data,
        instance=plan.instance,
        models=plan.study,  # nothing is published
        protocol=cast(Protocol, plan.protocol),
        recipe=recipe,
        size=size,
        weights=find_weights(plan.weights, network.name) if network.pretrained else None,
        method=plan.row.method,
        head=plan.row.head,
        precision="auto" if plan.budget == "own" else plan.precision,
        publish=False,
        fresh=plan.fresh,
        command=plan.command,
    )


def _choose_settings(plan: Plan, network: "Architecture") -> tuple["Recipe", int]:
    """Give recipe and size: the architecture's, the document's, or smaller ones of that kind."""
    from training.models import Recipe

    if plan.budget == "own":
        return network.recipe, network.size
    document = plan.document
    size = document.size or network.size
    recipe = Recipe(
        epochs=plan.row.epochs or document.epochs,
        batch=32,
        learning_rate=1e-3,  # Adam's usual one, which document 002 names
        weight_decay=0,  # AdamW without decay is Adam
        average=0,
        label_smoothing=0,
        patience=document.patience,
        augmentation=0,
        variants=document.variants,
        every_copy=True,
        balanced=False,
        normalisation=document.normalisation,
        schedule=document.schedule,
    )
    if plan.budget == "full":
        return recipe, size
    if plan.budget == "unvaried":
        # On raw pixels, the loss of a linear network goes up and down for longer than the patience.
        patience = recipe.epochs if network.name.startswith("ann-") else recipe.patience
        return replace(recipe, variants=0, patience=patience), size
    width, epochs = REDUCED
    epochs, variants = min(epochs, recipe.epochs), min(1, recipe.variants)
    return replace(recipe, epochs=epochs, variants=variants), min(width, size)


def find_weights(wanted: str, name: str) -> str | None:
    """Find an architecture's weights: "imagenet" and "none" say it, a folder is searched.

    The one file is taken whose name begins with the architecture's, whatever its case and
    punctuation: `mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5` is one for
    `mobilenet-v2`.

    Raises:
        WeightsError: the folder holds no such file, or several.
    """
    from training.models import WeightsError

    if wanted == "imagenet":
        return wanted
    if wanted == "none":
        return None
    plain = _strip(name)
    files = sorted(Path(wanted).iterdir()) if Path(wanted).is_dir() else []
    found = [path for path in files if path.is_file() and _strip(path.name).startswith(plain)]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise WeightsError(
            f"{wanted} must hold one file of weights for {name}: its name must begin with {plain}, "
            f"in any case and punctuation. Found: {names}. Add the file, or pass --weights "
            "imagenet or none."
        )
    return str(found[0])


def _strip(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
