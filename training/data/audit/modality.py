"""Computed tomography among magnetic resonance: the skull tells.

On CT bone is the brightest of all: a thick closed ring next to a flat grey brain. On MRI bone is
dark: what shines around the brain is fat under the skin, and a dark gap lies in between.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from brainscan.scan.picture import Picture

CT_FROM = 0.4  # the probability from which a scan is listed as CT

_SIDE = 128
_RAYS, _STEPS = 64, 48
_REACH = 0.7 * _SIDE  # more than half a diagonal
_DEPTHS = np.linspace(1.06, 0.06, 51)  # along a ray, from just outside the head to its middle
_RIM, _NEAR, _INSIDE = slice(0, 16), slice(0, 24), slice(20, None)
_SATURATED = 0.9
# A logistic regression, fitted as docs/decisions.md says, on the three measurements.
_WEIGHTS = np.array([12.04, 15.58, 28.48])
_INTERCEPT = -13.54


def rate_ct(picture: Picture) -> float:
    """Give the probability, 0 to 1, that a slice of a head is CT and not MRI."""
    measured = measure_skull(picture)
    if measured is None:
        return 0.0
    return float(1 / (1 + np.exp(-(measured @ _WEIGHTS + _INTERCEPT))))


def measure_skull(picture: Picture) -> NDArray[np.float64] | None:
    """Look along 64 rays from outside the head to its middle.

    Brightness is relative to the 99th percentile of the head's.

    Returns:
        float64, shape (3,): how bright the ring is where it is nearly its darkest (10th percentile
        of the rays' brightest rim pixels); how much brighter than the brain the darkest point just
        inside the ring is (negative: a dark gap); the share of the rim that is saturated. None
        where there is no outline of a head.
    """
    contour, shape = picture.outline.contour, picture.outline.mask.shape
    if contour is None:
        return None
    scale = _SIDE / max(shape)
    hull = (cv2.convexHull(contour) * scale).astype(np.float32)
    moments = cv2.moments(hull)
    if not moments["m00"]:
        return None
    size = tuple(max(1, round(length * scale)) for length in shape[::-1])
    grey = np.asarray(cv2.resize(picture.grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    head = np.zeros_like(grey)
    cv2.fillConvexPoly(head, np.rint(hull).astype(np.int32), 255)
    centre = (moments["m10"] / moments["m00"], moments["m01"] / moments["m00"])
    bright = max(float(np.percentile(grey[head > 0], 99)), 1.0)
    rays = _follow_rays(grey, head, centre) / bright
    rim, brain = rays[:, _RIM], np.median(rays[:, _INSIDE])
    beyond = np.arange(_NEAR.stop) > rim.argmax(axis=1)[:, np.newaxis]
    gap = np.where(beyond, rays[:, _NEAR], np.inf).min(axis=1)
    return np.array(
        [np.percentile(rim.max(axis=1), 10), np.median(gap) - brain, np.mean(rim > _SATURATED)]
    )


def _follow_rays(
    grey: NDArray[np.uint8], head: NDArray[np.uint8], centre: tuple[float, float]
) -> NDArray[np.float32]:
    """Give the brightness along each ray at `_DEPTHS`: float32, shape (rays, depths)."""
    size = (_STEPS, _RAYS)
    fill = cv2.WARP_FILL_OUTLIERS
    along = cv2.warpPolar(grey, size, centre, _REACH, fill | cv2.INTER_LINEAR)
    inside = cv2.warpPolar(head, size, centre, _REACH, fill | cv2.INTER_NEAREST)
    edges = np.count_nonzero(inside, axis=1)
    columns = np.minimum((edges[:, np.newaxis] * _DEPTHS).astype(np.int64), _STEPS - 1)
    return np.take_along_axis(np.asarray(along), columns, axis=1).astype(np.float32)
