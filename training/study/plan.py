"""What the study does with a row: its data, its protocol, its settings, and its name."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from brainscan.bundle.study import Budget
from training.study.documents import DOCUMENTS
from training.study.rows import Row

if TYPE_CHECKING:
    from training.data.split import Protocol
    from training.models import Architecture, Recipe
    from training.run import TrainingRequest


@dataclass(frozen=True)
class Smaller:
    """An honest smaller setting for a CPU: width and height in pixels, and the most epochs."""

    size: int
    epochs: int


# What learns from nothing needs more steps than pixels; a pretrained backbone needs its pixels, and
# a frozen one computes its features once, so many epochs of its head cost less than one of it all.
QUICK_FROM_NOTHING = Smaller(64, 12)
QUICK_PRETRAINED = Smaller(96, 5)
QUICK_FROZEN = Smaller(96, 30)


@dataclass(frozen=True)
class Plan:
    """A row, and how it is to be trained.

    Attributes:
        row: what to train.
        budget: "quick", "full" or "own".
        protocol: how the scans are divided.
        data: folder-per-class trees.
        weights: "imagenet", "none", or a folder that is searched for the architecture's file.
        instance: holds `runs`, `cache` and `data`.
        study: takes the results.
        fresh: train anew what can be resumed.
        command: the command line.
    """

    row: Row
    budget: Budget
    protocol: str
    data: tuple[Path, ...]
    weights: str
    instance: Path
    study: Path
    fresh: bool = False
    command: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """What results call the data sets: their folders' names."""
        return tuple(folder.name.strip(".") or folder.resolve().name for folder in self.data)

    @property
    def id(self) -> str:
        """Name the row with all that tells its results apart; it serves as a folder's name."""
        parts = [self.row.slug, self.budget, self.protocol]
        if self.names != (DOCUMENTS[self.row.document].data,):
            parts += ["on", *self.names]
        return re.sub(r"[^a-z0-9.]+", "-", "-".join(parts).lower()).strip("-")

    @property
    def log(self) -> Path:
        """The file that takes what the training prints."""
        return self.instance / "runs" / "study" / f"{self.id}.log"


def plan_row(
    row: Row,
    budget: Budget,
    instance: Path,
    study: Path,
    *,
    data: tuple[Path, ...] = (),
    protocol: str | None = None,
    weights: str = "imagenet",
    fresh: bool = False,
    command: str = "",
) -> Plan:
    """Plan a row; data and protocol that are not given are the document's own."""
    document = DOCUMENTS[row.document]
    return Plan(
        row=row,
        budget=budget,
        protocol=protocol or document.protocol,
        data=data or (instance / "data" / document.data,),
        weights=weights,
        instance=instance,
        study=study,
        fresh=fresh,
        command=command,
    )


def build_request(plan: Plan) -> "TrainingRequest":
    """Turn a plan into what `training.pipeline.train` takes. Keras loads here.

    Raises:
        ValueError: no such architecture; its subclass WeightsError: no weights for it.
    """
    from training.models import architecture
    from training.run import TrainingRequest

    network = architecture(plan.row.model)
    weights = find_weights(plan.weights, network.name) if network.pretrained else None
    return TrainingRequest(
        model=network.name,
        data=plan.data,
        instance=plan.instance,
        models=plan.study,  # nothing is published
        protocol=cast("Protocol", plan.protocol),
        recipe=choose_recipe(plan, network),
        size=_choose_size(plan, network),
        weights=weights,
        method=plan.row.method,
        head=plan.row.head,
        publish=False,
        fresh=plan.fresh,
        command=plan.command,
    )


def choose_recipe(plan: Plan, network: "Architecture") -> "Recipe":
    """Give the document's recipe, a smaller one of the same kind, or the architecture's own."""
    from training.models import Recipe

    if plan.budget == "own":
        return network.recipe
    document = DOCUMENTS[plan.row.document]
    full = Recipe(
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
    )
    if plan.budget == "full":
        return full
    epochs = min(full.epochs, _choose_smaller(plan, network).epochs)
    return replace(full, epochs=epochs, variants=min(1, full.variants))


def _choose_size(plan: Plan, network: "Architecture") -> int:
    if plan.budget == "own":
        return network.size
    size = DOCUMENTS[plan.row.document].size or network.size
    return min(size, _choose_smaller(plan, network).size) if plan.budget == "quick" else size


def _choose_smaller(plan: Plan, network: "Architecture") -> Smaller:
    if plan.row.method == "frozen":
        return QUICK_FROZEN
    return QUICK_PRETRAINED if network.pretrained else QUICK_FROM_NOTHING


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
            f"Of the files in {wanted}, one must begin with {plain} to be the weights of {name}, "
            f"whatever its case and punctuation. Found: {names}. Bring it, or pass --weights "
            "imagenet where Keras may download, or none."
        )
    return str(found[0])


def _strip(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
