"""The image files among paths that somebody names."""

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from brainscan.scan.formats import find_format, list_endings

_BEGINNING = 4096  # bytes, by which a format is found


class Found(NamedTuple):
    """Files that were named or found in a folder.

    Attributes:
        images: in the order of the paths, those of a folder by name; none twice.
        others: of the folders' other files, how many have each ending.
    """

    images: list[Path]
    others: Counter[str]


def is_image(file: Path) -> bool:
    """Tell by its name whether a file is an image; where the name has no ending, by its start.

    DICOM files are often numbered, or named by numbers with points between them.
    """
    if file.name.lower().endswith(list_endings()):
        return True
    if file.suffix.strip(".0123456789") or file.name.upper() == "DICOMDIR":  # a disc's index
        return False
    with suppress(OSError), file.open("rb") as opened:
        return find_format(opened.read(_BEGINNING)) is not None
    return False


def find_images(paths: Iterable[Path]) -> Found:
    """List files that are named, and the images in and below folders that are.

    A file that is named counts whatever its ending. Hidden files are passed over; a link that leads
    nowhere counts as a file, since somebody will miss it.
    """
    images: dict[Path, None] = {}  # as sets that keep the order
    others: dict[Path, None] = {}
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file == path:
                images[file] = None
            elif not file.name.startswith(".") and (file.is_file() or not file.exists()):
                (images if is_image(file) else others)[file] = None
    return Found(list(images), Counter(one.suffix.lower() for one in others if one not in images))
