"""The study's folder of a row: its card and its report, there whole or not at all."""

import shutil
import tempfile
from pathlib import Path


def keep_report(folder: Path, card: str, report: Path) -> None:
    """Write `card.json` and `report/` of a row; those of an earlier training are replaced.

    Args:
        folder: the row's, such as `instance/study/<id>`.
        card: as JSON.
        report: the run's folder with `README.md` and plots; it is copied.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".keeping-", dir=folder.parent))
    try:
        new = staging / "new"
        shutil.copytree(report, new / "report")
        (new / "card.json").write_text(card, encoding="utf-8")
        if folder.exists():
            folder.rename(staging / "old")
        new.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
