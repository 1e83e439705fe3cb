"""What libtiff says: heard by the thread that decodes, and written nowhere."""

import io
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from PIL import Image

from brainscan.scan import ScanError, read_picture
from brainscan.scan.libtiff import listen


def fax(rows: int, data: bytes) -> bytes:
    """Write a TIFF of 16 columns in fax code (Group 3) by hand."""
    tags = {256: 16, 257: rows, 258: 1, 259: 3, 262: 0, 273: 200, 277: 1, 278: rows, 279: len(data)}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory
    return head.ljust(200, b"\0") + data


def load(data: bytes) -> list[str]:
    with listen() as faults, Image.open(io.BytesIO(data)) as image:
        image.load()
    return faults


def test_a_fault_in_each_row_is_written_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    data = fax(2000, np.random.default_rng(0).bytes(1000))
    with pytest.raises(ScanError, match="at line") as caught:
        read_picture(data)
    assert caught.value.code == "damaged-image"
    assert capfd.readouterr() == ("", "")


def test_threads_hear_their_own(request: pytest.FixtureRequest) -> None:
    request.addfinalizer(partial(sys.setswitchinterval, sys.getswitchinterval()))
    sys.setswitchinterval(1e-6)  # so that they meet
    whole = io.BytesIO()
    Image.new("1", (64, 64), 1).save(whole, "TIFF", compression="group4")
    files = [whole.getvalue(), fax(500, bytes(range(256)))] * 50
    with ThreadPoolExecutor(8) as threads:
        heard = list(threads.map(load, files))
    assert [bool(faults) for faults in heard] == [False, True] * 50


def test_only_the_first_fault_is_kept() -> None:
    assert len(load(fax(500, bytes(range(256))))) == 1


def test_nobody_need_listen() -> None:
    with Image.open(io.BytesIO(fax(500, bytes(range(256))))) as image:
        image.load()
