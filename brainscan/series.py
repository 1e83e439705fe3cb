"""The slices of one head → one answer: which of them show a tumour, of which kind, and how large.

What is fitted here was fitted on the volumes of docs/volumes.md, of which one has a tumour.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import islice, takewhile
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from brainscan.bundle import Card
from brainscan.examine import Examination, ImageFile, Model, Reading, warn_of_verdict
from brainscan.extent import find_extent, measure
from brainscan.lesion import Lesion, Polygon
from brainscan.messages import Message, Problem, ScanError
from brainscan.scan import MAX_PIXELS
from brainscan.scan.facts import Facts
from brainscan.scan.formats import find_format
from brainscan.verdict import Judged, Judgement, judge

_BATCH = 16
_MEGAPIXEL = 2**20
# A slice votes where its head is as large as this share of the largest one's. Near the top of the
# head, and below it, models find tumours in healthy heads.
_LEAST_HEAD = 0.5
# Slices within these mm agree on a tumour, and three at least: one alone may be mistaken.
_AGREEING = 10.0
_FEWEST_AGREEING = 3
# The mean log-odds of a tumour that make one as likely as not: midway between those of the volume
# with a tumour and of the healthy head that is most like it. The slope gives these two
# probabilities of about 0.77 and 0.23; what is between them is unclear.
_EVEN, _SLOPE, _UNCLEAR = 3.33, 4.0, (0.25, 0.75)
_MOST_ODDS = 9.0
_MM3_OF_ML = 1000
_LARGEST_HEAD = 10_000  # ml: what is larger has a wrong spacing
_WHOLE: tuple[Polygon, ...] = (((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)),)


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
        strongest: the index of the slice that shows most of it; where there is none, of the slice
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
            _decide(self.card),
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
        thickness = _find_step(self.slices)
        areas = [
            measure(one.region) * (one.reading.place.area or math.nan)
            for one in self.slices
            if one.region and one.reading.place
        ]
        millilitres = sum(areas) * thickness / _MM3_OF_ML if thickness and areas else math.nan
        return round(millilitres, 2) if millilitres < _LARGEST_HEAD else None


Answer = Examination | SeriesExamination


def examine_files(
    model: Model,
    files: Iterable[ImageFile | ScanError],
    *,
    max_pixels: int = MAX_PIXELS,
    max_slices: int | None = None,
    longest_kept: int = 0,
    want_heatmaps: bool = False,
    skip_bad: bool = True,
) -> list[Answer | ScanError]:
    """Examine files: all slices of a volume, and all files of a series, together.

    Args:
        model: examines them.
        files: in any order; each is read once, and may be large. The problem of one that could not
            be had stays in its place.
        max_pixels: the largest width × height accepted.
        max_slices: how many slices are accepted, those of all files together, one for each of its
            megapixels where it is large; None for any number.
        longest_kept: the longest side of the pictures that are kept; 0 for none.
        want_heatmaps: whether it is worth a warning that the model gives none.
        skip_bad: whether the others go on where a file cannot be read.

    Returns:
        An answer for each picture and each series, in the order of their first files, and the
        problem of each file that cannot be read.

    Raises:
        Problem: there are too many slices.
        ScanError: a file cannot be read, and is not to be skipped; nothing was examined.
    """
    found = _read(
        model,
        files,
        max_pixels=max_pixels,
        max_slices=max_slices,
        longest_kept=longest_kept,
        skip_bad=skip_bad,
    )
    return _examine(model, found, want_heatmaps=want_heatmaps)


def examine_groups(
    model: Model,
    groups: Iterable[Iterable[ImageFile | ScanError]],
    *,
    max_pixels: int = MAX_PIXELS,
    max_slices: int | None = None,
    longest_kept: int = 0,
    want_heatmaps: bool = False,
) -> list[list[Answer | ScanError] | Problem]:
    """Examine groups of files, each as `examine_files` does, but the pictures of all in batches.

    Returns:
        What became of each group, in their order; a problem where it has too many slices.
    """
    found: list[list[list[Reading] | ScanError] | Problem] = []
    for files in groups:
        try:
            found.append(
                _read(
                    model,
                    files,
                    max_pixels=max_pixels,
                    max_slices=max_slices,
                    longest_kept=longest_kept,
                )
            )
        except Problem as problem:
            found.append(problem)
    read = [one for group in found if not isinstance(group, Problem) for one in group]
    answers = iter(_examine(model, read, want_heatmaps=want_heatmaps))
    return [
        group if isinstance(group, Problem) else list(islice(answers, len(group)))
        for group in found
    ]


def _read(
    model: Model,
    files: Iterable[ImageFile | ScanError],
    *,
    max_pixels: int,
    max_slices: int | None,
    longest_kept: int,
    skip_bad: bool = True,
) -> list[list[Reading] | ScanError]:
    """Read files, and put together the slices of each head."""
    found: list[list[Reading] | ScanError] = []
    series: dict[str, list[Reading]] = {}
    slices = 0
    for file in files:
        own: dict[str, list[Reading]] = {}
        damaged: list[ScanError] = []
        try:
            if isinstance(file, ScanError):
                raise file
            for one in model.read_slices(file, max_pixels=max_pixels, longest_kept=longest_kept):
                slices += _weigh_slice(one)
                if max_slices is not None and slices > max_slices:
                    raise Problem("too-many-slices", most=max_slices)
                if isinstance(one, ScanError):
                    damaged.append(one)
                    continue
                key = one.place.series if one.place else ""
                group = series if key else own
                if key not in group:
                    found.append(group.setdefault(key, []))
                group[key].append(one)
        except ScanError as error:
            damaged.append(error)
        if damaged and not skip_bad:
            raise damaged[0]
        found.extend(damaged[:1])  # its slices are damaged in the same way, as a rule
    found = [_refuse_blank(one) for one in found]
    blank = next((one for one in found if isinstance(one, ScanError)), None)
    if blank and not skip_bad:
        raise blank
    return found


def _refuse_blank(found: list[Reading] | ScanError) -> list[Reading] | ScanError:
    """Refuse a blank picture; next to others, a blank slice is only outside of the head."""
    if isinstance(found, ScanError) or len(found) > 1:
        return found
    darkest, brightest = found[0].scan.pixels.min(), found[0].scan.pixels.max()
    if darkest < brightest:
        return found
    return ScanError("blank-image", value=int(darkest)).about(found[0].name)


def _weigh_slice(reading: Reading | ScanError) -> int:
    """Count a slice, or a picture: what is large takes longer to decode."""
    if isinstance(reading, ScanError):
        return 1
    width, height = reading.scan.whole
    return max(1, width * height // _MEGAPIXEL)


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


def _examine(
    model: Model, found: list[list[Reading] | ScanError], *, want_heatmaps: bool
) -> list[Answer | ScanError]:
    """Examine the slices of each head together, and single pictures as many at a time."""
    single = [one[0] for one in found if not isinstance(one, ScanError) and len(one) == 1]
    concluded = _conclude(model, single, want_heatmaps=want_heatmaps)
    return [
        one
        if isinstance(one, ScanError)
        else next(concluded)
        if len(one) == 1
        else _examine_series(model, one, want_heatmaps=want_heatmaps)
        for one in found
    ]


def _conclude(
    model: Model, readings: Sequence[Reading], *, want_heatmaps: bool
) -> Iterator[Examination]:
    for start in range(0, len(readings), _BATCH):
        yield from model.conclude(readings[start : start + _BATCH], want_heatmaps=want_heatmaps)


def _examine_series(model: Model, readings: list[Reading], *, want_heatmaps: bool) -> Answer:
    start = perf_counter()
    ordered, notes = _put_in_order(readings)
    if len(ordered) == 1:  # many times the same slice
        alone = replace(ordered[0], warnings=(*notes, *ordered[0].warnings))
        return next(_conclude(model, [alone], want_heatmaps=want_heatmaps))
    slices = list(_conclude(replace(model, observe=None), ordered, want_heatmaps=want_heatmaps))
    whole = conclude_series(name_series(one.name for one in readings), slices, notes)
    if model.observe is not None:
        seconds = {
            "prepare": sum(reading.seconds for reading in readings),
            "infer": perf_counter() - start,
        }
        model.observe([whole], seconds)
    return whole


def name_series(names: Iterable[str]) -> str:
    """Name a series after its file or, where it has several, the folder that holds them."""
    first, *others = dict.fromkeys(names)
    if not others:
        return first
    # `os.path.commonpath` would make s3:/ of s3://.
    levels = zip(*(one.split("/") for one in (first, *others)), strict=False)
    common = takewhile(lambda level: len(set(level)) == 1, levels)
    return "/".join(level[0] for level in common) or first


def _put_in_order(readings: list[Reading]) -> tuple[list[Reading], list[Message]]:
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
    if len(placed) < len(readings) or (firsts.keys() == {0} and len(_list_numbers(readings)) > 1):
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


def _list_numbers(readings: Sequence[Reading]) -> set[int]:
    return {one.place.number for one in readings if one.place}


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
    votes = _choose_voters(slices)
    agreed = _agree(slices, votes)
    if votes.any():
        tumor_probability = _rescale(card, float(agreed.max()))
    else:
        tumor_probability = float(np.mean([one.tumor_probability for one in slices]))
    extent = _find_extent(slices, votes & (agreed >= _find_even(card)))
    described = tuple(
        SliceExamination(
            **{field.name: getattr(one, field.name) for field in fields(Examination)},
            index=index,
            votes=bool(votes[index]),
            shows=bool(extent[index]),
            region=tuple(extent[index]) if card.has_lesion_map else (),
        )
        for index, one in enumerate(slices)
    )
    weights = np.array(
        [
            measure(outlines) * one.tumor_probability
            for one, outlines in zip(slices, extent, strict=True)
        ]
    )
    if not weights.any():
        weights = np.where(votes | ~votes.any(), [one.tumor_probability for one in slices], 0)
    whole = SeriesExamination(
        name,
        card,
        slices[0].precision,
        described,
        int(np.argmax(weights)),
        _share(card, slices, weights, tumor_probability),
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


def _choose_voters(slices: Sequence[Examination]) -> NDArray[np.bool_]:
    """Choose the slices that show enough of the head to count."""
    recognised = np.array([one.verdict != "not-recognised" for one in slices])
    boxes = [one.scan.box for one in slices]
    heads = np.array([(box.right - box.left) * (box.bottom - box.top) for box in boxes])
    largest = heads[recognised].max(initial=0)
    return np.asarray(recognised & (heads >= _LEAST_HEAD * largest))


def _agree(slices: Sequence[Examination], votes: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Give the mean log-odds of a tumour of each slice and those around it.

    One that does not vote has even odds among those around it, and the lowest of its own.
    """
    shares = np.array([one.tumor_probability for one in slices])
    with np.errstate(divide="ignore"):
        odds = np.clip(np.log(shares) - np.log1p(-shares), -_MOST_ODDS, _MOST_ODDS)
    odds[~votes] = 0
    step = _find_step(slices)
    agreeing = max(_FEWEST_AGREEING, round(_AGREEING / step) if step else 0)
    agreeing = min(agreeing, max(1, int(votes.sum())))
    agreed = np.convolve(odds, np.ones(agreeing) / agreeing, mode="same")
    return np.where(votes, agreed, -_MOST_ODDS)


