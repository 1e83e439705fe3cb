"""What a model says of a head whose marked region is replaced by other tissue of that head."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from brainscan.examination import Examination
from brainscan.lesion import Point
from brainscan.model import Model
from brainscan.scan import Picture

_LONGEST_SIDE = 1024
LARGEST_SHARE = 1 / 3  # of the head: a larger region leaves too little tissue to choose from

# Lengths as shares of the head's, the square root of its area.
_MARGIN = 0.04  # replaced around a region, as outlines are drawn on the lesion's bright rim
_RIM = 0.02  # around that, where the donor has to fit

_SYMMETRIC = 0.6  # correlation with the mirror image; figshare: sagittal slices 0.0 to 0.57
_STEPS = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 50, 1e-4)
_BLUR = 5  # pixels
_OFFSET_COUNTS = 0.1  # blending evens out a difference in brightness, but not in structure

# What cv2.seamlessClone takes from a mask's rim, and the room that it needs around a mask.
_LOST = 3
_ROOM = 8

# (2, 3): a pixel of the picture → the pixel of the same picture that is to stand there.
_Origin = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Gap:
    """The box around a region that is to be replaced, and its rim.

    Attributes:
        left, top: where it begins, in pixels of the picture.
        inside: float32, shape (rows, columns), 1 in the region, else 0.
        around: likewise, 1 in the rim.
        rim: likewise, the picture, 0 to 1, in the rim.
    """

    left: int
    top: int
    inside: NDArray[np.float32]
    around: NDArray[np.float32]
    rim: NDArray[np.float32]


def examine_without_lesion(model: Model, found: Examination) -> Examination | None:
    """Examine a scan again, with tissue from elsewhere in the head in its lesion's place.

    Args:
        model: that examined it.
        found: with its picture.

    Returns:
        The new examination, of the changed picture; None where no region was marked, or it
        cannot be replaced.

    Raises:
        LookupError: the picture was not kept.
    """
    if found.lesion is None:
        return None
    picture = found.picture.shrink(_LONGEST_SIDE)  # to blend a large one takes a minute
    changed = replace_region(picture, draw_outline(found.lesion.outline, picture.size))
    if changed is None:
        return None
    return model.conclude([model.prepare(found.name, changed)])[0]


def draw_outline(outline: Sequence[Sequence[Point]], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw polygons of shares of a picture's width and height: uint8, shape (height, width)."""
    region = np.zeros(size[::-1], np.uint8)
    for polygon in outline:
        corners = np.rint((np.asarray(polygon) * size - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(region, [corners], 1, shift=4)
    return region


def replace_region(picture: Picture, region: NDArray[np.uint8]) -> Picture | None:
    """Replace a region of a head by tissue from elsewhere in it, blended at the rim.

    The tissue is that of the other half of the head, mirrored, where the head is symmetric and
    the region lies on one side; else that whose surroundings are most like the region's.

    Args:
        picture: of a head.
        region: uint8, shape (height, width), 0 or 1.

    Returns:
        The changed picture, the same outside the region and a narrow margin; None where there is
        no head, nothing of the region in it, more than a third of it, or no place that could give
        the tissue.
    """
    head = _fill_head(picture)
    length = float(np.sqrt(head.sum()))
    small = _resize(region, head.shape) & head
    small = _grow(small, _MARGIN * length) & _grow(head, 1)
    if not 0 < small.sum() <= LARGEST_SHARE * head.sum():
        return None
    origin = _choose_donor(_resize(picture.grey, head.shape), head, small, length)
    if origin is None:
        return None
    donor = _warp(picture.grey, _rescale(origin, head.shape, picture.grey.shape))
    return replace(picture, grey=_blend(picture.grey, donor, _resize(small, picture.grey.shape)))


def _fill_head(picture: Picture) -> NDArray[np.uint8]:
    """Fill the contour of the head: 0 or 1, of the copy that it was searched on."""
    outline = picture.outline
    head = np.zeros(outline.mask.shape, np.uint8)
    if outline.contour is not None:
        cv2.fillPoly(head, [outline.contour], 1)
    return head


def _choose_donor(
    grey: NDArray[np.uint8], head: NDArray[np.uint8], region: NDArray[np.uint8], length: float
) -> _Origin | None:
    """Choose where the tissue for a region is taken from; None where nothing has its shape."""
    tissue = head & (1 - _grow(region, 2))
    mirrored = _align_mirror_image(grey, head, region)
    if mirrored is not None and (_warp(tissue, mirrored, cv2.INTER_NEAREST) >= region).all():
        return mirrored
    gap = _cut_gap(grey, region, _grow(region, max(2.0, _RIM * length)) - region)
    upright = np.eye(2, 3)
    fits = (_fit(gap, grey, tissue, one) for one in (upright, _flip(grey.shape[1] - 1)))
    return min(fits, key=lambda fit: fit[0])[1]


def _align_mirror_image(
    grey: NDArray[np.uint8], head: NDArray[np.uint8], region: NDArray[np.uint8]
) -> _Origin | None:
    """Find where each pixel's counterpart in the other half is; None where heads have no halves."""
    left, _, width, _ = cv2.boundingRect(head)
    flipped = cv2.flip(grey, 1)
    begin = np.array([[1, 0, grey.shape[1] - 2 * left - width], [0, 1, 0]], np.float32)
    compared = cv2.flip(_grow(head, 2) & (1 - region), 1) * np.uint8(255)
    try:
        correlation, turned = cv2.findTransformECC(
            grey, flipped, begin, cv2.MOTION_EUCLIDEAN, _STEPS, compared, _BLUR
        )
    except cv2.error:  # it does not converge
        return None
    if correlation < _SYMMETRIC:
        return None
    return _compose(_flip(grey.shape[1] - 1), np.asarray(turned, np.float64))


def _cut_gap(grey: NDArray[np.uint8], region: NDArray[np.uint8], rim: NDArray[np.uint8]) -> _Gap:
    left, top, width, height = cv2.boundingRect(region | rim)
    box = np.s_[top : top + height, left : left + width]
    inside, around = _to_floats(region[box]), _to_floats(rim[box])
    return _Gap(left, top, inside, around, _to_floats(grey[box]) / np.float32(255) * around)


def _fit(
    gap: _Gap,
    grey: NDArray[np.uint8],
    tissue: NDArray[np.uint8],
    origin: _Origin,
) -> tuple[float, _Origin | None]:
    """Move a copy of a head over a gap until it fits best.

    Args:
        gap: in the head.
        grey: shape (height, width).
        tissue: 0 or 1, what may be taken.
        origin: where the copy's pixels are from.

    Returns:
        How badly it fits, and where the pixels of the moved copy are from; infinity and None
        where it nowhere fills the gap with tissue.
    """
    misfit = _measure_misfit(gap, _to_floats(_warp(grey, origin)) / np.float32(255))
    covers = _add_up(_to_floats(_warp(tissue, origin, cv2.INTER_NEAREST)), gap.inside)
    allowed = covers > gap.inside.sum() - 0.5
    if not allowed.any():
        return np.inf, None
    misfit[~allowed] = np.inf
    row, column = np.unravel_index(int(misfit.argmin()), misfit.shape)
    move = np.array([[1, 0, column - gap.left], [0, 1, row - gap.top]], np.float64)
    return float(misfit[row, column]), _compose(origin, move)


def _measure_misfit(gap: _Gap, copy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Measure how badly a copy, 0 to 1, fits a gap, for every place of its box's top left."""
    around, inside = gap.around / gap.around.sum(), gap.inside / gap.inside.sum()
    offset = _add_up(copy, around) - gap.rim.sum() / gap.around.sum()
    squares = (
        _add_up(copy**2, around) - 2 * _add_up(copy, gap.rim * around) + (gap.rim**2 * around).sum()
    )
    structure = _add_up(copy**2, inside) - _add_up(copy, inside) ** 2
    # Even tissue is seldom out of place.
    return np.asarray(squares - (1 - _OFFSET_COUNTS) * offset**2 + structure, np.float32)


def _add_up(values: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add up weighted values for every place of the weights' top left: (rows, columns)."""
    return np.asarray(cv2.matchTemplate(values, weights, cv2.TM_CCORR), np.float32)


def _to_floats(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return pixels.astype(np.float32)


def _blend(
    grey: NDArray[np.uint8], donor: NDArray[np.uint8], region: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Put a region of one picture into another, of the same size, without a seam (Poisson)."""
    wider = _grow(region, _LOST)
    mask = _surround(wider * np.uint8(255), cv2.BORDER_CONSTANT)
    left, top, width, height = cv2.boundingRect(mask)
    below, above = (
        cv2.cvtColor(_surround(one, cv2.BORDER_REPLICATE), cv2.COLOR_GRAY2BGR)
        for one in (grey, donor)
    )
    # It puts the middle of the mask's bounding box there: so nothing moves.
    place = (left + width // 2, top + height // 2)
    blended = cv2.seamlessClone(above, below, mask, place, cv2.NORMAL_CLONE)
    blended = blended[_ROOM:-_ROOM, _ROOM:-_ROOM, 0]
    # It changes the rest of that box a little, too.
    share = cv2.blur(wider.astype(np.float32), (5, 5))
    return np.asarray(np.rint(blended * share + grey * (1 - share)), np.uint8)


def _surround(grey: NDArray[np.uint8], border: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.copyMakeBorder(grey, _ROOM, _ROOM, _ROOM, _ROOM, border), np.uint8)


def _grow(mask: NDArray[np.uint8], radius: float) -> NDArray[np.uint8]:
    side = 2 * max(1, round(radius)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(cv2.dilate(mask, disc), np.uint8)


def _resize(pixels: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if pixels.shape == shape:
        return pixels
    how = cv2.INTER_AREA if pixels.shape[0] > shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, shape[::-1], interpolation=how), np.uint8)


def _warp(
    pixels: NDArray[np.uint8], origin: _Origin, how: int = cv2.INTER_CUBIC
) -> NDArray[np.uint8]:
    size = pixels.shape[::-1]
    return np.asarray(cv2.warpAffine(pixels, origin, size, flags=how | cv2.WARP_INVERSE_MAP))


def _flip(last: int) -> _Origin:
    """Mirror left and right, in a picture of which that is the last column."""
    return np.array([[-1, 0, last], [0, 1, 0]], np.float64)


def _compose(outer: _Origin, inner: _Origin) -> _Origin:
    """Give the origin of the origin."""
    return outer[:, :2] @ inner + np.hstack([np.zeros((2, 2)), outer[:, 2:]])


def _rescale(origin: _Origin, old: tuple[int, ...], new: tuple[int, ...]) -> _Origin:
    """Let an origin that was found on a copy of a picture hold for the picture."""
    scale = np.array([[old[1] / new[1]], [old[0] / new[0]]])
    smaller = np.hstack([np.diag(scale[:, 0]), scale / 2 - 0.5])
    larger = np.hstack([np.diag(1 / scale[:, 0]), 1 / scale / 2 - 0.5])
    return _compose(larger, _compose(origin, smaller))
