"""Bundles in an object store: `<url>/<name>/<version>/`, as on disk, and a folder that follows it.

A version never changes. Its manifest is written last and deleted first, so a version that has one
was uploaded to the end.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from brainscan.bundle.manifest import MANIFEST_FILE, read_manifest, verify_files
from brainscan.bundle.store import (
    LOCK_FILE,
    STAGING_PREFIX,
    BundleError,
    PublishError,
    installed_versions,
    read_bundle,
)
from brainscan.bundle.versions import ACTIVE_FILE, remove_version
from brainscan.files import lock, move_into_place, read_file, staging_folder, sweep, write_text
from brainscan.storage import StorageError, explained, open_storage

Version = tuple[str, int]  # a model's name and the number
_MARK = ".fetched"  # is in a folder that follows a store
_Files = frozenset[tuple[str, int, str]]  # path, size and entity tag of each


class RemoteBundles:
    """The bundles at a URL.

    Every method raises StorageError where the store cannot be used, as does the constructor.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._system, self._root = open_storage(self.url)

    def survey(self) -> tuple[set[Version], dict[str, str]]:
        """List the versions that are there, and the `active` file of each model that has one.

        Raises:
            FileNotFoundError: nothing is there: the URL is wrong, or nothing was pushed yet.
        """
        versions, pins = set(), {}
        with explained(self.url):
            for folder in self._system.ls(self._root, detail=True):
                name = Path(folder["name"]).name
                if folder["type"] != "directory" or name.startswith("."):
                    continue
                for entry in self._system.ls(folder["name"], detail=True):
                    part = Path(entry["name"]).name
                    if entry["type"] == "directory" and part.isdecimal():
                        versions.add((name, int(part)))
                    elif part == ACTIVE_FILE:
                        pins[name] = self._system.cat_file(entry["name"]).decode(errors="replace")
        return versions, pins

    def list_files(self, version: Version) -> _Files:
        """List the files of a version, which tell whether it is still the same."""
        with explained(self.url):
            found = self._system.find(self._path(version), detail=True)
        return frozenset((path, one["size"], one["e_tag"]) for path, one in found.items())

    def fetch(self, version: Version, folder: Path) -> None:
        """Copy a version into an empty folder, and verify it.

        Raises:
            ValueError: its upload was not finished, or a file is not the one of its manifest.
        """
        self._get(version, MANIFEST_FILE, folder)
        for file in read_manifest(folder):
            self._get(version, file, folder)
        verify_files(folder)

    def _get(self, version: Version, file: str, folder: Path) -> None:
        target = folder / file
        if not target.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{file} lies outside the bundle.")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with explained(self.url):
                self._system.get_file(f"{self._path(version)}/{file}", str(target))
        except FileNotFoundError:
            raise ValueError(
                f"{file} is not in {self.url}. The upload of this version is not finished: "
                "push it again."
            ) from None

    def push(self, bundle: Path) -> bool:
        """Copy a bundle up; False where it is there already.

        Raises:
            BundleError: the bundle is damaged.
            PublishError: the store has another bundle of that name and version.
        """
        card = read_bundle(bundle)
        target, manifest = self._path((card.name, card.version)), read_file(bundle / MANIFEST_FILE)
        with explained(self.url):
            with suppress(FileNotFoundError):
                if self._system.cat_file(f"{target}/{MANIFEST_FILE}") == manifest:
                    return False
                raise PublishError(
                    f"{self.url} has another {card.name}/{card.version}. A version never changes: "
                    "publish the model here again, as a new version, and push that."
                )
            for file in (*sorted(read_manifest(bundle)), MANIFEST_FILE):
                self._system.put_file(str(bundle / file), f"{target}/{file}")
        return True

    def pin(self, name: str, version: int | None) -> None:
        """Choose the version of a model that is served; None for the newest."""
        path = f"{self._root}/{name}/{ACTIVE_FILE}"
        with explained(self.url):
            if version is None:
                self._delete(path)
            else:
                self._system.pipe_file(path, f"{version}\n".encode())

    def remove(self, version: Version, *, pinned: bool) -> None:
        """Delete a version, and the choice of it."""
        if pinned:
            self.pin(version[0], None)
        with explained(self.url):
            self._delete(f"{self._path(version)}/{MANIFEST_FILE}")
            for path in self._system.find(self._path(version)):
                self._delete(path)

    def _delete(self, path: str) -> None:
        with suppress(FileNotFoundError):  # S3 does not mind, Google's store does
            self._system.rm_file(path)

    def _path(self, version: Version) -> str:
        name, number = version
        return f"{self._root}/{name}/{number}"


class Mirror:
    """Keeps a folder of bundles as those at a URL are; several processes may share it.

    Args:
        url: that of the bundles.
        folder: what it keeps; what is in it and not at the URL is deleted.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self._folder = folder
        self._verified: set[Version] = set()
        self._faults: dict[Version, tuple[_Files, str]] = {}

    def follow(self) -> Mapping[Version, str]:
        """Fetch what is new, the newest first, and delete what is gone or was damaged here.

        Returns:
            Why versions were left out. They are tried again once their files have changed.

        Raises:
            OSError: the store cannot be used (StorageError), nothing is there, or the folder cannot
                be written, or has models that were not fetched. Nothing is deleted then.
        """
        remote = RemoteBundles(self.url)
        wanted, pins = remote.survey()
        self._folder.mkdir(parents=True, exist_ok=True)
        mark = self._folder / _MARK
        if not mark.exists() and installed_versions(self._folder):
            raise StorageError(
                f"{self._folder} has models that are not from a store, and would be deleted. "
                "Set TUMORAPP_MODELS_CACHE to an empty folder."
            )
        mark.touch()
        for name, numbers in installed_versions(self._folder).items():
            for number in numbers:
                if (name, number) not in wanted or not self._is_whole((name, number)):
                    with suppress(BundleError):  # another process was faster
                        remove_version(self._folder, name, number)
        self._faults = {one: fault for one, fault in self._faults.items() if one in wanted}
        with lock(self._folder / LOCK_FILE):
            sweep(self._folder, STAGING_PREFIX)
            for version in sorted(wanted, key=lambda one: -one[1]):
                self._fetch(remote, version)
            for name in installed_versions(self._folder):
                _write_pin(self._folder / name / ACTIVE_FILE, pins.get(name))
        return {version: reason for version, (_, reason) in self._faults.items()}

    def _is_whole(self, version: Version) -> bool:
        """Verify a version that was fetched, once in the life of this process."""
        if version not in self._verified:
            name, number = version
            try:
                verify_files(self._folder / name / str(number))
            except ValueError:
                return False
            self._verified.add(version)
        return True

    def _fetch(self, remote: RemoteBundles, version: Version) -> None:
        name, number = version
        target = self._folder / name / str(number)
        if target.is_dir():
            return
        files = remote.list_files(version)
        if version in self._faults and self._faults[version][0] == files:
            return
        try:
            with staging_folder(self._folder / name, STAGING_PREFIX) as staging:
                remote.fetch(version, staging)
                target.parent.mkdir(exist_ok=True)
                move_into_place(staging, target)
        except ValueError as error:
            self._faults[version] = files, str(error)
        else:
            self._faults.pop(version, None)
            self._verified.add(version)


def _write_pin(path: Path, pin: str | None) -> None:
    if pin is None:
        path.unlink(missing_ok=True)
    elif not path.exists() or read_file(path).decode(errors="replace") != pin:
        write_text(path, pin)
