"""The memory that decoding takes: of one file, and of several at once."""

import io
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from brainscan.scan import ScanError, read_picture
from brainscan.scan.memory import Budget

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
