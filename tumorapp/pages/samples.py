"""The scans that the page offers to try; static/samples/README.txt says where they are from."""

from pathlib import Path

from flask import current_app

from tumorapp.errors import InvalidOptionError
from tumorapp.inference import Upload

NAMES = ("slice-1", "slice-2", "slice-3", "slice-4")


def read_sample(name: str) -> Upload:
    """Read a sample scan as if it had been uploaded.

    Raises:
        InvalidOptionError: there is none of that name.
    """
    if name not in NAMES:
        raise InvalidOptionError(
            f"There is no sample scan {name[:100]!r}. Choose one of: {', '.join(NAMES)}.", NAMES
        )
    path = Path(str(current_app.static_folder), "samples", f"{name}.webp")
    return Upload(path.name, path.read_bytes())
