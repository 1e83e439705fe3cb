from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from training.batches import ScanBatches
from training.data.split import Part, Variants
from training.data.task import BINARY_CLASSES, Task
from training.data.variants import VARIANTS, draw_variant
from training.models import Recipe

BINARY, TWO = Task(BINARY_CLASSES, binary=True), Task(BINARY_CLASSES)


def draw(
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64] | None = None,
    *,
    task: Task = TWO,
    batch: int = 20,
    seed: int | None = None,
    epoch: int = 0,
    **recipe: object,
) -> ScanBatches:
    """Draw batches; without groups, of every copy."""
    recipe = {"every_copy": groups is None, **recipe}
    drawn = np.array(
        [[draw_variant(scan, number) for number in range(VARIANTS)] for scan in pixels]
    )
    variants = Variants(drawn, np.arange(len(labels)))
    groups = np.arange(len(labels)) if groups is None else groups
    part = Part(pixels, labels, groups, variants=variants)
    return ScanBatches(part, task, Recipe(**recipe), batch, seed, epoch)


def numbered(scans: int) -> NDArray[np.uint8]:
    """Scans that show their own row."""
    return np.arange(scans, dtype=np.uint8).reshape(-1, 1, 1, 1)


def shown(batches: ScanBatches) -> list[int]:
    return [int(row) for index in range(len(batches)) for row in batches[index][0].ravel()]


class TestScanBatches:
    LABELS = np.array([0] * 15 + [1] * 5)

    def test_an_epoch_holds_every_scan_once(self) -> None:
        batches = draw(numbered(20), self.LABELS, batch=6, seed=3)
        assert len(batches) == 4
        assert sorted(shown(batches)) == list(range(20))
        assert [len(batches[index][0]) for index in range(4)] == [6, 6, 6, 2]

    def test_seed_and_epoch_decide_the_order(self) -> None:
        def begin(seed: int, epoch: int) -> ScanBatches:
            return draw(numbered(20), self.LABELS, batch=6, seed=seed, epoch=epoch)

        batches = begin(3, 0)
        epochs = []
        for _ in range(4):
            epochs.append(shown(batches))
            batches.on_epoch_end()
        assert len(set(map(tuple, epochs))) == 4
        assert shown(begin(3, 2)) == epochs[2]  # as a run that goes on with the third epoch
        assert shown(begin(4, 0)) != epochs[0]

    def test_without_a_seed_the_order_is_kept(self) -> None:
        batches = draw(numbered(20), self.LABELS, batch=6, mixup=0.5, variants=3)
        for _ in range(2):
            assert shown(batches) == list(range(20))
            batches.on_epoch_end()

    def test_targets_follow_the_scans(self) -> None:
        labels = np.arange(20) % 4
        batches = draw(numbered(20), labels, task=Task(("a", "b", "c", "d")), seed=1)
        pixels, targets, _ = batches[0]
        assert targets.shape == (20, 4)
        assert targets.argmax(axis=1).tolist() == (pixels.ravel() % 4).tolist()

    def test_a_tumour_without_a_name_has_a_column_of_its_own(self) -> None:
        labels = np.array([0, 1, 2, 2])  # the last two are of no class
        batches = draw(numbered(4), labels, task=Task(BINARY_CLASSES, unnamed=True))
        _, targets, weights = batches[0]
        assert targets.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]
        assert weights.tolist() == pytest.approx([4 / 3, 4 / 3, 2 / 3, 2 / 3])

    def test_a_binary_target_is_one_neurons(self) -> None:
        batches = draw(numbered(20), self.LABELS, task=BINARY, seed=1)
        pixels, targets, _ = batches[0]
        assert targets.shape == (20, 1)
        assert targets.ravel().tolist() == (pixels.ravel() >= 15).astype(int).tolist()

    def test_every_class_weighs_the_same(self) -> None:
        batches = draw(numbered(20), self.LABELS, task=BINARY, seed=1)
        _, targets, weights = batches[0]
        assert weights.mean() == pytest.approx(1)
        tumor = targets.ravel() == 1
        assert weights[tumor].sum() == pytest.approx(weights[~tumor].sum())

    def test_copies_of_a_scan_count_less(self) -> None:
        """A group of nine gives three scans to an epoch, new ones each time; a lone scan is in."""
        groups = np.array([7] * 9 + [8, 9, 4, 4, 4, 4, 1, 2, 3, 5, 6])
        batches = draw(numbered(20), self.LABELS, groups, task=BINARY, batch=4, seed=0)
        seen: set[int] = set()
        for _ in range(20):
            rows = shown(batches)
            assert len(rows) == len(set(rows)) == 3 + 2 + 2 + 5
            assert sum(row < 9 for row in rows) == 3
            assert sum(11 <= row < 15 for row in rows) == 2
            assert set(rows) >= {9, 10, 15, 16, 17, 18, 19}
            weights = np.concatenate([batches[index][2] for index in range(len(batches))])
            targets = np.concatenate([batches[index][1] for index in range(len(batches))])
            assert weights[targets[:, 0] == 1].sum() == pytest.approx(weights.sum() / 2)
            assert weights.mean() == pytest.approx(1)
            seen |= set(rows)
            batches.on_epoch_end()
        assert seen == set(range(20))

    def test_unbalanced_every_scan_weighs_the_same(self) -> None:
        groups = np.array([7] * 9 + list(range(8, 19)))
        batches = draw(numbered(20), self.LABELS, groups, task=BINARY, seed=1, balanced=False)
        weights = batches[0][2]
        assert weights.dtype == np.float32
        assert weights.tolist() == [1] * 14


