"""Publishing without a process of its own for each conversion."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from training.export import ExportError, convert


@contextmanager
def converting_here() -> Iterator[None]:
    """Convert models in this process, where TensorFlow is loaded already."""

    def export(model: Path, folder: Path) -> str | None:
        try:
            return convert(model, folder)
        except (AttributeError, ValueError) as error:
            raise ExportError from error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.publish.export_graph", export)
        yield
