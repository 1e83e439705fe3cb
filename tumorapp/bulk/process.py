"""What a process of a run does: open the model once, read files, predict them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from brainscan import Model
from brainscan.engine import choose_engine
from brainscan.opening import open_version
from tumorapp.bulk.heatmaps import write_heatmaps
from tumorapp.bulk.predict import Row, predict_rows
from tumorapp.bulk.sources import Source, make_reader


@dataclass(frozen=True)
class Bundle:
    """A published model as another process opens it, for one inference at a time in one thread.

    Attributes:
        folder: of its version.
        engine, graph: see `choose_engine`.
    """

    folder: Path
    engine: str = "openvino"
    graph: str = "auto"

    def open(self) -> Model:
        """Open it, once in each process; raises as `open_version` does."""
        return _open(self)


@lru_cache(maxsize=1)
def _open(bundle: Bundle) -> Model:
    return open_version(bundle.folder, choose_engine(bundle.engine, 1, bundle.graph))


def predict_sources(
    model: Model | Bundle,
    max_pixels: int,
    heatmaps: Path | None,
    groups: Sequence[Sequence[Source]],
) -> list[list[Row]]:
    """Predict groups of files, and give the rows of each.

    Args:
        model: or the bundle that it is opened from.
        max_pixels: the largest width × height accepted.
        heatmaps: the folder of the pictures with heat maps; None for none.
        groups: those of a series together, any other file as a group of its own.
    """
    sources = [source for group in groups for source in group]
    draw = None
    if heatmaps:
        targets = {source.name: source.target for source in sources}
        draw = partial(write_heatmaps, heatmaps, targets)
    return predict_rows(
        model.open() if isinstance(model, Bundle) else model,
        groups,
        make_reader(sources),
        max_pixels=max_pixels,
        draw=draw,
    )
