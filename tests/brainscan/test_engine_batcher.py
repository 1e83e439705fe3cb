import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from brainscan.engine import Outputs
from brainscan.engine.batcher import Batcher


def mean(pixels: np.ndarray) -> Outputs:
    return Outputs(pixels.mean((1, 2), dtype=np.float32), None)


def scans(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.uint8)[:, None, None, None] + np.zeros((1, 2, 2, 1), np.uint8)


def test_what_comes_while_the_model_is_at_work_runs_together() -> None:
    sizes: list[int] = []
    started, gathered = threading.Event(), threading.Event()

    def run(pixels: np.ndarray) -> Outputs:
        sizes.append(len(pixels))
        if len(sizes) == 1:
            started.set()
            assert gathered.wait(10)
        gathered.set()
        return mean(pixels)

    batcher = Batcher(run, run, size=4, threads=2)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(batcher.predict, scans(1))
        assert started.wait(10)
        outputs = batcher.predict(scans(9))
        assert first.result().probabilities.tolist() == [[0]]
    assert outputs.probabilities.ravel().tolist() == list(range(9))
    assert sizes == [1, 4, 4, 1]


def test_a_failure_reaches_all_who_wait_and_the_next_are_answered() -> None:
    def fail(_: np.ndarray) -> Outputs:
        raise RuntimeError("no memory")

    batcher = Batcher(mean, fail, size=2, threads=1)
    with pytest.raises(RuntimeError, match="no memory"):
        batcher.predict(scans(4))
    assert batcher.predict(scans(1)).probabilities.tolist() == [[0]]
