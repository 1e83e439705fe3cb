"""The notebook in docs/, run as a reader runs it."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

PROJECT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_tour_runs(tmp_path: Path) -> None:
    """On drawn heads; TOUR_DATA lets it take the scans of a folder."""
    for name in ("brainscan", "training", "tumorapp", "templates", "static"):
        (tmp_path / name).symlink_to(PROJECT / name)
    shutil.copy(PROJECT / "wsgi.py", tmp_path)  # so that flask finds its instance folder here
    (tmp_path / "instance").mkdir()
    (tmp_path / "instance/models").symlink_to(PROJECT / "instance/models")
    (tmp_path / "docs").mkdir()
    notebook = nbformat.read(PROJECT / "docs/tour.ipynb", as_version=4)
    where = {"metadata": {"path": str(tmp_path / "docs")}}
    NotebookClient(notebook, timeout=600, resources=where).execute()
    written = tmp_path / "instance/tour"
    assert (written / "audit.html").is_file()
    assert (written / "models/binary-cnn/1/card.json").is_file()
    assert (written / "evaluation/plots.html").is_file()
    text = str([cell.get("outputs") for cell in notebook.cells])
    assert "binary-cnn, version 1, on " in text
    assert "slice-4.webp" in text
