"""The slices of a head as the page shows them: with a slider, each with its picture."""

from dataclasses import dataclass, replace

from brainscan import SeriesExamination, SliceExamination
from tumorapp.pictures import link_jpeg

SIDE = 512  # the longest of a picture; hundreds of larger ones would fill the page


@dataclass(frozen=True)
class ShownSlice:
    """A slice as a template gets it.

    Attributes:
        found: what the model says of it; its picture is not kept.
        picture: as a data URI.
        heatmap: a PNG to lay over it; None for a slice without one.
        area: of what is marked, as a share of the largest one's, 0 to 1.
    """

    found: SliceExamination
    picture: str
    heatmap: bytes | None
    area: float


def show_slices(
    whole: SeriesExamination, *, want_heatmaps: bool
) -> tuple[SeriesExamination, list[ShownSlice]]:
    """Give a series without its pictures, and each of its slices to be shown."""
    bare = tuple(replace(one, reading=replace(one.reading, picture=None)) for one in whole.slices)
    areas = [one.lesion.area if one.lesion else 0.0 for one in bare]
    largest = max(areas) or 1.0
    shown = [
        ShownSlice(
            found,
            link_jpeg(one.picture.grey),
            found.heatmap if want_heatmaps and found.lesion_map is None else None,
            area / largest,
        )
        for one, found, area in zip(whole.slices, bare, areas, strict=True)
    ]
    return replace(whole, slices=bare), shown
