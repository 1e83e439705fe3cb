"""The slices of one head: in order, and what a model says of them together."""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from brainscan.examination import (
    Examination,
    SeriesExamination,
    SliceExamination,
    warn_of_verdict,
)
from brainscan.extent import find_extent, measure
from brainscan.lesion import Polygon
from brainscan.messages import Message, ScanError
from brainscan.reading import Reading
from brainscan.scan import MAX_PIXELS
from brainscan.scan.formats import find_format
from brainscan.scan.volume import find_step
from brainscan.voting import vote

_WHOLE: tuple[Polygon, ...] = (((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)),)


def find_series(data: bytes) -> str:
    """Say by its header which series a file is of: the same for files to be examined together.

    Returns:
        What no one should see; "" for a file of its own, and for one that cannot be read.
    """
    found = find_format(data)
    if found is None or found.open is None or found.name != "DICOM":  # others do not say
        return ""
    with suppress(ScanError), found.open(data, MAX_PIXELS) as volume:
        return volume.place(0).series
    return ""


def name_series(names: Iterable[str]) -> str:
    """Name a series after its file or, where it has several, the folder that holds them."""
    first, *others = dict.fromkeys(names)
    if not others:
        return first
    # `os.path.commonpath` would make s3:/ of s3://.
    levels = zip(*(one.split("/") for one in (first, *others)), strict=False)
    common = takewhile(lambda level: len(set(level)) == 1, levels)
    return "/".join(level[0] for level in common) or first


def put_in_order(readings: list[Reading]) -> tuple[list[Reading], list[Message]]:
    """Put slices in the order in which they lie; of several at one place the first is kept.

    Where that is unknown, or set to zero as some do who remove identifiers, they are in the order
    in which the scanner numbers them.
    """
    readings = sorted(readings, key=lambda one: one.place.number if one.place else 0)
    placed = [
        (reading.place.position, reading)
        for reading in readings
        if reading.place and reading.place.position is not None
    ]
    firsts = dict(reversed(placed))
    numbers = {one.place.number for one in readings if one.place}
    if len(placed) < len(readings) or (firsts.keys() == {0} and len(numbers) > 1):
        return readings, []
    notes = []
    if len(firsts) < len(placed):
        most = max(Counter(position for position, _ in placed).values())
        notes.append(Message("one-of-each", {"images": most}))
    positions = sorted(firsts)
    steps = np.diff(positions)
    gaps = np.rint(steps / np.median(steps)) - 1 if steps.size else steps
    if missing := int(gaps.clip(0).sum()):
        notes.append(Message("missing-slices", {"slices": missing}))
    return [firsts[position] for position in positions], notes


def conclude_series(
    name: str, slices: Sequence[Examination], notes: Sequence[Message] = ()
) -> SeriesExamination:
    """Say what slices come to together.

    Args:
        name: of the series.
        slices: at least one, by one model, in the order in which they lie.
        notes: what a reader should know of the series.
    """
    card = slices[0].card
    shares = np.array([one.tumor_probability for one in slices])
    boxes = [one.scan.box for one in slices]
    voted = vote(
        card,
        shares,
        np.array([one.verdict != "not-recognised" for one in slices]),
        np.array([(box.right - box.left) * (box.bottom - box.top) for box in boxes]),
        find_step([one.reading.place for one in slices]),
    )
    extent = find_extent([_list_marked(one) for one in slices], voted.strong.tolist())
    described = tuple(
        SliceExamination(
            **{field.name: getattr(one, field.name) for field in fields(Examination)},
            index=index,
            votes=bool(voted.voters[index]),
            shows=bool(extent[index]),
            region=tuple(extent[index]) if card.has_lesion_map else (),
        )
        for index, one in enumerate(slices)
    )
    weights = np.array([measure(outlines) for outlines in extent]) * shares
    if not weights.any():
        weights = np.where(voted.voters | ~voted.voters.any(), shares, 0)
    whole = SeriesExamination(
        name,
        card,
        slices[0].precision,
        described,
        int(np.argmax(weights)),
        _share_out(voted.tumor_probability, slices, weights),
    )
    of_slices = [
        note
        for one in described
        if one.votes
        for note in one.warnings
        if note not in warn_of_verdict(one)
    ]
    if not card.has_lesion_map:
        of_slices.append(Message("series-not-fitted"))
    warnings = {note.code: note for note in (*notes, *of_slices, *warn_of_verdict(whole))}
    return replace(whole, warnings=tuple(warnings.values()))


def _list_marked(one: Examination) -> Sequence[Polygon]:
    """List the outlines of a tumour on a slice; without a lesion map, the whole picture's."""
    if one.card.has_lesion_map:
        return one.lesion.outline if one.lesion else ()
    return _WHOLE if one.verdict in ("tumor", "tumor-kind-unclear") else ()


def _share_out(
    tumor_probability: float, slices: Sequence[Examination], weights: NDArray[np.float64]
) -> dict[str, float]:
    """Share out a probability among the classes, as the slices have them by their weights."""
    card = slices[0].card
    means = {
        name: float(weights @ [one.probabilities[name] for one in slices]) for name in card.classes
    }
    shares: dict[str, float] = {}
    for tumor in (True, False):
        group = {name: mean for name, mean in means.items() if card.is_tumor(name) == tumor}
        of_group = tumor_probability if tumor else 1 - tumor_probability
        shares |= {
            name: of_group * mean / (sum(group.values()) or 1) for name, mean in group.items()
        }
    return {name: round(shares[name], 6) for name in card.classes}
