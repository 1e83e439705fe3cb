"""A picture as a reader of films would see it, whatever file it came from."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from brainscan.messages import Message
from brainscan.scan.crop import Outline, trace_head
from brainscan.scan.facts import Facts
from brainscan.scan.resemblance import looks_like_scan


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded file.

    Attributes:
        grey: uint8, shape (height, width), 0 (black) to 255, the right way up.
        coloured: the share of its pixels that were coloured, 0 to 1.
        notes: what a reader should know of the file.
        facts: what the header of a DICOM or NIfTI file says of it (`brainscan.scan.facts`).
    """

    grey: NDArray[np.uint8]
    coloured: float = 0.0
    notes: tuple[Message, ...] = ()
    facts: Facts = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, in pixels."""
        height, width = self.grey.shape
        return width, height

    def shrink(self, longest: int) -> "Picture":
        """Give a copy of which the longest side has at most so many pixels; itself if it has."""
        scale = longest / max(self.size)
        if scale >= 1:
            return self
        size = [max(1, round(side * scale)) for side in self.size]
        grey = cv2.resize(self.grey, size, interpolation=cv2.INTER_AREA)
        return replace(self, grey=np.asarray(grey, np.uint8))

    @cached_property
    def outline(self) -> Outline:
        """Where the head is; searched once, at the first use."""
        return trace_head(self.grey)

    @property
    def warnings(self) -> tuple[Message, ...]:
        """What a reader should know of the file, and of the heads in it."""
        heads = self.outline.heads
        several = (Message("several-heads", {"heads": heads}),) if heads > 1 else ()
        return self.notes + several

    @cached_property
    def resembles_scan(self) -> bool:
        """Whether it may be an MRI slice of a head at all."""
        left, top, right, bottom = self.outline.panel
        return looks_like_scan(self.grey[top:bottom, left:right], self.coloured)
