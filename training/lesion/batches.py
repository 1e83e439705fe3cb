"""The batches of a lesion network: scans, classes and lesion masks."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.batches import Batches
from training.data.duplicates import list_members
from training.data.outlines import Outline, draw_mask
from training.data.task import Task
from training.lesion.augment import Augmentation, Sample
from training.models import Recipe
from training.models.lesion import STRIDE

UNKNOWN = -1.0  # in a mask, where nobody knows whether there is a tumour


class LesionBatches(Batches):
    """Scans, and what a lesion network is to say of them.

    While training, an epoch draws as many scans of every class, and of each near-duplicate group
    one, with an outline if one has it. The recipe says how many, and how strongly they vary.
    """

    threads = 2

    def _prepare(self, task: Task, recipe: Recipe) -> None:
        part = self.part
        self.healthy = task.healthy
        self.drawn = recipe.drawn or len(part.labels)
        self.augmentation = Augmentation(recipe.augmentation if self.seed is not None else 0.0)
        self.blank = self.targets[part.labels == self.healthy][:1]
        self.groups = [_prefer_outlined(rows, part.outlines) for rows in list_members(part.groups)]

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
            healthy=self.part.labels[row] == self.healthy,
        )
        mask = cv2.resize(sample.mask, 2 * (size // STRIDE,), interpolation=cv2.INTER_AREA)
        known = np.asarray(mask, np.float32) / 255
        if outline is None:
            known = np.full(mask.shape, UNKNOWN, np.float32)
        target = self.blank[0] if sample.lesion_free else self.targets[row]
        return sample.pixels[..., np.newaxis], known, target

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
