"""The pictures of `flask predict --heatmaps`: scans with what a model marks laid over them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from brainscan import Answer, Examination, SeriesExamination
from brainscan.heatmap import lay_over

# By the name of a file and a slice's place in it.
Pictures = Mapping[tuple[str, int], NDArray[np.uint8]]


def write_heatmaps(folder: Path, targets: Mapping[str, str], found: Answer) -> None:
    """Write a scan, or each slice of a series that shows the tumour, with its heat map over it.

    Args:
        folder: of the pictures.
        targets: of each file by its name: a path below the folder, without an ending.
        found: with its pictures.
    """
    shown: Sequence[Examination] = [found] if isinstance(found, Examination) else []
    slices: Sequence[Examination] = ()
    if isinstance(found, SeriesExamination):
        slices = found.slices
        shown = [one for one in found.slices if one.shows]
    pictures = {
        (one.name, one.reading.place.frame if one.reading.place else 0): lay_over(
            one.picture.grey, one.heatmap
        )
        for one in shown
        if one.heatmap is not None
    }
    write_pictures(folder, targets, pictures, (one.name for one in slices))


def write_pictures(
    folder: Path, targets: Mapping[str, str], pictures: Pictures, slices: Iterable[str]
) -> None:
    """Write pictures below a folder; the name of a volume's slice has its number.

    Args:
        folder: is made if it does not exist.
        targets: see `write_heatmaps`.
        pictures: to be written.
        slices: the name of its file for each slice of a series.
    """
    files = Counter(slices)
    for (name, frame), picture in pictures.items():
        path = folder / targets[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        number = f"-{frame + 1:03}" if files[name] > 1 else ""
        data = cv2.imencode(".png", picture)[1].tobytes()
        path.with_name(f"{path.name}{number}.png").write_bytes(data)