def _find_even(card: Card) -> float:
    """Give the log-odds from which slices together speak for a tumour."""
    return _EVEN if card.has_lesion_map else 0.0


def _rescale(card: Card, agreed: float) -> float:
    """Give the probability that a head has a tumour of which slices agree on such log-odds."""
    slope = _SLOPE if card.has_lesion_map else 1.0
    return 1 / (1 + math.exp(-slope * (agreed - _find_even(card))))


def _decide(card: Card) -> Card:
    """Give a card that decides on a head as it does on a slice, but for whether it has a tumour."""
    if card.decision is None:
        return card
    return replace(card, decision=replace(card.decision, tumor_from=0.5, unclear=_UNCLEAR))


def _find_extent(slices: Sequence[Examination], strong: NDArray[np.bool_]) -> list[list[Polygon]]:
    """Find the outlines of the tumour on each slice; where none are marked, of whole pictures."""
    marked: list[Sequence[Polygon]] = []
    for one in slices:
        if one.card.has_lesion_map:
            marked.append(one.lesion.outline if one.lesion else ())
        else:
            marked.append(_WHOLE if one.verdict in ("tumor", "tumor-kind-unclear") else ())
    return find_extent(marked, strong.tolist())


def _share(
    card: Card,
    slices: Sequence[Examination],
    weights: NDArray[np.float64],
    tumor_probability: float,
) -> dict[str, float]:
    """Share out a probability among the classes, as the slices have them by their weights."""
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


def _find_step(slices: Sequence[Examination]) -> float | None:
    """Give the mm from slice to slice; None where that is unknown."""
    places = [one.reading.place for one in slices]
    positions = [one.position for one in places if one and one.position is not None]
    if len(positions) < max(2, len(slices)):
        return None
    return float(np.median(np.abs(np.diff(positions)))) or None
