"""What a model says: of a picture, of a slice of a head, and of the whole head.

An examination happens once; every answer serialises it.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from brainscan.bundle import Card
from brainscan.extent import measure
from brainscan.heatmap import render_heatmap
from brainscan.lesion import Lesion, Polygon, find_lesion, measure_head
from brainscan.messages import Message
from brainscan.reading import Reading
from brainscan.scan import Picture, PreparedScan
from brainscan.scan.crop import trace_head
from brainscan.scan.facts import Facts
from brainscan.scan.volume import find_step
from brainscan.verdict import Judged, Judgement, judge, sure_from
from brainscan.voting import decide_on_head

_MM3_OF_ML = 1000
_LARGEST_HEAD = 10_000  # ml: what is larger has a wrong spacing


@dataclass(frozen=True, eq=False)
class Examination(Judged):
    """What a model says of one file, and all that led to it.

    Attributes:
        reading: the file's.
        card: the model's.
        precision: of the graph that answered: "fp16", "int8" or "keras".
        probabilities: of every class, in the model's order, 0 to 1, summing to 1.
        heat: float32, shape (rows, columns), 0 to 1, of the part of the scan that the model saw:
            what spoke for the most probable class; None for a model without convolutions, and for
            one with a lesion map.
        warnings: what a reader should know.
        lesion_map: float32, shape (rows, columns), 0 to 1, of the same part: where a tumour is;
            None for a model that was not taught that.
        distance: from the scans that the model knows; None where it cannot tell.
    """

    reading: Reading
    card: Card
    precision: str
    probabilities: Mapping[str, float]
    heat: NDArray[np.float32] | None
    warnings: tuple[Message, ...]
    lesion_map: NDArray[np.float32] | None = None
    distance: float | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return self.reading.name

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of the file, in hexadecimal; None of a picture that is not a file's."""
        return self.reading.sha256

    @property
    def header(self) -> Facts:
        """What the header of a DICOM or NIfTI file says; nothing of other formats."""
        return self.reading.header

    @property
    def scan(self) -> PreparedScan:
        """The scan as the model took it."""
        return self.reading.scan

    @property
    def picture(self) -> Picture:
        """The picture that the file holds, with the outline of the head.

        Raises:
            LookupError: it was not kept, or the scan came prepared.
        """
        if self.reading.picture is None:
            raise LookupError(f"The picture of {self.name} was not kept.")
        return self.reading.picture

    def with_picture(self, picture: Picture) -> "Examination":
        """Give the same with another picture in its place, such as a smaller copy of it."""
        return replace(self, reading=replace(self.reading, picture=picture))

    @cached_property
    def judgement(self) -> Judgement:
        """What the probabilities come to."""
        return judge(
            self.card,
            self.probabilities,
            resembles_scan=self.reading.resembles_scan,
            distance=self.distance,
        )

    @cached_property
    def lesion(self) -> Lesion | None:
        """The region that the model marks; None where it marks none, or cannot."""
        limits = self.card.decision.lesion if self.card.decision else None
        if limits is None or self.lesion_map is None:
            return None
        if self.verdict in ("no-tumor", "not-recognised"):
            return None
        head = self.reading.head or measure_head(trace_head(self.scan.pixels[..., 0]))
        return find_lesion(self.lesion_map, limits, self.scan, head)

    @property
    def heatmap(self) -> bytes | None:
        """A PNG to lay over the picture; None without a reliable map.

        Of a lesion map where it marks a region; of another heat map where that was measured to
        beat the centre of the head; of a picture that is not recognised, none.
        """
        if self.verdict == "not-recognised":
            return None
        shown = self.lesion is not None or (self.lesion_map is None and self.card.has_reliable_map)
        return self.drawn_map if shown else None

    @cached_property
    def drawn_map(self) -> bytes | None:
        """The same PNG of whatever map the model gives, to be shown with its figures only."""
        values = self.heat if self.lesion_map is None else self.lesion_map
        return None if values is None else render_heatmap(values, self.scan.box, self.scan.whole)


