"""Grey picture → the array a model takes: crop around the head, resize."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from brainscan.scan.formats import MAX_PIXELS, read_picture
from brainscan.scan.frame import Box
from brainscan.scan.picture import Picture


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
        box: the part of the picture that was kept, in its pixels.
        whole: width and height of the picture, in pixels.
        found_head: whether the box is the head's; True where none was searched for.
    """

    pixels: NDArray[np.uint8]
    box: Box
    whole: tuple[int, int]
    found_head: bool = True


def prepare_scan(picture: Picture, specification: ScanSpecification) -> PreparedScan:
    """Crop a picture around the head and resize it to a square.

    Args:
        picture: as `read_picture` gives it.
        specification: the model's.

    Returns:
        The prepared scan; where no head is found, of the whole picture.
    """
    whole = Box(0, 0, *picture.size)
    found = picture.outline.box if specification.crop else whole
    box = found or whole
    kept = picture.grey[box.top : box.bottom, box.left : box.right]
    side = specification.size
    shrinks = kept.shape[0] > side or kept.shape[1] > side
    pixels = cv2.resize(
        kept, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return PreparedScan(
        np.asarray(pixels, np.uint8)[..., np.newaxis], box, picture.size, found is not None
    )


def read_scan(
    data: bytes, specification: ScanSpecification, *, max_pixels: int = MAX_PIXELS
) -> PreparedScan:
    """Decode and prepare the bytes of a file; raises `ScanError` as `read_picture` does."""
    return prepare_scan(read_picture(data, max_pixels=max_pixels), specification)
