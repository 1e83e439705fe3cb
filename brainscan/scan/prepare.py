"""Grey picture → the array a model takes: crop around the head, resize."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from brainscan.scan.crop import Box, find_head
from brainscan.scan.decode import MAX_PIXELS, count_pages, decode_picture
from brainscan.scan.resemblance import NOT_A_SCAN, looks_like_scan

CROP_FELL_BACK = (
    "No clear outline of a head was found, so the whole image was used instead of a crop."
)


@dataclass(frozen=True)
class ScanSpecification:
    """What a model expects of a scan; part of its card, so it travels with the model.

    Attributes:
        size: width and height of the array, in pixels.
        crop: whether the scan is cropped around its biggest contour first.
    """

    size: int
    crop: bool = True

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 1024:
            raise ValueError(f"A scan size of 16 to 1024 pixels is accepted. Received: {self.size}")


@dataclass(frozen=True, eq=False)
class PreparedScan:
    """A scan as a model takes it.

    Attributes:
        pixels: uint8, shape (size, size, 1), 0 to 255.
        box: the part of the decoded picture that was kept.
        whole: width and height of the decoded picture, in pixels.
        warnings: what a reader of the prediction should know.
    """

    pixels: NDArray[np.uint8]
    box: Box
    whole: tuple[int, int]
    warnings: tuple[str, ...] = ()


def prepare_scan(grey: NDArray[np.uint8], specification: ScanSpecification) -> PreparedScan:
    """Crop a grey picture around the head and resize it to a square.

    Args:
        grey: uint8, shape (height, width), as `decode_scan` gives it.
        specification: the model's.

    Returns:
        The prepared scan; where the crop is degenerate the whole picture, with a warning.
    """
    height, width = grey.shape
    whole = Box(0, 0, width, height)
    box = find_head(grey) if specification.crop else whole
    warnings = () if box else (CROP_FELL_BACK,)
    box = box or whole
    kept = grey[box.top : box.bottom, box.left : box.right]
    side = specification.size
    shrinks = kept.shape[0] > side or kept.shape[1] > side
    pixels = cv2.resize(
        kept, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return PreparedScan(
        np.asarray(pixels, np.uint8)[..., np.newaxis], box, (width, height), warnings
    )


def read_scan(
    data: bytes, specification: ScanSpecification, *, max_pixels: int = MAX_PIXELS
) -> PreparedScan:
    """Decode and prepare the bytes of an image file; raises `ScanError` as `decode_scan` does.

    Beside those of `prepare_scan`, there are warnings of what the file itself is.
    """
    picture = decode_picture(data, max_pixels=max_pixels)
    prepared = prepare_scan(picture.grey, specification)
    warnings = list(prepared.warnings)
    if not looks_like_scan(*picture):
        warnings.append(NOT_A_SCAN)
    if (pages := count_pages(data)) > 1:
        warnings.append(f"The file holds {pages} pages; only the first was read.")
    return replace(prepared, warnings=tuple(warnings))
