"""The batches of an epoch: which scans, in which order, with which weights."""

import math
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray


class ScanBatches(keras.utils.PyDataset):
    """Batches of scans and targets; what an epoch holds depends on the seed and epoch alone.

    So a run that was cut off and resumed sees the scans in the order it would have seen them.

    Args:
        pixels: uint8, shape (scans, size, size, 1).
        labels: int64, shape (scans,).
        groups: int64, shape (scans,): near-duplicate groups. Where given, an epoch draws the
            square root of the size of each group, so a scan that the data sets hold fifty times
            does not count fifty times. None takes every scan.
        classes: how many there are.
        batch: scans a batch.
        binary: whether targets are (batch, 1) for one sigmoid neuron, else one-hot.
        seed: of the draw, the order and the mixing; None keeps the given order.
        mixup: where above 0, each scan and its target is blended with another's of its batch, by
            a share drawn from Beta(mixup, mixup) (Zhang et al., 2018).
        epoch: the epoch to begin with.
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        labels: NDArray[np.int64],
        groups: NDArray[np.int64] | None = None,
        *,
        classes: int,
        batch: int,
        binary: bool,
        seed: int | None = None,
        mixup: float = 0.0,
        epoch: int = 0,
    ) -> None:
        super().__init__()
        self.pixels, self.batch, self.seed, self.epoch = pixels, batch, seed, epoch
        self.mixup = mixup
        one_hot = np.eye(classes, dtype=np.float32)[labels]
        self.targets = one_hot[:, 1:] if binary else one_hot
        self.members = _list_members(groups, len(labels))
        # Every class weighs the same, however many scans of it an epoch holds.
        chances = np.empty(len(labels), np.float32)
        for rows in self.members:
            chances[rows] = _count_drawn(rows) / len(rows)
        counts = np.bincount(labels, weights=chances, minlength=classes)
        self.weights = (chances.sum() / (classes * counts))[labels].astype(np.float32)
        self._draw_order()

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        rows = self.order[index * self.batch : (index + 1) * self.batch]
        columns = self.pixels[rows], self.targets[rows], self.weights[rows]
        return self._mix(index, *columns) if self.mixup else columns

    def _mix(
        self,
        index: int,
        pixels: NDArray[np.uint8],
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
        if self.seed is None:
            self.order = np.concatenate(self.members)
            return
        random = np.random.default_rng((self.seed, self.epoch))
        drawn = [random.choice(rows, _count_drawn(rows), replace=False) for rows in self.members]
        self.order = random.permutation(np.concatenate(drawn))


def _list_members(groups: NDArray[np.int64] | None, scans: int) -> list[NDArray[np.int64]]:
    """Give the rows of each group; without groups every scan is one of its own, in order."""
    if groups is None:
        return list(np.arange(scans).reshape(-1, 1))
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.cumsum(np.unique(groups, return_counts=True)[1])[:-1])


def _count_drawn(group: NDArray[np.int64]) -> int:
    return math.ceil(math.sqrt(len(group)))
