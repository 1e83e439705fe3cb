"""Whether other renderings of the same scan change what a model answers, and whether that is said.

    python -m benchmarks.renderings --data instance/data/nickparvar

Each scan is saved again in every way of the table: with more bits, as a negative, dim, in a frame,
with something drawn on it, turned. A changed label is silent where the rendering has no warning
that the scan itself has not.
"""

import argparse
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from brainscan import Answer, Examination, ImageFile, Model, ScanError, examine_files, open_model
from training.data.folders import find_scans

Grey = NDArray[np.uint8]

_PHOTOMETRIC = 262
_TWELVE_BITS = 16  # times 255: as scanners store them
_SIXTEEN_BITS = 257
_WHITE, _TOOLS, _TEXT = 255, 190, 40
_RED = (0, 0, 255)  # as OpenCV orders channels
_FONT = cv2.FONT_HERSHEY_SIMPLEX


class Row(NamedTuple):
    """What became of one rendering of all scans: how many."""

    name: str
    changed: int
    silent: int
    warned: int
    refused: int


def encode(pixels: NDArray[Any], ending: str = ".png") -> bytes:
    """Save pixels of any number type and channels, blue first."""
    return bytes(cv2.imencode(ending, pixels)[1])


def deepen(grey: Grey, factor: int = _TWELVE_BITS) -> NDArray[np.uint16]:
    """Give 12 bits, or 16."""
    return grey.astype(np.uint16) * np.uint16(factor)


