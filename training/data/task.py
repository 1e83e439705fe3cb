"""What a model tells apart: classes, labels, targets, loss and outputs, all decided here.

There are three cases: several classes, with a softmax over them; healthy against tumour, with one
sigmoid neuron; and several classes where further scans show a tumour whose kind is not named.
"""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brainscan.bundle import HEALTHY_CLASSES, Card
from training.data.duplicates import find_contradictions
from training.data.folders import ScanTree, describe_layout
from training.data.sources import CANONICAL_CLASSES, DataError, canonical_class

if TYPE_CHECKING:
    import keras

BINARY_CLASSES = ("healthy", "tumor")
NO_TUMOR, _ANY_TUMOR = "notumor", "tumor"
KINDS = frozenset(CANONICAL_CLASSES) - HEALTHY_CLASSES - {_ANY_TUMOR}


@dataclass(frozen=True)
class Task:
    """The classes of a model, and how labels, targets and outputs express them.

    Attributes:
        classes: their names. A label is an index into them; the label `len(classes)` means a
            tumour whose kind is not named.
        binary: whether one sigmoid neuron gives the probability of the second class.
        unnamed: whether there are scans of a tumour whose kind is not named.
    """

    classes: tuple[str, ...]
    binary: bool = False
    unnamed: bool = False

    @classmethod
    def of_labels(cls, names: Iterable[str], *, binary: bool) -> "Task":
        """Give the task that scans with these class names set.

        Args:
            names: canonical names, or folders' own.
            binary: whether to merge them into healthy and tumour.

        Raises:
            DataError: a name that may be healthy or a tumour in a binary task; tumours whose kind
                is not named next to named kinds, where no class is healthy.
        """
        found = set(names)
        if binary:
            for name in sorted(found.difference(CANONICAL_CLASSES)):
                raise DataError(
                    f"Cannot tell whether the class {name!r} is healthy or a tumour. Known: "
                    f"{', '.join(CANONICAL_CLASSES)}. Say which it is, such as --class "
                    f"{shlex.quote(name)}=tumor or --tumor-free {shlex.quote(name)}."
                )
            return cls(BINARY_CLASSES, binary=True)
        unnamed = _ANY_TUMOR in found and bool(found & KINDS)
        task = cls(tuple(sorted(found - {_ANY_TUMOR} if unnamed else found)), unnamed=unnamed)
        if unnamed and task.healthy is None:
            raise DataError(
                f"The scans of class {_ANY_TUMOR!r} do not say which kind of tumour they show. "
                f"Next to named kinds ({', '.join(task.classes)}) they can only teach what is not "
                "healthy, and no class is healthy here. Add healthy scans, or leave them out with "
                "--exclude."
            )
        return task

    @property
    def healthy(self) -> int | None:
        """The label of healthy scans, where a class is known to mean that."""
        known = (label for label, name in enumerate(self.classes) if name in HEALTHY_CLASSES)
        return next(known, None)

    @property
    def outputs(self) -> int:
        """The width of a network's last layer."""
        return 1 if self.binary else len(self.classes)

    def number(self, names: Iterable[str]) -> NDArray[np.int64]:
        """Give the label of each class name: int64, shape (names,)."""
        if self.binary:
            return np.array([name not in HEALTHY_CLASSES for name in names], np.int64)
        numbers = {name: number for number, name in enumerate(self.classes)}
        return np.array([numbers.get(name, len(numbers)) for name in names], np.int64)

    def is_named(self, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which labels are classes, and not tumours whose kind is not named."""
        return labels < len(self.classes)

    def find_contradictions(
        self, groups: NDArray[np.int64], labels: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Give the scans, as sorted indices, whose near-duplicates carry another label.

        No kind of tumour contradicts one that is not named.
        """
        named = np.nonzero(self.is_named(labels))[0]
        kinds = named[find_contradictions(groups[named], labels[named])]
        if self.healthy is None:
            return kinds
        tumors = (labels != self.healthy).astype(np.int64)
        return np.union1d(kinds, find_contradictions(groups, tumors))

    def encode(self, labels: NDArray[np.int64]) -> NDArray[np.float32]:
        """Give the targets of labels: float32, shape (scans, 1) for one neuron, else one-hot.

        Where tumours whose kind is not named teach too, a last column says "of any kind".
        """
        one_hot = np.eye(len(self.classes) + self.unnamed, dtype=np.float32)[labels]
        return one_hot[:, 1:] if self.binary else one_hot

    def choose_loss(self, smoothing: float) -> "keras.Loss":
        """Give the loss for these targets; so much of their certainty is spread over all."""
        import keras

        from training.losses import UnnamedTumorCrossentropy

        if self.unnamed and self.healthy is not None:
            return UnnamedTumorCrossentropy(self.healthy, smoothing)
        losses = keras.losses
        usual = losses.BinaryCrossentropy if self.binary else losses.CategoricalCrossentropy
        return usual(label_smoothing=smoothing)

    def choose_accuracy(self) -> "keras.Metric | str":
        """Give the metric that counts right answers."""
        from training.losses import UnnamedTumorAccuracy

        if self.unnamed and self.healthy is not None:
            return UnnamedTumorAccuracy(self.healthy)
        return "accuracy"

    def read_outputs(self, outputs: Any) -> NDArray[np.float32]:
        """Give the probabilities of all classes, float32, shape (scans, classes), that are meant.

        Args:
            outputs: of a network, shape (scans, `self.outputs`); or a dictionary of them, as
                `probabilities`, and a lesion map.
        """
        probabilities = outputs["probabilities"] if isinstance(outputs, dict) else outputs
        found = np.asarray(probabilities, np.float32)
        return np.hstack([1 - found, found]) if self.binary else found


def set_task(trees: Sequence[ScanTree], *, binary: bool) -> Task:
    """Decide what a training tells apart; refuse scans that together show one class only."""
    labels = [scan.label for tree in trees for scan in tree.scans]
    _check_several(labels, trees)
    task = Task.of_labels(labels, binary=binary)
    if binary:
        _check_several([task.classes[number] for number in task.number(labels)], trees)
    return task


def _check_several(labels: Sequence[str], trees: Sequence[ScanTree]) -> None:
    """Refuse scans of one class only."""
    if len(set(labels)) == 1:
        explanation = (
            f"Only one class, {labels[0]!r} ({len(labels)} images), in "
            f"{', '.join(str(tree.root) for tree in trees)}; a classifier needs two or more. "
            "Images must lie in one folder for each class, such as glioma/1.jpg and notumor/2.jpg: "
            "pass the folder above these, or another --data folder too."
        )
        notes = [note for tree in trees for note in tree.notes]
        raise DataError("\n".join([explanation, *notes, describe_layout()]))


def choose_task(card: Card, labels: Iterable[str]) -> tuple[Task, dict[str, int]]:
    """Decide what can be measured of a published model on scans with some labels.

    Args:
        card: the model's.
        labels: canonical names, or folders' own.

    Returns:
        What is told apart, and the number of each label in it. Where no label names a kind of
        tumour, that is tumour or none.

    Raises:
        DataError: the model does not know a label.
    """
    found = set(labels)
    known = {canonical_class(name) or name: number for number, name in enumerate(card.classes)}
    unnamed = NO_TUMOR in known and _ANY_TUMOR in found - known.keys()
    if card.classes == BINARY_CLASSES or (unnamed and found <= {_ANY_TUMOR, NO_TUMOR}):
        task = Task(BINARY_CLASSES, binary=True)
        numbers = {name: int(name != NO_TUMOR) for name in CANONICAL_CLASSES}
    else:
        task, numbers = Task(card.classes, unnamed=unnamed), known
        if unnamed:
            numbers = {**known, _ANY_TUMOR: len(card.classes)}
        elif _ANY_TUMOR in known:
            numbers = {**dict.fromkeys(KINDS, known[_ANY_TUMOR]), **known}
    if unknown := sorted(found - numbers.keys()):
        raise DataError(
            f"{card.name} does not know the classes {', '.join(unknown)}. It tells apart: "
            f"{', '.join(card.classes)}. Say which of these they are, such as --class "
            f"{shlex.quote(unknown[0])}={card.classes[0]}, or leave them out with --exclude."
        )
    return task, numbers
