"""The batches of a lesion network: scans, classes and lesion masks."""

import math
from typing import Any

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from training.data.audit import list_members
from training.data.outlines import Outline, draw_mask
from training.data.split import Part
from training.lesion.augment import Augmentation, Sample
from training.models import Recipe
from training.models.lesion import STRIDE
from training.task import Task

UNKNOWN = -1.0  # in a mask, where nobody knows whether there is a tumour


class LesionBatches(keras.utils.PyDataset):
    """Batches of scans, and of what a lesion network is to say of them.

    While training, an epoch draws as many scans of every class, and of each near-duplicate group
    one, with an outline if one has it. What is drawn depends on the seed and the epoch alone.

    Args:
        part: scans with labels, groups and outlines.
        task: gives the targets.
        recipe: how many scans an epoch draws, and how strongly they vary.
        batch: scans a batch.
        seed: of the draw and the variations. None takes every scan as it is, in order.
        epoch: the epoch to begin with.
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
        super().__init__(workers=1 if seed is None else 2)
        self.part, self.task, self.batch, self.seed, self.epoch = part, task, batch, seed, epoch
        self.drawn = recipe.drawn or len(part.labels)
        self.augmentation = Augmentation(recipe.augmentation if seed is not None else 0.0)
        self.targets = task.encode(part.labels)
        self.blank = self.targets[part.labels == task.healthy][:1]
        self.groups = [_prefer_outlined(rows, part.outlines) for rows in list_members(part.groups)]
        self._draw_order()

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.float32]]]:
        rows = self.order[index * self.batch : (index + 1) * self.batch]
        random = np.random.default_rng((self.seed or 0, self.epoch, index))
        samples = [self._vary(int(row), random) for row in rows]
        pixels, masks, targets = (np.stack(column) for column in zip(*samples, strict=True))
        return pixels, {"probabilities": targets, "lesion": masks}

    def _vary(self, row: int, random: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """Give pixels (size, size, 1), mask (size / 4, size / 4) and target of a scan."""
        scan, outline = self.part.inputs[row][..., 0], self.part.outlines[row]
        size = scan.shape[0]
        sample = Sample(scan, draw_mask(outline or (), size))
        sample = self.augmentation.vary(
            sample,
            random,
            outlined=bool(outline) and len(self.blank) > 0,
            healthy=self.part.labels[row] == self.task.healthy,
        )
        mask = cv2.resize(sample.mask, 2 * (size // STRIDE,), interpolation=cv2.INTER_AREA)
        known = np.asarray(mask, np.float32) / 255 if outline is not None else None
        if known is None:
            known = np.full(mask.shape, UNKNOWN, np.float32)
        target = self.blank[0] if sample.lesion_free else self.targets[row]
        return sample.pixels[..., np.newaxis], known, target

    def on_epoch_end(self) -> None:
        """Draw the next epoch; Keras calls it after each."""
        self.epoch += 1
        self._draw_order()

    def _draw_order(self) -> None:
        if self.seed is None:
            self.order = np.arange(len(self.part.labels))
            return
        random = np.random.default_rng((self.seed, self.epoch))
        labels = np.array([self.part.labels[rows[0]] for rows in self.groups])
        classes = np.unique(labels)
        order: list[int] = []
        for number in classes:
            groups = np.nonzero(labels == number)[0]
            count = self.drawn // len(classes)
            rounds = [random.permutation(groups) for _ in range(-(-count // len(groups)))]
            order += [
                int(random.choice(self.groups[one])) for one in np.concatenate(rounds)[:count]
            ]
        self.order = random.permutation(np.array(order))


def _prefer_outlined(
    rows: NDArray[np.int64], outlines: tuple[Outline | None, ...]
) -> NDArray[np.int64]:
    outlined = rows[[outlines[row] is not None for row in rows]]
    return outlined if len(outlined) else rows
