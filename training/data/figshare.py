"""Jun Cheng's slices at figshare: the article's archives, and MATLAB files → PNGs by class."""

import csv
import hashlib
import io
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

import h5py
import numpy as np
import requests
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from training.data.sources import SOURCES, DataError

ENDPOINT_VARIABLE = "TUMORAPP_FIGSHARE_URL"
DEFAULT_ENDPOINT = "https://api.figshare.com/v2"
ARTICLE = SOURCES["figshare"].handle
WHOLE_ARCHIVE = f"{ARTICLE}.zip"  # what "Download all" on the article's page saves
COLUMNS = ("file", "label", "fold", "border", "patient")

_TIMEOUT = (10, 60)  # seconds: to connect, and between two pieces
_PIECE = 1 << 16  # bytes; a lost connection costs the piece under way
_FOLDS = "cvind.mat"
# What h5py and NumPy raise on a damaged file, or on one that holds something else.
_UNREADABLE = (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError)
_LABELS = {1: "meningioma", 2: "glioma", 3: "pituitary"}


class _Slice(NamedTuple):
    """One slice as the article stores it, its pixels stretched from 0 to 255."""

    label: str
    patient: str
    border: str  # the tumour's outline, `x y;x y;…` as fractions of width and height
    image: NDArray[np.uint8]


def download_article(folder: Path) -> list[Path]:
    """Download the article's archives and folds, or take `1512427.zip` where it is there already.

    The address comes from the environment variable `TUMORAPP_FIGSHARE_URL`, which defaults to
    figshare's public API. The files are fetched one by one: each can be resumed and has a
    published checksum, which the archive of all of them, made for each visitor, has not.

    Raises:
        DataError: a file is damaged, or the API did not answer with a list.
        requests.RequestException: no connection, a lost one, or a refusal.
    """
    whole = folder / WHOLE_ARCHIVE
    if whole.exists():
        if not zipfile.is_zipfile(whole):
            raise DataError(
                f"{whole} is not a zip archive, or is cut short. Delete it or save it again."
            )
        return [whole]
    return [_download(file, folder) for file in _list_files()]


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
        number = re.fullmatch(r"(\d+)\.mat", name)
        try:
            folds = _read_folds(data) if name == _FOLDS else folds
            found = _read_slice(data) if number else None
        except _UNREADABLE as error:
            raise DataError(f"{name} is damaged or not of this data set ({error}).") from error
        if number and found:
            file = f"{found.label}/{number[1]}.png"
            (target / found.label).mkdir(exist_ok=True)
            Image.fromarray(found.image).save(target / file)
            rows[int(number[1])] = (file, found.label, found.border, found.patient)
    _write_table(rows, folds, target / "slices.csv")


def _read_slice(data: bytes) -> _Slice:
    """Read one slice from a MATLAB 7.3 (HDF5) file that holds the struct `cjdata`."""
    with h5py.File(io.BytesIO(data), "r") as file:
        record = file["cjdata"]
        label = _LABELS[int(record["label"][()].item())]
        patient = "".join(map(chr, record["PID"][()].ravel())).strip()
        outline = record["tumorBorder"][()].ravel().astype(np.float64)  # x, y, x, y, … pixels
        values = record["image"][()].T.astype(np.float64)  # MATLAB stores column by column
    height, width = values.shape
    points = outline[: outline.size // 2 * 2].reshape(-1, 2) / (width, height)
    border = ";".join(f"{x:.4f} {y:.4f}" for x, y in points)
    stretched = (values - values.min()) * (255 / max(float(np.ptp(values)), 1.0))
    return _Slice(label, patient, border, np.rint(stretched).astype(np.uint8))


def _read_folds(data: bytes) -> NDArray[np.int64]:
    """Read the author's folds from `cvind.mat`: shape (slices,), 1 to 5 each."""
    with h5py.File(io.BytesIO(data), "r") as file:
        folds: NDArray[np.int64] = file["cvind"][()].ravel().astype(np.int64)
    return folds


def _list_files() -> list[dict[str, Any]]:
    """Ask figshare's API for the archives and folds, and add the `url` of each."""
    endpoint = os.environ.get(ENDPOINT_VARIABLE, DEFAULT_ENDPOINT).rstrip("/")
    address = f"{endpoint}/articles/{ARTICLE}/files"
    with requests.get(address, params={"page_size": 100}, timeout=_TIMEOUT) as response:
        response.raise_for_status()
        listed = response.json()
    try:  # not the answer's `download_url`: that host at times lets only browsers through
        return [
            {**file, "url": f"{endpoint}/file/download/{file['id']}"}
            for file in listed
            if file["name"].endswith((".zip", ".mat")) and file["computed_md5"] and file["size"]
        ]
    except (KeyError, TypeError) as error:
        raise DataError(f"{address} did not answer with a list of files.") from error


def _download(file: dict[str, Any], folder: Path) -> Path:
    """Download a file, or what an interrupted call has left to fetch of it, and check it."""
    path, size = folder / PurePosixPath(file["name"]).name, int(file["size"])
    there = path.stat().st_size if path.exists() else 0
    if there < size:
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={there}-"} if there else {})
        with requests.get(file["url"], headers=headers, stream=True, timeout=_TIMEOUT) as response:
            response.raise_for_status()
            resumed = response.status_code == requests.codes.partial
            with (
                path.open("ab" if resumed else "wb") as output,
                tqdm(desc=path.name, total=size, initial=there * resumed, unit_scale=True) as bar,
            ):
                for piece in response.iter_content(_PIECE):
                    output.write(piece)
                    bar.update(len(piece))
    with path.open("rb") as whole:
        digest = hashlib.file_digest(whole, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if digest != file["computed_md5"]:
        path.unlink()
        raise DataError(
            f"{path.name} came damaged (its checksum is wrong) and was deleted. Run the same "
            "command again to download it again."
        )
    return path


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
