"""A program of its own that decodes one picture, within bounded memory and time.

`brainscan.scan.confined` starts it. It reads a file from standard input; to standard output it
writes a line of JSON, and after that the pixels. It imports nothing of brainscan, which would take
longer than to decode.
"""

import io
import json
import os
import resource
import struct
import sys
from pathlib import Path
from typing import Any

from PIL import Image, ImageFile, UnidentifiedImageError

_EXIF_ORIENTATION = 0x0112
_BAND = 2**20  # pixels that are written together
_AS_THEY_ARE = ("L", "RGB", "I;16")
_STATISTICS = Path("/proc/self/statm")  # of Linux; its first number is the pages of memory in use
_DAMAGE = (
    *(ArithmeticError, AssertionError, EOFError, LookupError, OSError, RuntimeError, SyntaxError),
    *(TypeError, ValueError, struct.error),
)


def main(name: str, most_pixels: int, most_bytes: int, most_seconds: int) -> None:
    """Decode what standard input holds.

    Args:
        name: Pillow's name of its format: "HEIF", "AVIF" or "JPEG2000".
        most_pixels: of a larger picture, only its size is written.
        most_bytes: that may be used, beyond those that the program itself takes.
        most_seconds: of processor time.
    """
    _prepare(name)
    data = sys.stdin.buffer.read()
    _limit(most_bytes, most_seconds)
    try:
        with Image.open(io.BytesIO(data), formats=(name,)) as image:
            found = {"size": image.size, "pages": getattr(image, "n_frames", 1)}
            if image.width * image.height <= most_pixels:
                image.load()
                orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
                mode = image.mode if image.mode in _AS_THEY_ARE else "RGB"
                found |= {"size": image.size, "mode": mode, "orientation": orientation}
            _say(found)
            if "mode" in found:
                _write(image)
    except UnidentifiedImageError:  # it says no more than the address of the file's object
        _say({"damage": "its header is not valid"})
    except MemoryError:
        _say({"excess": "it takes too much memory"})
    except _DAMAGE as error:
        _say({"damage": str(error).strip() or "its pixels are missing"})


def _prepare(name: str) -> None:
    """Load a decoder, which is to use one thread: each takes memory of its own."""
    if name == "HEIF":
        from pillow_heif import register_heif_opener

        register_heif_opener(
            decode_threads=1, thumbnails=False, depth_images=False, aux_images=False
        )
    elif name == "AVIF":
        from PIL import AvifImagePlugin

        AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    else:
        from PIL import Jpeg2KImagePlugin  # noqa: F401  it registers itself
    Image.MAX_IMAGE_PIXELS = None
    ImageFile.LOAD_TRUNCATED_IMAGES = False


def _limit(most_bytes: int, most_seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (most_seconds, most_seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if _STATISTICS.exists():
        taken = int(_STATISTICS.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (taken + most_bytes, taken + most_bytes))


def _say(found: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(found).encode() + b"\n")


def _write(image: Image.Image) -> None:
    """Write the pixels, some rows at a time: all copies of them at once would be held."""
    step = max(1, _BAND // image.width)
    for top in range(0, image.height, step):
        rows = image.crop((0, top, image.width, min(top + step, image.height)))
        sys.stdout.buffer.write(_flatten(rows).tobytes())


def _flatten(image: Image.Image) -> Image.Image:
    """Lay transparency over black, the background of a scan."""
    if image.mode in _AS_THEY_ARE:
        return image
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    flat = Image.new("RGB", image.size)
    flat.paste(rgba, mask=rgba.getchannel("A"))
    return flat


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
