"""Jun Cheng's slices at figshare: the article's archives, and MATLAB files → PNGs by class."""

import csv
import io
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import h5py
import numpy as np
import requests
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from training.data.download import TIMEOUT, RemoteFile, download
from training.data.sources import SOURCES, DataError

ENDPOINT_VARIABLE = "TUMORAPP_FIGSHARE_URL"
DEFAULT_ENDPOINT = "https://api.figshare.com/v2"
ARTICLE = SOURCES["figshare"].handle
WHOLE_ARCHIVE = f"{ARTICLE}.zip"  # what "Download all" on the article's page saves
COLUMNS = ("file", "label", "fold", "border", "patient")

_FOLDS = "cvind.mat"
# What h5py and NumPy raise on a damaged file, or on one that holds something else.
_UNREADABLE = (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError)
_LABELS = {1: "meningioma", 2: "glioma", 3: "pituitary"}


@dataclass(frozen=True)
class Slice:
    """One slice as the article stores it.

    Attributes:
        label: its canonical class.
        patient: the author's identifier of the patient.
        border: the tumour's outline, `x y;x y;…` as fractions of width and height.
        image: uint8, shape (height, width), stretched from its darkest to its brightest value.
    """

    label: str
    patient: str
    border: str
    image: NDArray[np.uint8]


def download_article(folder: Path) -> list[Path]:
    """Download the article's archives and folds, or take `1512427.zip` where it lies there already.

    The address comes from the environment variable `TUMORAPP_FIGSHARE_URL`, which defaults to
    figshare's public API. The files are fetched one by one: each can be resumed and has a
    published checksum, which the archive of all of them, made for each visitor, has not.

    Raises:
        DataError: too little room, or a file that is damaged or ended early.
        requests.RequestException: no connection, a lost one, or a refusal.
    """
    whole = folder / WHOLE_ARCHIVE
    if whole.exists():
        if not zipfile.is_zipfile(whole):
            raise DataError(
                f"{whole} is not a zip archive, or is cut short. Delete it or save it again."
            )
        return [whole]
    files = [file for file in _list_files() if file.name.endswith((".zip", ".mat"))]
    needed = 2 * sum(file.size for file in files)  # the archives, and the PNGs made from them
    free = shutil.disk_usage(folder).free
    there = sum(path.stat().st_size for path in folder.iterdir())
    if free + there < needed:
        raise DataError(
            f"The data set needs {needed / 1e9:.1f} GB of disk while it is converted; {folder} has "
            f"{(free + there) / 1e9:.1f} GB. Free some, or choose another folder."
        )
    return [download(file, folder) for file in files]


def convert(archives: Iterable[Path], target: Path) -> None:
    """Write every slice as `CLASS/NUMBER.png`, and their folds and outlines as `slices.csv`.

    Nothing is unpacked to a name that an archive gives: a slice is called by its number.

    Args:
        archives: zips of MATLAB files or of such zips, and `cvind.mat` where it is not in one.
        target: an existing folder.

    Raises:
        DataError: a file is damaged, or slices or their folds are missing.
        zipfile.BadZipFile: an archive is damaged.
    """
    rows: dict[int, tuple[str, ...]] = {}
    folds: NDArray[np.int64] | None = None
    files = (file for archive in archives for file in _matlab_files(archive, target))
    for name, data in tqdm(files, desc="Converting", unit=" files"):
        if name == _FOLDS:
            folds = read_folds(data)
        elif match := re.fullmatch(r"(\d+)\.mat", name):
            number = int(match[1])
            found = read_slice(data, name)
            file = f"{found.label}/{number}.png"
            (target / found.label).mkdir(exist_ok=True)
            Image.fromarray(found.image).save(target / file)
            rows[number] = (file, found.label, found.border, found.patient)
    _write_table(rows, folds, target / "slices.csv")


def read_slice(data: bytes, name: str) -> Slice:
    """Read one slice from a MATLAB 7.3 (HDF5) file that holds the struct `cjdata`.

    Raises:
        DataError: the file is damaged or holds something else.
    """
    with _open_matlab(data, name) as file:
        record = file["cjdata"]
        label = _LABELS[int(record["label"][()].item())]
        patient = "".join(map(chr, record["PID"][()].ravel())).strip()
        outline = record["tumorBorder"][()].ravel().astype(np.float64)  # x, y, x, y, … pixels
        values = record["image"][()].T.astype(np.float64)  # MATLAB stores column by column
        height, width = values.shape
    points = outline[: outline.size // 2 * 2].reshape(-1, 2) / (width, height)
    span = max(float(np.ptp(values)), 1.0)
    return Slice(
        label=label,
        patient=patient,
        border=";".join(f"{x:.4f} {y:.4f}" for x, y in points),
        image=np.rint((values - values.min()) * (255 / span)).astype(np.uint8),
    )


def read_folds(data: bytes) -> NDArray[np.int64]:
    """Read the author's folds from `cvind.mat`: int64, shape (slices,), 1 to 5 each.

    Raises:
        DataError: the file is damaged or holds something else.
    """
    with _open_matlab(data, _FOLDS) as file:
        folds: NDArray[np.int64] = file["cvind"][()].ravel().astype(np.int64)
    return folds


@contextmanager
def _open_matlab(data: bytes, name: str) -> Iterator[h5py.File]:
    """Open a MATLAB 7.3 (HDF5) file; raises DataError where it does not hold what is read."""
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            yield file
    except _UNREADABLE as error:
        raise DataError(f"{name} is damaged or not of this data set ({error}).") from error


def _list_files() -> list[RemoteFile]:
    """Ask figshare's API which files the article has."""
    endpoint = os.environ.get(ENDPOINT_VARIABLE, DEFAULT_ENDPOINT).rstrip("/")
    address = f"{endpoint}/articles/{ARTICLE}/files"
    with requests.get(address, params={"page_size": 100}, timeout=TIMEOUT) as response:
        response.raise_for_status()
        listed = response.json()
    try:  # not the answer's `download_url`: that host at times lets only browsers through
        return [
            RemoteFile(
                name=PurePosixPath(file["name"]).name,
                url=f"{endpoint}/file/download/{file['id']}",
                size=int(file["size"]),
                md5=file["computed_md5"],
            )
            for file in listed
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{address} did not answer with a list of files.") from error


def _matlab_files(archive: Path | IO[bytes], scratch: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the plain name and content of each MATLAB file, also from archives in an archive."""
    if isinstance(archive, Path) and archive.suffix == ".mat":
        yield archive.name, archive.read_bytes()
        return
    with zipfile.ZipFile(archive) as members:
        for member in members.infolist():
            name = PurePosixPath(member.filename).name
            if name.endswith(".mat"):
                yield name, members.read(member)
            elif name.endswith(".zip"):
                with tempfile.TemporaryFile(dir=scratch) as inner, members.open(member) as packed:
                    shutil.copyfileobj(packed, inner)
                    yield from _matlab_files(inner, scratch)


def _write_table(
    rows: dict[int, tuple[str, ...]], folds: NDArray[np.int64] | None, path: Path
) -> None:
    """Join slices and folds, which the author numbers alike from 1 on, and write them as CSV."""
    if folds is None:
        raise DataError(f"{_FOLDS}, the author's folds, is missing: the archive is incomplete.")
    if sorted(rows) != list(range(1, len(folds) + 1)):
        raise DataError(f"{len(rows)} slices came, but {_FOLDS} has folds for {len(folds)}.")
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for number in sorted(rows):
            image, label, border, patient = rows[number]
            table.writerow((image, label, folds[number - 1], border, patient))
