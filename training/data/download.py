"""One file over HTTP: resumed where it stopped, and checked when it is whole."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import requests
from tqdm import tqdm

from training.data.sources import DataError

TIMEOUT = (10, 60)  # seconds: to connect, and between two pieces
_PIECE = 1 << 16  # bytes; a lost connection costs the piece under way


@dataclass(frozen=True)
class RemoteFile:
    """A file to download: its plain name, address, bytes, and MD5 in hex (empty: not known)."""

    name: str
    url: str
    size: int
    md5: str


def download(file: RemoteFile, folder: Path) -> Path:
    """Download a file into a folder; what an earlier, interrupted call left there is kept.

    Returns:
        The file's path; its length and MD5 are as announced.

    Raises:
        DataError: the connection ended early, or what came is not the file that was announced.
        requests.RequestException: no connection, a lost one, or a status other than success.
        OSError: the file cannot be written.
    """
    path = folder / file.name
    there = path.stat().st_size if path.exists() else 0
    if there < file.size:
        _append(file, path, there)
        there = path.stat().st_size
    if there < file.size:
        raise DataError(
            f"{file.name} ended early: {there:,} of {file.size:,} bytes came. "
            "Run the same command again to go on from there."
        )
    if there > file.size or (file.md5 and _md5(path) != file.md5):
        path.unlink()
        raise DataError(
            f"{file.name} came damaged (its checksum is wrong) and was deleted. "
            "Run the same command again to fetch it again."
        )
    return path


def _append(file: RemoteFile, path: Path, there: int) -> None:
    """Fetch what is missing; a server that cannot start in the middle sends the whole again."""
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={there}-"} if there else {})
    with requests.get(file.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        response.raise_for_status()
        if response.status_code not in (requests.codes.ok, requests.codes.partial):
            # Services that suspect a robot answer 202 and an empty page.
            raise requests.HTTPError(f"status {response.status_code}", response=response)
        resumed = response.status_code == requests.codes.partial
        with (
            path.open("ab" if resumed else "wb") as output,
            tqdm(
                total=file.size,
                initial=there if resumed else 0,
                desc=file.name,
                unit="B",
                unit_scale=True,
            ) as bar,
        ):
            for piece in response.iter_content(_PIECE):
                output.write(piece)
                bar.update(len(piece))


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
