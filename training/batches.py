"""The batches of an epoch: which scans, in which order, with which weights."""

import math
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from training.data.audit import list_members
from training.data.variants import VARIANTS, draw_variant


class ScanBatches(keras.utils.PyDataset):
    """Batches of scans and targets; what an epoch holds depends on the seed and epoch alone.

    So a run that was cut off and resumed sees the scans in the order it would have seen them.

    Args:
        pixels: uint8, shape (scans, size, size, 1).
        labels: int64, shape (scans,); `classes` itself is a tumour whose kind is not named.
        groups: int64, shape (scans,): near-duplicate groups. Where given, an epoch draws the
            square root of the size of each group, so a scan that the data sets hold fifty times
            does not count fifty times. None takes every scan.
        classes: how many there are.
        batch: scans a batch.
        binary: whether targets are (batch, 1) for one sigmoid neuron, else one-hot.
        unnamed: whether one-hot targets have a last column more, as `training.losses` takes them.
        seed: of the draw, the order and the mixing; None keeps the given order.
        mixup: where above 0, each scan and its target is blended with another's of its batch, by
            a share drawn from Beta(mixup, mixup) (Zhang et al., 2018).
        variants: in how many of the 21 variants an epoch shows each scan it draws; the next epoch
            goes on with the numbers after them, so each gets its turn. 0 shows the scan itself.
        balanced: whether every class weighs the same, however many scans of it an epoch holds;
            else every scan does.
        epoch: the epoch to begin with.

    Raises:
        ValueError: no such number of variants.
    """

    def __init__(  # noqa: PLR0913  an epoch is that many choices
        self,
        pixels: NDArray[Any],
        labels: NDArray[np.int64],
        groups: NDArray[np.int64] | None = None,
        *,
        classes: int,
        batch: int,
        binary: bool,
        unnamed: bool = False,
        seed: int | None = None,
        mixup: float = 0.0,
        variants: int = 0,
        balanced: bool = True,
        epoch: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= variants <= VARIANTS:
            raise ValueError(
                f"An epoch shows 0 to {VARIANTS} variants of each scan. Received: {variants}"
            )
        self.pixels, self.batch, self.seed, self.epoch = pixels, batch, seed, epoch
        self.mixup, self.variants = mixup, variants
        one_hot = np.eye(classes + unnamed, dtype=np.float32)[labels]
        self.targets = one_hot[:, 1:] if binary else one_hot
        self.members = _list_members(groups, len(labels))
        self.weights = np.ones(len(labels), np.float32)
        if balanced:
            self.weights = _balance_classes(labels, self.members)
        self._draw_order()

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        here = slice(index * self.batch, (index + 1) * self.batch)
        rows = self.order[here]
        pixels = self.pixels[rows]
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

    def begin_at(self, epoch: int) -> None:
        """Draw the scans of an epoch, counted from 0."""
        self.epoch = epoch
        self._draw_order()

    def on_epoch_end(self) -> None:
        """Draw the next epoch; Keras calls it after each."""
        self.begin_at(self.epoch + 1)

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


def _list_members(groups: NDArray[np.int64] | None, scans: int) -> list[NDArray[np.int64]]:
    """Give the rows of each group; without groups every scan is one of its own, in order."""
    if groups is None:
        return list(np.arange(scans).reshape(-1, 1))
    return list_members(groups)


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
