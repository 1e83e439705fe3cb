"""Writes the tables that derive from something else.

Run `python -m deploy.tables` after publishing a model or running the study, which give the README's
table of measured models, and after changing an architecture: `flask models architectures` lists
them without building them.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from brainscan.bundle import Card, Measurement, installed_versions, read_bundle
from brainscan.bundle.study import REPORT_FOLDER, read_study
from brainscan.files import write_text
from training.models import architectures
from training.models.registry import (
    LISTING,
    Listed,
    build_without_weights,
    describe_architecture,
)

ROOT = Path(__file__).parents[1]
_START, _END = "<!-- MODELS TABLE: python -m deploy.tables -->\n", "<!-- END -->\n"
_TITLES = (
    "model",
    "data",
    "protocol",
    "test scans",
    "with a copy in training",
    "accuracy (95 %)",
    "balanced accuracy",
    "F1, macro",
)


def main() -> None:
    """Write the table into the README, and the list of architectures."""
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(_START)
    _, _, after = rest.partition(_END)
    write_text(readme, before + _START + draw_table() + _END + after)
    print(f"Written: {readme}")
    with LISTING.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(Listed._fields)
        table.writerows(
            describe_architecture(one, build_without_weights(one, one.size))
            for one in architectures().values()
        )
    print(f"Written: {LISTING}")


def draw_table() -> str:
    """Draw a row for each served model, and for the study's best with their own recipes."""
    lines = [" | ".join(_TITLES), " | ".join(["---"] * len(_TITLES))]
    notes: list[str] = []
    models, study = Path("instance/models"), Path("instance/study")
    for name, versions in reversed(installed_versions(ROOT / models).items()):
        folder = models / name / str(versions[-1])
        card = read_bundle(ROOT / folder)
        if card.measurement:
            data = f"{len(card.sources)} data sets"
            lines.append(_draw_row(f"{_link(card, folder)} **served**", data, card.measurement))
            notes += _describe_unnamed(card.name, card.measurement)
    own = [result for result in read_study(ROOT / study).results if result.budget == "own"]
    own.sort(key=lambda result: result.measurement.accuracy)
    best = {(", ".join(one.data), one.measurement.protocol): one for one in own}  # the last of each
    for (data, _), result in sorted(best.items()):
        lines.append(_draw_row(_link(result.card, study / result.id), data, result.measurement))
    return "".join(f"| {line} |\n" for line in lines) + "".join(f"\n{note}\n" for note in notes)


def _link(card: Card, folder: Path) -> str:
    return f"[{card.name}]({(folder / REPORT_FOLDER / 'README.md').as_posix()})"


def _draw_row(title: str, data: str, measured: Measurement) -> str:
    low, high = measured.intervals.accuracy
    cells = (
        title,
        data,
        f"`{measured.protocol}`",
        f"{measured.scans:,}",
        f"{measured.leaked:.0%}",
        f"{measured.accuracy:.4f} ({low:.3f} – {high:.3f})",
        f"{measured.balanced_accuracy:.4f}",
        f"{measured.f1_macro:.4f}",
    )
    return " | ".join(cells)


def _describe_unnamed(name: str, measured: Measurement) -> Iterator[str]:
    if found := measured.unnamed_tumors:
        low, high = found.interval
        yield (
            f"The served {name} also learned from tumours whose kind is not named. Of "
            f"{found.scans} such scans that\nwere held back, it recognises {found.recognized:.3f} "
            f"({low:.3f} – {high:.3f}) as a tumour."
        )


if __name__ == "__main__":
    main()
