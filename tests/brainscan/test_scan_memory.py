"""The memory that decoding takes: of one file, and of several at once."""

import io
import struct
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset

from brainscan.scan import ScanError, read_picture
from brainscan.scan.memory import Budget
from tests.volumes import write_dicom, write_nifti

PROJECT = Path(__file__).parents[2]
MEGABYTE = 1_000_000


def save(picture: Image.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


class TestBudget:
    def test_who_asks_for_more_than_is_left_waits(self) -> None:
        budget, entered = Budget(100 * MEGABYTE), threading.Event()

        def decode() -> None:
            with budget.hold(60 * MEGABYTE):
                entered.set()

        with budget.hold(50 * MEGABYTE):
            thread = threading.Thread(target=decode)
            thread.start()
            assert not entered.wait(0.1)
            with budget.hold(MEGABYTE):  # an ordinary scan waits for nobody
                pass
        thread.join(10)
        assert entered.is_set()

    def test_more_than_all_is_had_alone(self) -> None:
        budget = Budget(100 * MEGABYTE)
        for _ in range(2):
            with budget.hold(500 * MEGABYTE):
                pass

    def test_it_is_given_back_by_what_fails(self) -> None:
        budget = Budget(100 * MEGABYTE)
        for _ in range(2):
            with pytest.raises(ValueError, match="damaged"), budget.hold(100 * MEGABYTE):
                raise ValueError("damaged")


@pytest.mark.parametrize(
    ("file_format", "mode", "options", "most"),
    [
        ("PNG", "RGB", {}, 10_000),
        ("JPEG", "CMYK", {}, 10_000),
        ("JPEG", "RGB", {"progressive": True}, 5_833),
        ("WEBP", "RGB", {}, 4_117),
        ("TIFF", "L", {"compression": "tiff_lzw"}, 10_000),
    ],
    ids=["png", "jpeg", "progressive", "webp", "lzw"],
)
def test_fewer_pixels_are_accepted_where_each_takes_more_memory(
    file_format: str, mode: str, options: dict[str, Any], most: int
) -> None:
    data = save(Image.effect_noise((100, 100), 50).convert(mode), file_format, **options)
    if most == 10_000:
        assert read_picture(data, max_pixels=10_000).size == (100, 100)
        return
    with pytest.raises(ScanError) as caught:
        read_picture(data, max_pixels=10_000)
    assert (caught.value.code, caught.value.message.values["most"]) == ("image-too-large", most)


def test_a_tile_larger_than_its_picture_counts() -> None:
    tile = {322: 30_000, 323: 30_000, 324: 8, 325: 8}
    tags = {256: 64, 257: 64, 258: 8, 259: 8, 262: 1, 277: 1, **tile}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(100)
    with pytest.raises(ScanError) as caught:
        read_picture(data)
    assert caught.value.code == "image-too-large"


SIDE = 600
DEEP = np.add.outer(np.arange(SIDE), np.arange(SIDE)).astype(np.uint16)
TABLE = np.arange(2 * SIDE, dtype=np.uint16).tobytes()


def write_lookup(keyword: str) -> bytes:
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [2 * SIDE, 0, 16], TABLE
    return write_dicom(DEEP, **{keyword: [item]})


def write_palette() -> bytes:
    tables: dict[str, Any] = {}
    for colour in ("Red", "Green", "Blue"):
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [2 * SIDE, 0, 16]
        tables[f"{colour}PaletteColorLookupTableData"] = TABLE
    return write_dicom(DEEP, PhotometricInterpretation="PALETTE COLOR", **tables)


WRITE = {
    "rescaled": lambda: write_dicom(DEEP, RescaleSlope=2, PixelPaddingValue=3),
    "deflated": lambda: write_dicom(DEEP, uid.DeflatedExplicitVRLittleEndian),
    "rle": lambda: write_dicom(DEEP, uid.RLELossless),
    "jpeg-ls": lambda: write_dicom(DEEP, uid.JPEGLSLossless),
    "colour": lambda: write_dicom(np.dstack([DEEP.astype(np.uint8)] * 3), uid.JPEG2000Lossless),
    "modality": lambda: write_lookup("ModalityLUTSequence"),
    "voi": lambda: write_lookup("VOILUTSequence"),
    "palette": write_palette,
    "nifti": lambda: write_nifti(DEEP.astype(np.uint8).reshape(60, 60, 100)),
    "float": lambda: write_nifti(DEEP.astype(float).reshape(60, 60, 100), packed=False),
    "slice": lambda: write_nifti(DEEP.astype(np.int16)[..., np.newaxis]),
}


@pytest.mark.parametrize("kind", WRITE)
def test_what_a_volume_takes_is_held(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, held, before = WRITE[kind](), list[int](), list[int]()

    @contextmanager
    def hold(_: Budget, size: int) -> Iterator[None]:
        held.append(size)
        before.append(tracemalloc.get_traced_memory()[0])
        yield

    monkeypatch.setattr(Budget, "hold", hold)
    monkeypatch.setattr("brainscan.scan.planes._BAND", 2**12)
    read_picture(data)  # what is imported for it, and kept
    tracemalloc.start()
    read_picture(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert before[len(before) // 2] < MEGABYTE / 2  # of the second time
    assert peak < sum(held) / 2 + 2 * MEGABYTE


# Reads a file four times at once, and prints by how many bytes that made its process larger.
_READ = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
from brainscan.scan import read_picture
data = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with ThreadPoolExecutor(4) as threads:
    list(threads.map(lambda _: read_picture(data).size, range(4)))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
def test_four_large_ones_at_once() -> None:
    deep = np.zeros((5000, 5000), np.float32)
    deep[1000:4000, 1000:4000] = 1000
    data = save(Image.fromarray(deep), "TIFF", compression="tiff_adobe_deflate")
    command = [sys.executable, "-c", _READ]
    done = subprocess.run(command, input=data, capture_output=True, check=True, cwd=PROJECT)
    assert int(done.stdout) < 400 * MEGABYTE