@dataclass(frozen=True, eq=False)
class SliceExamination(Examination):
    """What a model says of one slice of a series.

    Attributes:
        index: its place in the series, from 0.
        votes: whether it counts: it does if it shows enough of the head.
        shows: whether it shows the tumour; no slice does where the head seems to have none.
        region: the outlines within `lesion` that continue on the slices next to it, as polygons of
            (x, y) in shares of the picture: the tumour's.
    """

    index: int = 0
    votes: bool = False
    shows: bool = False
    region: tuple[Polygon, ...] = ()

    @property
    def position(self) -> float | None:
        """Where it lies, in mm towards the head, the back or the left; None where unknown."""
        return self.reading.place.position if self.reading.place else None


@dataclass(frozen=True, eq=False)
class SeriesExamination(Judged):
    """What a model says of a head, by all of its slices.

    Attributes:
        name: of the file, or of the folder of its files.
        card: the model's.
        precision: of the graph that answered: "fp16", "int8" or "keras".
        slices: of each slice, in order towards the patient's head, back or left.
        strongest: the index of the slice that shows most of the tumour; without one, of the slice
            that is most like one with a tumour.
        probabilities: of every class, in the model's order, 0 to 1, summing to 1: of a tumour as
            the slices that agree most have it, of its kinds by how much of it each slice shows.
        warnings: what a reader should know.
    """

    name: str
    card: Card
    precision: str
    slices: tuple[SliceExamination, ...]
    strongest: int
    probabilities: Mapping[str, float]
    warnings: tuple[Message, ...] = ()

    @cached_property
    def judgement(self) -> Judgement:
        """What the probabilities come to."""
        voters = [one for one in self.slices if one.votes]
        distances = [one.distance for one in voters if one.distance is not None]
        return judge(
            decide_on_head(self.card),
            self.probabilities,
            resembles_scan=bool(voters),
            distance=min(distances, default=None),
        )

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of the file; of several files, of theirs in the order of the slices."""
        hashes = list(dict.fromkeys(one.sha256 or "" for one in self.slices))
        return (
            hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
        )

    @property
    def header(self) -> Facts:
        """What the header of the first slice's file says, and how many slices there are."""
        return {**self.slices[0].reading.header, "slices": len(self.slices)}

    @property
    def lesion(self) -> Lesion | None:
        """The region that the model marks on the strongest slice; None where it marks none."""
        if self.verdict in ("no-tumor", "not-recognised"):
            return None
        return self.slices[self.strongest].lesion

    @property
    def heatmap(self) -> bytes | None:
        """That of the strongest slice; see `Examination`."""
        if self.verdict == "not-recognised" or (self.card.has_lesion_map and self.lesion is None):
            return None
        return self.slices[self.strongest].heatmap

    @cached_property
    def volume(self) -> float | None:
        """The ml that the model marks; None where it marks none or the spacing is unknown."""
        thickness = find_step([one.reading.place for one in self.slices])
        areas = [
            measure(one.region) * (one.reading.place.area or math.nan)
            for one in self.slices
            if one.region and one.reading.place
        ]
        millilitres = sum(areas) * thickness / _MM3_OF_ML if thickness and areas else math.nan
        return round(millilitres, 2) if millilitres < _LARGEST_HEAD else None


Answer = Examination | SeriesExamination


def warn_of_verdict(found: Answer) -> list[Message]:
    """Say what a verdict leaves open."""
    if found.verdict == "unclear":
        return [Message("tumor-unclear", {"probability": found.tumor_probability})]
    if found.verdict == "tumor-kind-unclear":
        return [Message("kind-unclear", {"kinds": found.possible})]
    warnings = []
    if found.verdict == "not-recognised":
        warnings.append(Message("not-a-scan"))
    if found.judgement.unsure:
        values = {"confidence": found.confidence, "limit": sure_from(found.card)}
        warnings.append(Message("uncertain", values))
    return warnings
