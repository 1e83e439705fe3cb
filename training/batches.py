"""The batches of an epoch: which scans, in which order, with which weights."""

import math
from abc import ABC, abstractmethod
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from training.data.duplicates import list_members
from training.data.split import Part
from training.data.task import Task
from training.data.variants import VARIANTS
from training.models import Recipe


class Batches(keras.utils.PyDataset, ABC):
    """Batches of scans and targets; what an epoch holds depends on the seed and epoch alone.

    So a run that was cut off and resumed sees the scans in the order it would have seen them.

    Args:
        part: scans, or features, with labels, groups and outlines.
        task: gives the targets.
        recipe: what an epoch is; the subclasses say how.
        batch: scans a batch.
        seed: of all that is drawn. None takes every scan as it is, in order.
        epoch: the epoch to begin with.
    """

    threads = 1  # that draw while training

    def __init__(
        self,
        part: Part,
        task: Task,
        recipe: Recipe,
        batch: int,
        seed: int | None = None,
        epoch: int = 0,
    ) -> None:
        super().__init__(workers=1 if seed is None else self.threads)
        self.part, self.batch, self.seed, self.epoch = part, batch, seed, epoch
        self.targets = task.encode(part.labels)
        self._prepare(task, recipe)
        self._draw_order()

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch)

    def on_epoch_end(self) -> None:
        """Draw the next epoch; Keras calls it after each."""
        self.epoch += 1
        self._draw_order()

    @abstractmethod
    def _prepare(self, task: Task, recipe: Recipe) -> None:
        """Keep what is the same in every epoch."""

    @abstractmethod
    def _draw_order(self) -> None:
        """Set the row of each scan of the epoch, as `order`."""


class ScanBatches(Batches):
    """Scans, targets and weights.

    The recipe says what an epoch is: `every_copy` takes every scan; otherwise an epoch draws the
    square root of the size of each near-duplicate group, so a scan that the data sets hold fifty
    times does not count fifty times. Each scan is shown in as many of the 21 `variants`; the next
    epoch continues with the numbers after them, so each gets its turn. With `mixup`, each scan and
    its target is blended with another's of its batch, by a share drawn from Beta(mixup, mixup)
    (Zhang et al., 2018). With `balanced`, every class weighs the same, however many scans of it an
    epoch holds.
    """

    def _prepare(self, task: Task, recipe: Recipe) -> None:
        drawn = self.seed is not None
        self.mixup, self.variants = (recipe.mixup, recipe.variants) if drawn else (0.0, 0)
        self.members = list(np.arange(len(self.targets)).reshape(-1, 1))
        if drawn and not recipe.every_copy:
            self.members = list_members(self.part.groups)
        self.weights = np.ones(len(self.targets), np.float32)
        if recipe.balanced:
            self.weights = _balance_classes(self.part.labels, self.members)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        here = slice(index * self.batch, (index + 1) * self.batch)
        rows = self.order[here]
        variants = self.part.variants if self.variants else None
        numbers = self.numbers[here]
        pixels = variants.show(rows, numbers) if variants else self.part.inputs[rows]
        columns = pixels, self.targets[rows], self.weights[rows]
        return self._mix(index, *columns) if self.mixup else columns

    def _mix(
        self,
        index: int,
        pixels: NDArray[Any],
        targets: NDArray[np.float32],
        weights: NDArray[np.float32],
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        random = np.random.default_rng((self.seed or 0, self.epoch, index))
        share = np.float32(random.beta(self.mixup, self.mixup))
        other = random.permutation(len(pixels))

        def blend(column: NDArray[Any]) -> NDArray[Any]:
            return share * column + (1 - share) * column[other]

        mixed = blend(weights)
        # Each scan brings its own weight into the blend, so rare classes keep their share.
        return blend(pixels), blend(weights[:, None] * targets) / mixed[:, None], mixed

    def _draw_order(self) -> None:
        """Set the row of each scan of the epoch, and the `numbers` of the variants shown."""
        random = None if self.seed is None else np.random.default_rng((self.seed, self.epoch))
        drawn = self.members
        if random:
            drawn = [random.choice(rows, _count_drawn(rows), replace=False) for rows in drawn]
        times = max(1, self.variants)
        rows = np.repeat(np.concatenate(drawn), times)
        # Each scan starts at a number of its own, so that a batch does not hold one variant only.
        numbers = (rows + self.epoch * times + np.arange(len(rows)) % times) % VARIANTS
        order = random.permutation(len(rows)) if random else np.arange(len(rows))
        self.order, self.numbers = rows[order], numbers[order]


def _balance_classes(
    labels: NDArray[np.int64], members: list[NDArray[np.int64]]
) -> NDArray[np.float32]:
    """Give each scan a weight, 1 in the mean of an epoch, by which every class has one sum."""
    chances = np.empty(len(labels), np.float32)
    for rows in members:
        chances[rows] = _count_drawn(rows) / len(rows)
    classes, numbers = np.unique(labels, return_inverse=True)
    counts = np.bincount(numbers, weights=chances)
    balanced: NDArray[np.float64] = chances.sum() / (len(classes) * counts)
    return balanced[numbers].astype(np.float32)


def _count_drawn(group: NDArray[np.int64]) -> int:
    return math.ceil(math.sqrt(len(group)))
