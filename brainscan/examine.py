"""Files → answers: the slices of a head, in one file or in many, are examined together."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from time import perf_counter

from brainscan.examination import Answer, Examination
from brainscan.messages import Problem, ScanError
from brainscan.model import Model
from brainscan.reading import ImageFile, Reading
from brainscan.scan import MAX_PIXELS
from brainscan.series import conclude_series, name_series, put_in_order

_BATCH = 16
_MEGAPIXEL = 2**20


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
    ordered, notes = put_in_order(readings)
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
