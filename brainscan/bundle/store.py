"""Bundles on disk: `<root>/<name>/<version>/`, written whole or not at all, read only if intact."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from brainscan.bundle.card import Card
from brainscan.bundle.manifest import MANIFEST_FILE, verify_files, write_manifest
from brainscan.familiarity import FAMILIARITY_FILE
from brainscan.files import lock, move_into_place, read_file, staging_folder, sweep, write_text

CARD_FILE = "card.json"
GRAPH_FILE = "graph.xml"
WEIGHTS_FILE = "graph.bin"
INT8_GRAPH_FILE = "graph-int8.xml"
INT8_WEIGHTS_FILE = "graph-int8.bin"
STAGING_PREFIX = ".staging-"
LOCK_FILE = ".lock"
_LAST_FILE = "last"  # next to the versions: the highest number that was given, once it is removed


class BundleError(ValueError):
    """A bundle cannot be used; the message names it and says what is wrong."""


class PublishError(RuntimeError):
    """A bundle could not be published; the installed ones are as they were."""


def installed_versions(root: Path) -> dict[str, list[int]]:
    """List the bundles below `root`: name → versions, oldest first. Nothing is opened."""
    if not root.is_dir():
        return {}
    found = {
        folder.name: sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal())
        for folder in sorted(root.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
    }
    return {name: versions for name, versions in found.items() if versions}


def last_version(root: Path, name: str) -> int:
    """Give the highest version that a model has or had; 0 for none.

    Answers are kept under a version's number, so no other network may get the number of a removed
    one.
    """
    try:
        removed = int(read_file(root / name / _LAST_FILE))
    except (FileNotFoundError, ValueError):
        removed = 0
    return max(removed, *installed_versions(root).get(name, [0]))


def note_last_version(root: Path, name: str) -> None:
    """Keep the highest version in mind before a version is removed; call it with the lock."""
    write_text(root / name / _LAST_FILE, f"{last_version(root, name)}\n")


def read_bundle(folder: Path) -> Card:
    """Verify every file of a bundle against its manifest, and read its card.

    Raises:
        BundleError: a manifest or a file that is missing, unreadable or changed; a card of an
            unknown format, or that names another model or version than its folder.
    """
    label = f"{folder.parent.name}/{folder.name}"
    try:
        files = verify_files(folder)
        card = Card.from_json(read_file(folder / CARD_FILE))
    except ValueError as error:
        raise BundleError(f"Bundle {label}: {error}") from None
    except OSError as error:
        raise BundleError(
            f"Bundle {label}: {CARD_FILE} cannot be read ({error.strerror})."
        ) from None
    if (card.name, str(card.version)) != (folder.parent.name, folder.name):
        raise BundleError(f"Bundle {label}: its card is that of {card.name}/{card.version}.")
    needed = {CARD_FILE, GRAPH_FILE, WEIGHTS_FILE}
    needed |= {INT8_GRAPH_FILE, INT8_WEIGHTS_FILE} if card.graphs else set()
    needed |= {FAMILIARITY_FILE} if card.refusal else set()
    if missing := sorted(needed - files):
        raise BundleError(f"Bundle {label}: {MANIFEST_FILE} lists no {', '.join(missing)}.")
    return card


def publish_bundle(root: Path, card: Card, write_files: Callable[[Path, Card], None]) -> Path:
    """Write a new version of a model atomically.

    Args:
        root: the folder of all bundles, such as `instance/models`.
        card: the card; its version is filled in here.
        write_files: writes the bundle's other files into the folder it is given, and raises if
            they are not good enough to publish. The card it is given has its version.

    Returns:
        The folder of the new version.

    Raises:
        PublishError: the disk is full or the folder cannot be written. Whatever happens, a
            reader sees either the old versions alone or the complete new one next to them.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with lock(root / LOCK_FILE):
            sweep(root, STAGING_PREFIX)
            return _publish(root, card, write_files)
    except OSError as error:
        raise PublishError(
            f"{card.name} could not be published into {root}: {error}. "
            "The installed versions are unchanged; make room or change the folder, then run the "
            "same command again."
        ) from error


def _publish(root: Path, card: Card, write_files: Callable[[Path, Card], None]) -> Path:
    card = replace(card, version=last_version(root, card.name) + 1)
    target = root / card.name / str(card.version)
    with staging_folder(root / card.name, STAGING_PREFIX) as staging:
        write_files(staging, card)
        (staging / CARD_FILE).write_text(card.to_json(), encoding="utf-8")
        write_manifest(staging)
        target.parent.mkdir(exist_ok=True)
        move_into_place(staging, target)
    return target
