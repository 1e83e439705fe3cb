"""The installed versions of a model: which is served, and what a table tells of them."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import click

from brainscan.bundle import (
    BundleError,
    Card,
    Installed,
    installed_versions,
    read_bundle,
    read_served,
    survey_bundles,
)

COLUMNS = ("name", "version", "served", "accuracy", "protocol", "size", "files")


def find_served(root: Path, name: str) -> Path:
    """Give the folder of the version of a model that is served, which is a good one."""
    served = read_served(root, name)
    if served is None:
        known = ", ".join(installed_versions(root)) or "none"
        raise click.ClickException(f"No good version of {name} is installed. Installed: {known}.")
    return root / name / str(served.version)


def describe_versions(root: Path, name: str, found: Installed) -> Iterator[tuple[str, ...]]:
    """Give a row of cells for each version of a model, in the order of `COLUMNS`."""
    served = read_served(root, name)
    active = served.version if served else None
    first = found.candidates[0]
    why = "newest good" if active != first else "newest" if found.pinned is None else "chosen"
    for version in sorted({*found.stamps, first}):
        card = _read(root, name, version)
        measured = card.measurement if isinstance(card, Card) else None
        size = sum(one[2] for one in found.stamps.get(version, ()))
        yield (
            name,
            str(version),
            why if version == active else "",
            f"{measured.accuracy:.4f}" if measured else "",
            measured.protocol if measured else "",
            f"{size / 1e6:.1f} MB",
            "verified" if isinstance(card, Card) else card,
        )


def describe_change(bundle: Path) -> str:
    """Say what a bundle that was just published means for a running service, and how to go back."""
    root, name, version = bundle.parent.parent, bundle.parent.name, int(bundle.name)
    found = survey_bundles(root)[name]
    if found.pinned is not None:
        return (
            f"Version {found.pinned} is served as before, because it was chosen. To serve this "
            f"one: flask models activate {name} {version}"
        )
    earlier = max((one for one in found.stamps if one < version), default=None)
    if earlier is None:
        return describe_reload()
    return (
        f"It replaces version {earlier}. {describe_reload()} To go back: flask models "
        f"activate {name} {earlier}"
    )


def describe_reload(*, remote: bool = False) -> str:
    """Say when a running service loads what has changed: in its folder, or in a store."""
    pause = "half a minute" if remote else "seconds"
    return f"A running service follows within {pause}, without a restart."


def _read(root: Path, name: str, version: int) -> Card | str:
    """Verify a version's files; gives its card, or what is wrong."""
    try:
        return read_bundle(root / name / str(version))
    except BundleError as error:
        return str(error)


def lay_out(rows: Sequence[tuple[str, ...]], numbers: Collection[int]) -> str:
    """Put rows of cells below each other, the columns of numbers at their right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
