"""A bundle's manifest: the SHA-256 of its card and of every other file, as `sha256sum` writes them.

    cd instance/models/lesion-lite0/2 && sha256sum --check SHA256SUMS

It shows that something was changed, not who made it.
"""

import hashlib
import re
from pathlib import Path

from brainscan.files import open_file, read_file, write_text

MANIFEST_FILE = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  ([^\0]+)")


def write_manifest(folder: Path) -> None:
    """Seal a bundle: write the manifest of all files that are in its folder now."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [
        f"{_digest(path)}  {path.relative_to(folder).as_posix()}\n"
        for path in files
        if path != folder / MANIFEST_FILE
    ]
    write_text(folder / MANIFEST_FILE, "".join(lines))


def read_manifest(folder: Path) -> dict[str, str]:
    """Give the SHA-256 of each file of a bundle, by its path in the folder.

    Raises:
        ValueError: the manifest is missing, or a line is not a checksum and a path.
    """
    try:
        lines = read_file(folder / MANIFEST_FILE).decode(errors="replace").splitlines()
    except OSError as error:
        raise ValueError(f"{MANIFEST_FILE} cannot be read ({error.strerror}).") from None
    found = {}
    for number, line in enumerate(lines, start=1):
        if (match := _LINE.fullmatch(line)) is None:
            raise ValueError(f"{MANIFEST_FILE}: line {number} is not a checksum and a path.")
        found[match[2]] = match[1]
    return found


def verify_files(folder: Path) -> set[str]:
    """Check every file of a bundle against its manifest, and give their paths in the folder.

    Raises:
        ValueError: the manifest cannot be read; a file is missing, changed or outside the folder.
    """
    manifest = read_manifest(folder)
    for name, expected in manifest.items():
        path = folder / name
        try:
            actual = _digest(path)
        except OSError as error:
            raise ValueError(f"{name} cannot be read ({error.strerror}).") from None
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{name} lies outside the bundle.")
        if actual != expected:
            raise ValueError(f"{name} was changed since it was published.")
    return set(manifest)


def _digest(path: Path) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
