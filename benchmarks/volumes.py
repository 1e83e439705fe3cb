"""What the answer to a whole head is worth, on volumes of which it is known.

    python -m benchmarks.volumes ../shared/samples/nifti/*.nii.gz

A volume NAME_t1post.nii.gz has its tumour in NAME_mask.nii.gz; one without a mask has none.
`--draw FOLDER` writes each slice with the region that the model marks, and the mask.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from brainscan import ImageFile, Model, SeriesExamination, examine_files, open_model
from brainscan.lesion import Polygon
from brainscan.scan.formats import read_slices

_MASK = "_mask.nii.gz"
_RED, _GREEN = (60, 60, 255), (80, 220, 80)  # blue first


def examine(model: Model, path: Path) -> SeriesExamination:
    """Examine the volume of a file, and keep its pictures."""
    file = ImageFile(path.name, path.read_bytes())
    [whole] = examine_files(model, [file], longest_kept=512)
    if not isinstance(whole, SeriesExamination):
        raise SystemExit(f"{path} is not a volume: {whole}")
    return whole


def draw(outlines: Sequence[Polygon], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Draw what is marked on a picture of that width and height: uint8, 0 or 1."""
    region = np.zeros(size[::-1], np.uint8)
    for outline in outlines:
        cv2.fillPoly(region, [np.rint(np.array(outline) * size).astype(np.int32)], 1)
    return region


def read_mask(path: Path) -> list[NDArray[np.uint8]] | None:
    """Read the mask of a volume, as its slices are shown: uint8, 0 or 1; None where it has none."""
    mask = path.with_name(path.name.partition("_t1post")[0] + _MASK)
    if not mask.is_file():
        return None
    pictures = [picture for picture, _ in read_slices(mask.read_bytes())]
    return [(one.grey > 0).astype(np.uint8) for one in pictures if not isinstance(one, Exception)]


def compare(whole: SeriesExamination, masks: list[NDArray[np.uint8]] | None) -> dict[str, Any]:
    """Compare what is marked with a mask."""
    shows = {one.index for one in whole.slices if one.shows}
    row: dict[str, Any] = {
        "slices": len(whole.slices),
        "vote": sum(one.votes for one in whole.slices),
        "verdict": whole.verdict,
        "label": whole.label,
        "tumour": f"{whole.tumor_probability:.2f}",
        "shown on": f"{min(shows) + 1} to {max(shows) + 1}" if shows else "-",
        "ml": whole.volume or "-",
    }
    if masks:
        truth = {index for index, mask in enumerate(masks) if mask.any()}
        regions = [draw(one.region, masks[0].shape[::-1]) for one in whole.slices]
        both = sum(int((region & mask).sum()) for region, mask in zip(regions, masks, strict=True))
        sizes = sum(int(region.sum()) for region in regions), sum(int(mask.sum()) for mask in masks)
        row["mask on"] = f"{min(truth) + 1} to {max(truth) + 1}"
        row["slices found"] = f"{len(shows & truth)} of {len(truth)}"
        row["Dice"] = f"{2 * both / sum(sizes):.2f}"
        row["marked / mask"] = f"{sizes[0] / sizes[1]:.1f}"
    return row


def write_pictures(
    folder: Path, whole: SeriesExamination, masks: list[NDArray[np.uint8]] | None
) -> None:
    """Write each slice with what is marked in red and the mask in green."""
    folder.mkdir(parents=True, exist_ok=True)
    for one in whole.slices:
        picture = cv2.cvtColor(one.picture.grey, cv2.COLOR_GRAY2BGR)
        layers = [(draw(one.region, one.picture.size), _RED)]
        if masks:
            layers.append((masks[one.index], _GREEN))
        for region, colour in layers:
            contours, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(picture, contours, -1, colour, 1)
        cv2.imwrite(str(folder / f"{whole.name.partition('.')[0]}-{one.index:03}.png"), picture)


def main() -> None:
    """Examine the volumes and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("volumes", nargs="+", type=Path)
    parser.add_argument("--model", type=Path, default=Path("instance/models/lesion-lite0"))
    parser.add_argument("--draw", type=Path, metavar="FOLDER")
    chosen = parser.parse_args()
    model = open_model(chosen.model)
    rows: list[dict[str, Any]] = []
    for path in chosen.volumes:
        if path.name.endswith(_MASK):
            continue
        whole, masks = examine(model, path), read_mask(path)
        rows.append({"volume": path.name, **compare(whole, masks)})
        if chosen.draw:
            write_pictures(chosen.draw, whole, masks)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(str(row.get(name, '')) for name in columns)} |")


if __name__ == "__main__":
    main()
