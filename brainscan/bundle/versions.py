"""The versions of a model side by side: what is installed, and which of them is to be served.

    <root>/<name>/1/        a version
    <root>/<name>/2/
    <root>/<name>/active    the number of the version that a person chose
    <root>/<name>/last      the highest number so far, where a version was removed

Without such a choice it is the newest one. No number is given twice.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from brainscan.bundle.card import Card
from brainscan.bundle.store import (
    LOCK_FILE,
    STAGING_PREFIX,
    BundleError,
    PublishError,
    installed_versions,
    note_last_version,
    read_bundle,
)
from brainscan.files import flush, lock, read_file, staging_folder, sweep, write_text

ACTIVE_FILE = "active"
_MOST_DIGITS = 9

# Path, inode, size and time of change of each file below a version's folder.
Stamp = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Installed:
    """What is on disk of one model; two that are equal hold the same files.

    Attributes:
        stamps: of each version, oldest first.
        pinned: the version that a person chose; None for the newest.
        fault: why the file that holds this choice was not understood; "" where it was.
    """

    stamps: dict[int, Stamp]
    pinned: int | None = None
    fault: str = ""

    @property
    def candidates(self) -> list[int]:
        """The versions to serve, the best first: the chosen one or the newest, then older ones.

        One that is newer than the chosen one is not one of them: the choice was made against it.
        """
        versions = sorted(self.stamps, reverse=True)
        if self.pinned is None:
            return versions
        return [self.pinned, *(version for version in versions if version < self.pinned)]


def survey_bundles(root: Path) -> dict[str, Installed]:
    """Look at all that is installed below `root`, by name. No file is opened but `active`.

    Raises:
        OSError: a folder cannot be read.
    """
    found = {}
    for name, versions in installed_versions(root).items():
        stamps = {version: _stamp(root / name / str(version)) for version in versions}
        try:
            found[name] = Installed(stamps, pinned_version(root, name))
        except BundleError as error:
            found[name] = Installed(stamps, fault=str(error))
    return found


def pinned_version(root: Path, name: str) -> int | None:
    """Give the version of a model that a person chose; None for the newest.

    Raises:
        BundleError: the file that holds this choice cannot be understood.
    """
    path = root / name / ACTIVE_FILE
    try:
        text = read_file(path).decode(errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BundleError(f"{name}/{ACTIVE_FILE} cannot be read ({error.strerror}).") from None
    if not text.isdecimal() or len(text) > _MOST_DIGITS:
        raise BundleError(
            f"{name}/{ACTIVE_FILE} holds {text[:20]!r}, which is not a version. "
            f"`flask models activate {name} newest` mends it."
        )
    return int(text)


def read_served(root: Path, name: str) -> Card | None:
    """Give the card of the version that a service that starts now would serve, if there is one.

    That is as far as the files tell: graphs are not run.
    """
    installed = survey_bundles(root).get(name)
    for version in installed.candidates if installed else ():
        with suppress(BundleError):
            return read_bundle(root / name / str(version))
    return None


def pin_version(root: Path, name: str, version: int | None) -> None:
    """Choose the version of a model that is served, atomically; None for the newest.

    Raises:
        BundleError: that version is not installed.
        PublishError: the folder cannot be written; the choice is as it was.
    """
    try:
        with lock(root / LOCK_FILE):
            _find(root, name, version)
            _write_pin(root / name, version)
    except OSError as error:
        raise PublishError(f"The choice for {name} could not be written: {error}.") from error


def remove_version(root: Path, name: str, version: int) -> None:
    """Delete a version; a choice of this version goes with it.

    Whatever happens, a reader sees either the whole version or none of it.

    Raises:
        BundleError: that version is not installed.
        PublishError: the folder cannot be written; the version may be gone nevertheless.
    """
    try:
        with lock(root / LOCK_FILE):
            folder = _find(root, name, version)
            sweep(root, STAGING_PREFIX)
            with suppress(BundleError):
                if pinned_version(root, name) == version:
                    _write_pin(root / name, None)
            note_last_version(root, name)
            with staging_folder(root / name, STAGING_PREFIX) as hidden:
                folder.rename(hidden / str(version))
                flush(folder.parent)
    except OSError as error:
        raise PublishError(f"{name}/{version} could not be removed: {error}.") from error


def _find(root: Path, name: str, version: int | None) -> Path:
    """Give the folder of a version, or of the model for None."""
    installed = installed_versions(root)
    if name not in installed:
        names = ", ".join(installed) or "none"
        raise BundleError(f"No model named {name!r} is installed. Installed: {names}.")
    if version is None:
        return root / name
    if version not in installed[name]:
        numbers = ", ".join(map(str, installed[name]))
        raise BundleError(f"{name} has no version {version}. Installed: {numbers}.")
    return root / name / str(version)


def _write_pin(folder: Path, version: int | None) -> None:
    if version is None:
        (folder / ACTIVE_FILE).unlink(missing_ok=True)
        flush(folder)
    else:
        write_text(folder / ACTIVE_FILE, f"{version}\n")


def _stamp(folder: Path) -> Stamp:
    try:
        found = [(str(path), path.lstat()) for path in sorted(folder.rglob("*"))]
    except FileNotFoundError:
        return ()  # removed meanwhile: the next look sees it
    return tuple((path, one.st_ino, one.st_size, one.st_mtime_ns) for path, one in found)