def save_hot_pixel(grey: Grey) -> bytes:
    """Save 12 bits in 16, and one pixel of the largest value."""
    deep = deepen(grey)
    deep[deep.shape[0] // 3, deep.shape[1] // 3] = 65535
    return encode(deep)


def save_label(grey: Grey) -> bytes:
    """Save 12 bits in 16, and a label of the largest value."""
    deep = deepen(grey)
    label = np.zeros_like(grey)
    cv2.putText(label, "R 12:30", (4, 16), _FONT, 0.45, 255, 1)
    deep[label > 0] = 65535
    return encode(deep, ".tiff")


def save_not_numbers(grey: Grey) -> bytes:
    """Save floating-point numbers whose air is NaN."""
    values = grey / np.float32(300)
    values[grey < 12] = np.nan
    return encode(values, ".tiff")


def save_padded(grey: Grey, kind: type) -> bytes:
    """Save a scan in a square of padding, -2000."""
    side = max(grey.shape) + 40
    values = np.full((side, side), -2000, kind)
    top, left = (side - grey.shape[0]) // 2, (side - grey.shape[1]) // 2
    values[top : top + grey.shape[0], left : left + grey.shape[1]] = grey.astype(kind) * 4
    return encode(values, ".tiff")


def save_channels(grey: Grey, count: int) -> bytes:
    """Save 12 bits in 16 of every channel; the fourth is opaque."""
    deep = np.repeat(deepen(grey)[..., np.newaxis], count, axis=2)
    deep[..., 3:] = 65535
    return encode(deep)


def save_with_opacity(grey: Grey) -> bytes:
    """Save grey and opacity, 8 bits each."""
    file = io.BytesIO()
    Image.fromarray(grey).convert("LA").save(file, "PNG")
    return file.getvalue()


def save_white_zero(pixels: NDArray[Any]) -> bytes:
    """Save a TIFF in which 0 is white; of 8 bits, Pillow inverts the pixels itself."""
    file = io.BytesIO()
    stored = pixels if pixels.dtype == np.uint8 else np.iinfo(pixels.dtype).max - pixels
    Image.fromarray(stored).save(file, "TIFF", tiffinfo={_PHOTOMETRIC: 0})
    return file.getvalue()


def frame(grey: Grey, value: int) -> bytes:
    """Save a scan in a border a quarter as wide as it is."""
    wide = max(grey.shape) // 4
    return encode(cv2.copyMakeBorder(grey, *4 * (wide,), cv2.BORDER_CONSTANT, value=value))


def show_in_viewer(grey: Grey) -> bytes:
    """Save a screenshot: the scan on a black canvas among grey tools with buttons and text."""
    canvas = cv2.copyMakeBorder(grey, 12, 12, 60, 60, cv2.BORDER_CONSTANT, value=0)
    cv2.putText(canvas, "T1 C+", (4, 24), _FONT, 0.35, _WHITE, 1)
    shot = cv2.copyMakeBorder(canvas, 32, 18, 48, 90, cv2.BORDER_CONSTANT, value=_TOOLS)
    height, width = shot.shape
    for left in range(56, width - 100, 60):
        cv2.putText(shot, "Open", (left, 20), _FONT, 0.4, _TEXT, 1)
    for top in range(44, height - 50, 44):
        cv2.rectangle(shot, (10, top), (37, top + 26), 90, -1)
    for top in range(50, height - 30, 24):
        cv2.putText(shot, "Series 1", (width - 80, top), _FONT, 0.35, _TEXT, 1)
    return encode(shot)


def show_several(grey: Grey) -> bytes:
    """Save two copies of a scan next to each other."""
    return encode(np.hstack((grey, grey)))


def draw_ring(grey: Grey, colour: int | tuple[int, int, int]) -> bytes:
    """Save a scan with a ring drawn on it."""
    height, width = grey.shape
    drawn = grey.copy() if isinstance(colour, int) else cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    centre, radius = (int(width * 0.38), int(height * 0.42)), int(min(grey.shape) * 0.11)
    cv2.circle(drawn, centre, radius, (colour,) if isinstance(colour, int) else colour, 2)
    return encode(drawn)


RENDERINGS: dict[str, Callable[[Grey], bytes]] = {
    "PNG": encode,
    "16-bit PNG, a hot pixel": save_hot_pixel,
    "16-bit TIFF, a burnt-in label": save_label,
    "float TIFF, air is NaN": save_not_numbers,
    "16-bit RGB PNG": lambda grey: save_channels(grey, 3),
    "16-bit RGBA PNG": lambda grey: save_channels(grey, 4),
    "LA PNG": save_with_opacity,
    "MinIsWhite TIFF": save_white_zero,
    "MinIsWhite TIFF, 16 bits": lambda grey: save_white_zero(deepen(grey, _SIXTEEN_BITS)),
    "negative JPEG": lambda grey: encode(255 - grey, ".jpg"),
    "negative PNG, 16 bits": lambda grey: encode(4095 - deepen(grey)),
    "dim PNG (× 0.2)": lambda grey: encode(np.rint(grey * 0.2).astype(np.uint8)),
    "a white border": lambda grey: frame(grey, _WHITE),
    "a grey border": lambda grey: frame(grey, 128),
    "in a viewer's screenshot": show_in_viewer,
    "two next to each other": show_several,
    "a red ring": lambda grey: draw_ring(grey, _RED),
    "a white ring": lambda grey: draw_ring(grey, _WHITE),
    "int16 TIFF, padding": lambda grey: save_padded(grey, np.int16),
    "float TIFF, padding": lambda grey: save_padded(grey, np.float32),
    "mirrored": lambda grey: encode(grey[:, ::-1]),
    "turned by 90°": lambda grey: encode(np.rot90(grey)),
}


def choose_scans(data: Path, count: int) -> list[Path]:
    """Choose scans of all classes alike, spread over their files."""
    scans = find_scans(data)
    labels = sorted({scan.label for scan in scans})
    each = -(-count // len(labels))
    chosen = []
    for label in labels:
        paths = [scan.path for scan in scans if scan.label == label]
        chosen += paths[:: max(1, len(paths) // each)][:each]
    return chosen[:count]


def compare(model: Model, scans: Sequence[bytes]) -> list[Row]:
    """Examine scans and their renderings; every scan must be readable."""
    plain = [one for one in examine(model, scans) if isinstance(one, Examination)]
    greys = [cv2.imdecode(np.frombuffer(scan, np.uint8), cv2.IMREAD_GRAYSCALE) for scan in scans]
    rows = []
    for name, render in tqdm(RENDERINGS.items(), unit="rendering", disable=None):
        found = examine(model, [render(np.asarray(grey, np.uint8)) for grey in greys])
        changed = silent = warned = refused = 0
        for one, other in zip(plain, found, strict=True):
            if isinstance(other, ScanError):
                refused += 1
                continue
            told = bool({w.code for w in other.warnings} - {w.code for w in one.warnings})
            differs = one.label != other.label
            changed += differs
            silent += differs and not told
            warned += told
        rows.append(Row(name, changed, silent, warned, refused))
    return rows


def examine(model: Model, files: Sequence[bytes]) -> list[Answer | ScanError]:
    """Examine the bytes of files."""
    return examine_files(model, [ImageFile(str(n), data) for n, data in enumerate(files)])


def main() -> None:
    """Print a row for each rendering."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("instance/models/lesion-lite0"))
    parser.add_argument("--data", type=Path, required=True, help="folder-per-class tree")
    parser.add_argument("--scans", type=int, default=60)
    arguments = parser.parse_args()
    scans = [path.read_bytes() for path in choose_scans(arguments.data, arguments.scans)]
    rows = compare(open_model(arguments.model), scans)
    print(f"{len(scans)} scans\n")
    print("| rendering | label changed | silently | with a warning | refused |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(f"| {row.name} | {row.changed} | {row.silent} | {row.warned} | {row.refused} |")


if __name__ == "__main__":
    main()
