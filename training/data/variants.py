"""Document 000's augmentation: each scan in 21 variants that are the same every time."""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from brainscan.files import lock, move_into_place, staging_folder, sweep

_COLUMNS = 7
_GAP = 12
_LABEL_HEIGHT = 32
_FONT_SIZE = 16
_WHITE, _DARK = 255, 0
_STAGING_PREFIX = ".variants-"


@dataclass(frozen=True)
class Variant:
    """How a scan is changed: mirrored, turned, zoomed, then exposed.

    Attributes:
        turn: degrees to the left, about the middle of the scan.
        mirrored: whether left and right change places.
        zoom: factor on the size; what leaves the picture is lost, what enters it is black.
        exposure: factor on the brightness of every pixel; what goes beyond 255 stays 255.
    """

    turn: float = 0.0
    mirrored: bool = False
    zoom: float = 1.0
    exposure: float = 1.0

    def describe(self) -> str:
        """Say in a few words what differs from the scan."""
        side = "left" if self.turn > 0 else "right"
        changes = {
            "mirrored": self.mirrored,
            f"{abs(self.turn):g}° {side}": self.turn,
            f"zoom {self.zoom:g}": self.zoom != 1,
            f"exposure {self.exposure:g}": self.exposure != 1,
        }
        return ", ".join(text for text, here in changes.items() if here) or "the scan itself"


# Document 000 (section IV.B) names rotation, flip, exposure and zoom, and that they make 21 scans
# of one, but not by how much: the amounts stay within those of `training.augment` at strength 1.
# Scans are mirrored left-right, never upside down. The order is part of what a run means: newer
# code that changes it trains another model.
_VARIANTS = (
    Variant(),
    Variant(turn=6),
    Variant(turn=-6),
    Variant(turn=12),
    Variant(turn=-12),
    Variant(turn=18),
    Variant(turn=-18),
    Variant(mirrored=True),
    Variant(mirrored=True, turn=9),
    Variant(mirrored=True, turn=-9),
    Variant(mirrored=True, zoom=0.9),
    Variant(mirrored=True, zoom=1.1),
    Variant(mirrored=True, exposure=0.8),
    Variant(mirrored=True, exposure=1.2),
    Variant(zoom=0.88),
    Variant(zoom=1.12),
    Variant(exposure=0.7),
    Variant(exposure=1.3),
    Variant(turn=9, zoom=1.1),
    Variant(turn=-9, exposure=0.85),
    Variant(zoom=0.94, exposure=1.15),
)
VARIANTS = len(_VARIANTS)


def draw_variant(pixels: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """Draw one of the 21 variants of a scan; the same number always does the same.

    Args:
        pixels: uint8, shape (height, width) or (height, width, 1), 0 to 255.
        number: 0 (the scan itself) to 20.

    Returns:
        A new array of the same shape and type.
    """
    variant = _VARIANTS[number]
    drawn = pixels.copy()
    height, width = pixels.shape[:2]
    if variant.mirrored or variant.turn or variant.zoom != 1:
        matrix = _place(variant, height, width)
        cv2.warpAffine(pixels, matrix, (width, height), dst=drawn)  # black where nothing was
    if variant.exposure != 1:
        cv2.LUT(drawn, _tabulate(variant.exposure), dst=drawn)
    return drawn


def keep_variants(scans: NDArray[np.uint8], cache: Path) -> NDArray[np.uint8]:
    """Draw all variants of scans, or read back those of the same scans that were drawn before.

    A small network's step is faster than drawing its batch, and the variants of a data set may be
    more than memory holds: all epochs of all runs read them from one file.

    Args:
        scans: uint8, shape (scans, size, size, 1), 0 to 255.
        cache: folder that keeps them; made if it does not exist.

    Returns:
        uint8, shape (scans, 21, size, size, 1), read from disk as it is needed.
    """
    digest = hashlib.sha256(Path(__file__).read_bytes())
    digest.update(np.ascontiguousarray(scans).data)
    path = cache / f"variants-{digest.hexdigest()[:32]}.npy"
    cache.mkdir(parents=True, exist_ok=True)
    with lock(cache / ".lock"):
        if not path.exists():
            sweep(cache, _STAGING_PREFIX)
            with staging_folder(path, _STAGING_PREFIX) as staging:
                shape = len(scans), VARIANTS, *scans.shape[1:]
                drawn = np.lib.format.open_memmap(staging / path.name, "w+", np.uint8, shape)
                for scan, places in zip(scans, drawn, strict=True):
                    for number, place in enumerate(places):
                        place[:] = draw_variant(scan, number)
                drawn.flush()
                move_into_place(staging / path.name, path)
    kept: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return kept


@cache
def _place(variant: Variant, height: int, width: int) -> NDArray[np.float64]:
    """Give the 2 × 3 matrix from a pixel of the scan to its place in the variant."""
    middle = ((width - 1) / 2, (height - 1) / 2)
    matrix = np.asarray(cv2.getRotationMatrix2D(middle, variant.turn, variant.zoom), np.float64)
    if variant.mirrored:
        matrix = matrix @ [[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]]
    return matrix


@cache
def _tabulate(exposure: float) -> NDArray[np.uint8]:
    """Give each of the 256 values its value under an exposure."""
    return np.asarray(np.minimum(np.rint(np.arange(256) * exposure), 255), np.uint8)


def draw_sheet(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Draw all variants of a scan as one picture, as document 000's Figure 3 does.

    Args:
        pixels: uint8, shape (size, size, 1), as a model takes it; 200 pixels or more leave room
            for what is written below each variant.

    Returns:
        uint8, shape (height, width): three rows of seven on white, with number and description.
    """
    size = pixels.shape[0]
    across, down = size + _GAP, size + _LABEL_HEIGHT + _GAP
    rows = -(-VARIANTS // _COLUMNS)
    sheet = Image.new("L", (_COLUMNS * across + _GAP, rows * down + _GAP), _WHITE)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_SIZE)
    for number, variant in enumerate(_VARIANTS):
        row, column = divmod(number, _COLUMNS)
        left, top = _GAP + column * across, _GAP + row * down
        sheet.paste(Image.fromarray(draw_variant(pixels, number)[..., 0]), (left, top))
        middle = top + size + _LABEL_HEIGHT // 2
        pen.text((left, middle), f"{number}  {variant.describe()}", _DARK, font, anchor="lm")
    return np.asarray(sheet)
