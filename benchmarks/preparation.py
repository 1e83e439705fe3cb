"""Preparing a data set compared with a bare decode-crop-resize loop, on all cores.

    python -m benchmarks.preparation --data instance/data/nickparvar
    python -m benchmarks.preparation --dicom slice.dcm

The bare loop is what one would write by hand: one process per core, OpenCV's decoder, the same crop
and resize, and nothing kept. Preparing also hashes the files, refuses damaged ones, makes the
thumbnails that find near-duplicates, and writes the arrays to disk.

A DICOM slice, of one channel and more than 8 bits, is compared with a PNG of its pixels: as it is,
and in every transfer syntax that can be written here.
"""

import argparse
import io
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import pydicom
from PIL import Image

from benchmarks.processes import time_loop
from brainscan.scan import Picture, ScanSpecification, prepare_scan, read_picture
from tests.volumes import NATIVE, WRITTEN, write_dicom
from training.data.cache import prepare_arrays
from training.data.folders import find_scans


def run_bare(files: Sequence[Path], specification: ScanSpecification) -> None:
    """Decode, crop and resize every file in one process."""
    cv2.setNumThreads(1)
    for path in files:
        grey = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE)
        prepare_scan(Picture(np.asarray(grey, np.uint8)), specification)


def time_preparation(files: Sequence[Path], specification: ScanSpecification) -> float:
    """Seconds of preparing into an empty cache."""
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        prepare_arrays(files, specification, Path(cache))
        return time.perf_counter() - start


def compare_dicom(path: Path, rounds: int) -> None:
    """Time reading a slice in each way that it can be stored, in turn, and print the fastest."""
    file = pydicom.dcmread(path)
    pixels = file.pixel_array.astype(np.uint16)
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    stored = {
        "PNG": png.getvalue(),
        f"as it is: {file.file_meta.TransferSyntaxUID.name}": path.read_bytes(),
        **{one.name: write_dicom(pixels, one) for one in (*NATIVE, *WRITTEN)},
    }
    seconds: dict[str, list[float]] = {name: [] for name in stored}
    for _ in range(rounds):
        for name, data in stored.items():
            start = time.perf_counter()
            read_picture(data)
            seconds[name].append(time.perf_counter() - start)
    print(f"{path.name}: {pixels.shape[1]} × {pixels.shape[0]} pixels, {rounds} rounds")
    for name, taken in seconds.items():
        ratio = min(taken) / min(seconds["PNG"])
        print(f"{name:52} {min(taken) * 1000:6.2f} ms  {ratio:5.2f}")


def main() -> None:
    """Time what is compared in turn and print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=Path, help="folder-per-class tree")
    what.add_argument("--dicom", type=Path, nargs="+", metavar="FILE", help="slices")
    parser.add_argument("--size", type=int, default=176)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.dicom:
        for path in arguments.dicom:
            compare_dicom(path, 10 * arguments.rounds)
        return
    files = [scan.path for scan in find_scans(arguments.data)]
    specification, context = ScanSpecification(arguments.size), multiprocessing.get_context("fork")
    time_loop(context, run_bare, files, specification)  # brings the files into memory
    rounds, bare, prepared = arguments.rounds, [], []
    for _ in range(rounds):
        bare.append(time_loop(context, run_bare, files, specification))
        prepared.append(time_preparation(files, specification))
    print(f"{len(files)} scans at {arguments.size} px, {os.cpu_count()} cores, {rounds} rounds")
    print(f"bare loop    {median(bare):6.2f} s")
    print(f"preparation  {median(prepared):6.2f} s")
    print(f"ratio        {median(p / b for p, b in zip(prepared, bare, strict=True)):6.2f}")


if __name__ == "__main__":
    main()
