"""The image files among paths that somebody names."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePath

from brainscan.scan.formats import find_format, list_endings

BEGINNING = 4096  # bytes, by which a format is found


def is_image(file: Path) -> bool:
    """Tell whether a file is an image, as `is_named_image` does."""
    return is_named_image(file.name, partial(_read_beginning, file))


def is_named_image(name: str, read_beginning: Callable[[], bytes]) -> bool:
    """Tell by its name whether a file is an image; where the name has no ending, by its start.

    DICOM files are often numbered, or named by numbers with points between them.

    Args:
        name: without its folder.
        read_beginning: gives its first bytes; may raise OSError.
    """
    if name.lower().endswith(list_endings()):
        return True
    if PurePath(name).suffix.strip(".0123456789") or name.upper() == "DICOMDIR":  # a disc's index
        return False
    with suppress(OSError):
        return find_format(read_beginning()[:BEGINNING]) is not None
    return False


def walk(path: Path) -> Iterator[tuple[Path, bool]]:
    """Give a file that is named or, in any order, those in and below a folder that is.

    Hidden files are passed over; a link that leads nowhere counts as a file, since somebody will
    miss it.

    Yields:
        Each file, and whether it is an image. One that is named counts whatever its ending.
    """
    if not path.is_dir():
        yield path, True
        return
    with suppress(PermissionError), os.scandir(path) as entries:
        for entry in entries:
            file = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                yield from walk(file)
            elif not entry.name.startswith(".") and (entry.is_file() or not file.exists()):
                yield file, is_image(file)


def _read_beginning(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(BEGINNING)


def find_images(paths: Iterable[Path]) -> list[Path]:
    """List the images among files that are named, and in and below folders that are; see `walk`.

    In the order of the paths, those of a folder by name; none twice.
    """
    found = (file for path in paths for file, wanted in sorted(walk(path)) if wanted)
    return list(dict.fromkeys(found))
