"""The batches of an epoch: which scans, in which order, with which weights."""

import math
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from training.data.audit import list_members
from training.data.split import Part
from training.data.variants import VARIANTS, draw_variant
from training.models import Recipe
from training.task import Task


class ScanBatches(keras.utils.PyDataset):
    """Batches of scans and targets; what an epoch holds depends on the seed and epoch alone.

    So a run that was cut off and resumed sees the scans in the order it would have seen them.

    The recipe says what an epoch is: `every_copy` takes every scan; otherwise an epoch draws the
    square root of the size of each near-duplicate group, so a scan that the data sets hold fifty
    times does not count fifty times. Each scan is shown in as many of the 21 `variants`; the next
    epoch continues with the numbers after them, so each gets its turn. With `mixup`, each scan and
    its target is blended with another's of its batch, by a share drawn from Beta(mixup, mixup)
    (Zhang et al., 2018). With `balanced`, every class weighs the same, however many scans of it an
    epoch holds.

    Args:
        part: scans, or features, with labels and groups.
        task: gives the targets.
        recipe: see above.
        batch: scans a batch.
        seed: of the draw, the order and the mixing. None takes every scan as it is, in order.
        epoch: the epoch to begin with.

    Raises:
        ValueError: no such number of variants.
    """

    def __init__(
        self,
        part: Part,
        task: Task,
        recipe: Recipe,
        batch: int,
        seed: int | None = None,
        epoch: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= recipe.variants <= VARIANTS:
            raise ValueError(
                f"An epoch shows 0 to {VARIANTS} variants of each scan. Received: {recipe.variants}"
            )
        self.inputs, self.batch, self.seed, self.epoch = part.inputs, batch, seed, epoch
        self.mixup, self.variants = (0.0, 0) if seed is None else (recipe.mixup, recipe.variants)
        self.targets = task.encode(part.labels)
        self.members = list(np.arange(len(part.labels)).reshape(-1, 1))
        if seed is not None and not recipe.every_copy:
            self.members = list_members(part.groups)
        self.weights = np.ones(len(part.labels), np.float32)
        if recipe.balanced:
            self.weights = _balance_classes(part.labels, self.members)
        self._draw_order()

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        here = slice(index * self.batch, (index + 1) * self.batch)
        rows = self.order[here]
        pixels = self.inputs[rows]
        if self.variants:
            for scan, number in zip(pixels, self.numbers[here].tolist(), strict=True):
                scan[:] = draw_variant(scan, number)
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

    def on_epoch_end(self) -> None:
        """Draw the next epoch; Keras calls it after each."""
        self.epoch += 1
        self._draw_order()

    def _draw_order(self) -> None:
        """Set the row of each scan of the epoch, and the number of the variant that is shown."""
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