class TestVariants:
    """Scans are random pictures, so what a batch shows tells the scan and the variant."""

    LABELS = np.array([0] * 9 + [1] * 3)
    PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 1), np.uint8)
    DRAWN: ClassVar[dict[bytes, tuple[int, int]]] = {
        draw_variant(scan, number).tobytes(): (row, number)
        for row, scan in enumerate(PIXELS)
        for number in range(VARIANTS)
    }

    def draw(self, variants: int, **settings: object) -> ScanBatches:
        return draw(
            self.PIXELS, self.LABELS, task=BINARY, batch=8, seed=3, variants=variants, **settings
        )

    def read(self, batches: ScanBatches) -> list[tuple[int, int]]:
        """Give row and variant of each scan of an epoch; targets and weights must be its own."""
        shown = []
        for index in range(len(batches)):
            for scan, target, weight in zip(*batches[index], strict=True):
                row, number = self.DRAWN[scan.tobytes()]
                assert target.tolist() == [self.LABELS[row]]
                assert weight == batches.weights[row]
                shown.append((row, number))
        return shown

    def test_with_all_an_epoch_holds_each_variant_of_each_scan(self) -> None:
        batches = self.draw(VARIANTS)
        assert len(batches) == -(-12 * VARIANTS // 8)
        for _ in range(2):
            assert sorted(self.read(batches)) == sorted(self.DRAWN.values())
            batches.on_epoch_end()

    @pytest.mark.parametrize("variants", [1, 3, 5])
    def test_over_the_epochs_each_variant_has_its_turn(self, variants: int) -> None:
        batches = self.draw(variants)
        seen = []
        for _ in range(VARIANTS):
            epoch = self.read(batches)
            assert len(set(epoch)) == len(epoch) == 12 * variants
            assert np.bincount([row for row, _ in epoch]).tolist() == [variants] * 12
            seen += epoch
            batches.on_epoch_end()
        assert sorted(seen) == sorted([*self.DRAWN.values()] * variants)

    def test_a_batch_mixes_scans_and_variants(self) -> None:
        shown = self.read(self.draw(1))[:8]
        assert len({number for _, number in shown}) > 4

    def test_none_shows_the_scans_in_the_order_they_always_had(self) -> None:
        batches = self.draw(0)
        shown = self.read(batches)
        assert {number for _, number in shown} == {0}
        random = np.random.default_rng((3, 0))
        drawn = np.concatenate([random.choice([row], 1, replace=False) for row in range(12)])
        assert [row for row, _ in shown] == random.permutation(drawn).tolist()

    def test_a_run_that_goes_on_sees_the_same(self) -> None:
        whole, resumed = self.draw(5), self.draw(5, epoch=3)
        for _ in range(3):
            whole.on_epoch_end()
        assert self.read(resumed) == self.read(whole)
        assert self.read(resumed) != self.read(self.draw(5))

    def test_classes_still_weigh_the_same(self) -> None:
        groups = np.array([0] * 4 + list(range(1, 9)))
        batches = draw(self.PIXELS, self.LABELS, groups, task=BINARY, batch=8, seed=0, variants=7)
        columns = [batches[index] for index in range(len(batches))]
        weights = np.concatenate([weights for _, _, weights in columns])
        tumor = np.concatenate([targets for _, targets, _ in columns])[:, 0] == 1
        assert len(weights) == 7 * (2 + 5 + 3)
        assert weights.mean() == pytest.approx(1)
        assert weights[tumor].sum() == pytest.approx(weights[~tumor].sum())

    def test_the_scans_themselves_stay_as_they_are(self) -> None:
        before = self.PIXELS.copy()
        self.read(self.draw(VARIANTS))
        assert np.array_equal(self.PIXELS, before)
