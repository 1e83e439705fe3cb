"""Times the bare loops that `flask predict` and the preparation of a data set are compared with."""

import os
import time
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkContext, SpawnContext
from pathlib import Path
from typing import Any


def time_loop(
    context: ForkContext | SpawnContext,
    loop: Callable[..., None],
    files: Sequence[Path],
    *more: Any,
) -> float:
    """Seconds of a loop in one process for each core; it takes its share of the files, and more."""
    cores = os.cpu_count() or 1
    workers = [
        context.Process(target=loop, args=(files[core::cores], *more)) for core in range(cores)
    ]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - start
