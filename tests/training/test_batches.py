import numpy as np
import pytest
from numpy.typing import NDArray

from training.batches import ScanBatches


def numbered(scans: int) -> NDArray[np.uint8]:
    """Scans that show their own row."""
    return np.arange(scans, dtype=np.uint8).reshape(-1, 1, 1, 1)


def shown(batches: ScanBatches) -> list[int]:
    return [int(row) for index in range(len(batches)) for row in batches[index][0].ravel()]


class TestScanBatches:
    LABELS = np.array([0] * 15 + [1] * 5)

    def test_an_epoch_holds_every_scan_once(self) -> None:
        batches = ScanBatches(numbered(20), self.LABELS, classes=2, batch=6, binary=False, seed=3)
        assert len(batches) == 4
        assert sorted(shown(batches)) == list(range(20))
        assert [len(batches[index][0]) for index in range(4)] == [6, 6, 6, 2]

    def test_seed_and_epoch_decide_the_order(self) -> None:
        def draw(seed: int, epoch: int) -> ScanBatches:
            settings = {"classes": 2, "batch": 6, "binary": False}
            return ScanBatches(numbered(20), self.LABELS, **settings, seed=seed, epoch=epoch)

        batches = draw(3, 0)
        epochs = []
        for _ in range(4):
            epochs.append(shown(batches))
            batches.on_epoch_end()
        assert len(set(map(tuple, epochs))) == 4
        assert shown(draw(3, 2)) == epochs[2]  # as a run that goes on with the third epoch
        assert shown(draw(4, 0)) != epochs[0]

    def test_without_a_seed_the_order_is_kept(self) -> None:
        batches = ScanBatches(numbered(20), self.LABELS, classes=2, batch=6, binary=False)
        for _ in range(2):
            assert shown(batches) == list(range(20))
            batches.on_epoch_end()

    def test_targets_follow_the_scans(self) -> None:
        labels = np.arange(20) % 4
        batches = ScanBatches(numbered(20), labels, classes=4, batch=20, binary=False, seed=1)
        pixels, targets, _ = batches[0]
        assert targets.shape == (20, 4)
        assert targets.argmax(axis=1).tolist() == (pixels.ravel() % 4).tolist()

    def test_a_binary_target_is_one_neurons(self) -> None:
        batches = ScanBatches(numbered(20), self.LABELS, classes=2, batch=20, binary=True, seed=1)
        pixels, targets, _ = batches[0]
        assert targets.shape == (20, 1)
        assert targets.ravel().tolist() == (pixels.ravel() >= 15).astype(int).tolist()

    def test_every_class_weighs_the_same(self) -> None:
        batches = ScanBatches(numbered(20), self.LABELS, classes=2, batch=20, binary=True, seed=1)
        _, targets, weights = batches[0]
        assert weights.mean() == pytest.approx(1)
        tumor = targets.ravel() == 1
        assert weights[tumor].sum() == pytest.approx(weights[~tumor].sum())

    def test_copies_of_a_scan_count_less(self) -> None:
        """A group of nine gives three scans to an epoch, new ones each time; a lone scan is in."""
        groups = np.array([7] * 9 + [8, 9, 4, 4, 4, 4, 1, 2, 3, 5, 6])
        settings = {"classes": 2, "batch": 4, "binary": True}
        batches = ScanBatches(numbered(20), self.LABELS, groups, **settings, seed=0)
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
