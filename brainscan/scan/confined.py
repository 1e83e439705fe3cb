"""Decoding in a process of its own, for formats whose decoders cannot be bounded in this one.

A file of these formats may hold a picture of another size than it says, which its decoder makes
before anybody sees it. Here the kernel bounds the memory and the time, and a decoder that crashes
takes nobody with it.
"""

import json
import math
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainscan.scan.bounds import ExcessError
from brainscan.scan.memory import check_size

_PROGRAM = Path(__file__).with_name("decoder.py")
_SPARE = 64_000_000  # bytes: the file, and what a decoder takes for any picture
_MOST_SECONDS = 20  # of processor time
_OUT_OF_TIME = (signal.SIGXCPU, signal.SIGKILL)
# Pillow's name of how pixels are stored → their number type, and the channels of each.
_STORED: dict[str, tuple[Any, ...]] = {"L": ("u1",), "I;16": ("<u2",), "RGB": ("u1", 3)}


@dataclass(frozen=True, eq=False)
class Decoded:
    """A picture as its file stores it.

    Attributes:
        pixels: uint8 of shape (height, width) or (height, width, 3), red first, or uint16 of shape
            (height, width); transparency is laid over black.
        pages: how many pictures the file holds.
        orientation: of EXIF.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    pages: int
    orientation: object


def decode_confined(data: bytes, name: str, most_pixels: int, most_bytes: int) -> Decoded:
    """Decode the first picture of a file in a process of its own.

    Args:
        data: the whole file.
        name: Pillow's name of its format: "HEIF", "AVIF" or "JPEG2000".
        most_pixels: the largest width × height accepted.
        most_bytes: of memory, for the picture.

    Raises:
        ScanError: too small or too large.
        ExcessError: it takes more memory than that, or too long.
        ValueError: it is damaged.
    """
    # -I: neither the environment nor the current folder says what is imported.
    command = [sys.executable, "-I", str(_PROGRAM), name]
    command += map(str, (most_pixels, most_bytes + _SPARE, _MOST_SECONDS))
    done = subprocess.run(  # noqa: PLW1510  how it ended is looked at below
        command, input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    if -done.returncode in _OUT_OF_TIME:
        raise ExcessError(f"it takes longer than {_MOST_SECONDS} seconds")
    start = done.stdout.find(b"\n") + 1
    found = json.loads(done.stdout[:start] or b'{"damage": "its decoder crashed"}')
    if "excess" in found:
        raise ExcessError(found["excess"])
    if "damage" in found:
        raise ValueError(found["damage"])
    width, height = found["size"]
    check_size(width, height, most_pixels)
    number, *channels = _STORED[found["mode"]]
    shape = height, width, *channels
    pixels = np.frombuffer(done.stdout, number, math.prod(shape), start)  # a copy would be large
    return Decoded(pixels.reshape(shape), found["pages"], found["orientation"])
