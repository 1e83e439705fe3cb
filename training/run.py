"""One training run: what was asked for, and the folder that keeps it."""

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from brainscan.bundle.protocols import Protocol
from brainscan.files import LockedError, lock, write_text
from training.data.split import OF_VARIANTS, Split
from training.heads import HEADS
from training.models import Recipe, architecture, architectures

_LOCK_FILE = "lock"
_PUBLISHED_FILE = "published"
_PACKAGES = ("numpy", "opencv-python-headless", "openvino", "scikit-learn")
# Of a request: the scans are compared themselves, and the rest changes no result.
_WITHOUT_EFFECT = frozenset(
    {
        "model",
        "data",
        "exclude",
        "manifest",
        "refuse",
        "instance",
        "models",
        "publish",
        "refit",
        "fresh",
        "command",
    }
)


class RunBusyError(RuntimeError):
    """Another process trains the same run."""


Method = Literal["fine-tune", "frozen"]
HeadName = Literal["softmax", "svm", "knn"]


@dataclass(frozen=True)
class TrainingRequest:
    """What `flask train` was asked for.

    Attributes:
        model: name of an architecture.
        data: folder-per-class trees; their scans are merged.
        instance: holds the `runs` and the `cache`.
        models: folder of all bundles.
        protocol: how the scans are divided.
        recipe: how the model is fitted.
        size: width and height of the scans, in pixels.
        exclude: glob patterns of scans to leave out.
        manifest: lists the scans to train on and their labels; then `data` may be empty.
        refuse: folders of pictures that are not MRI slices of a head, next to those that are drawn.
        seed: of the split, the weights, the order and the augmentation.
        weights: "imagenet", a file, or None.
        method: "fine-tune" trains every layer; "frozen" trains only the head of a pretrained model.
        head: what a frozen backbone's features are classified by: the network's own dense layer, a
            linear support vector machine, or nearest neighbours, which cannot be published.
        precision: a Keras dtype policy or "auto".
        publish: whether a bundle is published at the end, or only the report written; None for
            "unless it is worse than the version that is served", as `training.compare` has it.
        refit: whether what is published is trained again, on all scans, once it is measured.
        fresh: start from scratch even where a run can be resumed.
        command: the command line, for the report.
    """

    model: str
    data: tuple[Path, ...]
    instance: Path
    models: Path
    protocol: Protocol
    recipe: Recipe
    size: int
    exclude: tuple[str, ...] = ()
    manifest: Path | None = None
    refuse: tuple[Path, ...] = ()
    seed: int = 0
    weights: str | None = None
    method: Method = "fine-tune"
    head: HeadName = "softmax"
    precision: str = "auto"
    publish: bool | None = True
    refit: bool = False
    fresh: bool = False
    command: str = ""

    @property
    def decisive(self) -> dict[str, Any]:
        """Give what decides a result, next to the model's name and the scans."""
        return {name: value for name, value in asdict(self).items() if name not in _WITHOUT_EFFECT}


def settle(request: TrainingRequest) -> TrainingRequest:
    """Refuse what cannot be trained; leave out of a request what would have no effect."""
    network = architecture(request.model)
    if request.protocol == OF_VARIANTS:  # each is shown in every epoch already
        request = replace(request, recipe=replace(request.recipe, variants=0))
    if network.lesion:  # which varies scans and outlines, and draws as many of each class
        recipe = replace(request.recipe, variants=0, mixup=0.0, every_copy=False, balanced=True)
        request = replace(request, recipe=recipe)
    if request.refit and (request.recipe.schedule != "cosine" or request.method == "frozen"):
        raise ValueError(
            f"{request.model} cannot be trained again on all scans: its validation part decides "
            "when it ends, and none would be left. Leave out --refit, or choose a model whose "
            "learning rate follows a cosine, such as lesion-lite0."
        )
    if request.method != "frozen":
        if request.head != "softmax":
            raise ValueError(
                f"A head of the kind {request.head!r} takes the features of a frozen backbone: add "
                "--method frozen, or leave out --head."
            )
        return request
    if network.lesion:
        raise ValueError(
            f"{request.model} learns a lesion map, which a frozen backbone cannot. Pass --method "
            "fine-tune, or choose another pretrained model."
        )
    if not network.pretrained:
        names = ", ".join(name for name, one in architectures().items() if one.pretrained)
        raise ValueError(
            f"{request.model} is trained from scratch: it has no pretrained backbone to freeze. "
            f"Pass --method fine-tune, or one of the pretrained models: {names}."
        )
    return replace(
        request,
        recipe=replace(request.recipe, augmentation=0.0, variants=0, normalisation="kept"),
        publish=False if HEADS[request.head].obstacle else request.publish,
    )


@dataclass(frozen=True)
class Run:
    """A request and the folder of its run: configuration, checkpoint, history, report.

    Attributes:
        request: what was asked for.
        folder: named by all that decides the result, so that the same command finds it again.
    """

    request: TrainingRequest
    folder: Path

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the run for this process alone; a killed process holds nothing.

        What the folder holds is forgotten where the request says `fresh`.

        Raises:
            RunBusyError: another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with lock(self.folder / _LOCK_FILE, wait=False):
                if self.request.fresh:
                    self._forget()
                yield
        except LockedError:
            raise RunBusyError(
                f"Another process is training this run in {self.folder}. Wait for it, or "
                "stop it and run the command again: it resumes where the other stopped."
            ) from None

    def _forget(self) -> None:
        for entry in self.folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != _LOCK_FILE:
                entry.unlink()

    @property
    def bundle(self) -> Path | None:
        """The bundle that this run has published, where it is still there."""
        try:
            bundle = Path((self.folder / _PUBLISHED_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return bundle if bundle.is_dir() else None

    def mark_published(self, bundle: Path) -> None:
        """Remember the bundle, so that the same command does not publish it twice."""
        write_text(self.folder / _PUBLISHED_FILE, str(bundle))

    def write_configuration(self, split: Split) -> None:
        """Write down everything that the result depends on, as `configuration.json`."""
        configuration = {
            **{key: value for key, value in asdict(self.request).items() if key != "fresh"},
            "manifest": split.dataset.manifest,
            "parts": split.sizes,
            "backend": keras.backend.backend(),
            "cores": os.cpu_count(),
            "versions": list_versions(),
        }
        text = json.dumps(configuration, indent=2, default=str) + "\n"
        write_text(self.folder / "configuration.json", text)


def find_run(request: TrainingRequest, split: Split) -> Run:
    """Give the run of a request, whether it has begun or not."""
    return Run(request, request.instance / "runs" / f"{request.model}-{_identify(request, split)}")


def _identify(request: TrainingRequest, split: Split) -> str:
    """Name a run by all that decides its result, so that the same command finds it again."""
    weights = request.weights
    if weights and Path(weights).is_file():
        weights = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    dataset = split.dataset
    decisive = {
        **request.decisive,
        "weights": weights,
        "classes": dataset.classes,
        "names": dataset.names,
    }
    digest = hashlib.sha256(json.dumps(decisive).encode())
    # The scans and their division themselves: newer code may crop or divide the same files
    # differently, and must not go on with the old weights.
    scans = (dataset.pixels, dataset.labels, dataset.groups)
    for array in (*scans, split.train, split.validation, split.test, split.unnamed_train):
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:12]


def list_versions() -> dict[str, str]:
    """Give the versions of Python and of the packages that decide a result."""
    packages = ("keras", keras.backend.backend(), *_PACKAGES)
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {"python": platform.python_version(), **versions}
