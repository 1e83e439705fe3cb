"""`flask predict` compared with a bare loop over the same scans, on all cores.

    python -m benchmarks.bulk --data instance/data/nickparvar
    python -m benchmarks.bulk --data instance/data/nickparvar --ray 127.0.0.1:6379

The bare loop is what one would write by hand: one process per core, which reads files, prepares
them, runs the same graph on them and keeps nothing. `flask predict` also lists the files, refuses
damaged ones, judges, measures lesions, and writes rows. Both are timed from the start of the first
process to the end of the last. They take turns, with the command on a Ray cluster where one is
named.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from benchmarks.processes import time_loop
from benchmarks.serving import find_bundle
from brainscan.bundle import read_bundle
from brainscan.engine import choose_engine
from brainscan.scan import ScanError, read_scan
from brainscan.scan.folders import find_images

MODELS = Path("instance/models")


def run_bare(files: Sequence[Path], bundle: Path, batch: int) -> None:
    """Read, prepare and predict every file in one process."""
    cv2.setNumThreads(1)
    card = read_bundle(bundle)
    engine = choose_engine("openvino", 1)(bundle, card)
    for start in range(0, len(files), batch):
        scans = []
        for path in files[start : start + batch]:
            try:
                scans.append(read_scan(path.read_bytes(), card.scan).pixels)
            except ScanError as error:
                print(f"{path}: {error}")
        engine.predict(np.stack(scans))


def time_command(data: Path, model: str, *options: str) -> float:
    """Seconds of `flask predict` into a Parquet file."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "flask", "predict", str(data), "--model", model]
        start = time.perf_counter()
        subprocess.run(
            [*command, "--out", f"{folder}/rows.parquet", *options],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return time.perf_counter() - start


def main() -> None:
    """Time what is compared in turn and print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="a folder of scans")
    parser.add_argument("--model", default="lesion-lite0")
    parser.add_argument("--ray", metavar="HOST:PORT", help="also time `flask predict --ray`")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    files = find_images([arguments.data])
    bundle = find_bundle(MODELS, arguments.model)
    for path in files:
        path.read_bytes()  # brings the files into memory
    seconds: dict[str, list[float]] = {}
    context = multiprocessing.get_context("spawn")
    for _ in range(arguments.rounds):
        for batch in (1, 4):
            bare = time_loop(context, run_bare, files, bundle, batch)
            seconds.setdefault(f"bare loop, {batch} at a time", []).append(bare)
        seconds.setdefault("flask predict", []).append(
            time_command(arguments.data, arguments.model)
        )
        if arguments.ray:
            seconds.setdefault("flask predict --ray", []).append(
                time_command(arguments.data, arguments.model, "--ray", arguments.ray)
            )
    own = seconds["flask predict"]
    print(f"{arguments.model}, {len(files):,} scans, {os.cpu_count()} cores")
    for name, taken in seconds.items():
        ratio = median(other / mine for other, mine in zip(taken, own, strict=True))
        print(
            f"{name:22} {len(files) / median(taken):7.1f} scans/s; flask predict: {ratio:.2f} of it"
        )


if __name__ == "__main__":
    main()
