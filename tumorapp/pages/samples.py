"""The scans that the page offers to try; static/samples/README.txt says where they are from."""

from pathlib import Path

from flask import current_app

from brainscan import ImageFile
from tumorapp.api.options import refuse_option

NAMES = ("slice-1", "slice-2", "slice-3", "slice-4")


def read_sample(name: str) -> ImageFile:
    """Read a sample scan as if it had been uploaded.

    Raises:
        Problem: no sample has that name.
    """
    if name not in NAMES:
        raise refuse_option("sample", name, NAMES)
    path = Path(str(current_app.static_folder), "samples", f"{name}.webp")
    return ImageFile(path.name, path.read_bytes())
