"""The numbers behind a report's plots, kept next to its text as `figures.json`."""

from dataclasses import dataclass
from pathlib import Path

from brainscan.bundle.plain import Amount, Share, read_json
from brainscan.files import read_file

FIGURES_FILE = "figures.json"


@dataclass(frozen=True)
class History:
    """Loss and accuracy after each epoch, of the augmented training scans and in validation."""

    loss: tuple[Amount, ...]
    val_loss: tuple[Amount, ...]
    accuracy: tuple[Share, ...]
    val_accuracy: tuple[Share, ...]


@dataclass(frozen=True)
class RocCurve:
    """The ROC of a class against the others.

    Attributes:
        area: under it, of all its points.
        false_positives: rates, 0 to 1, rising; some of the points at the most.
        true_positives: at those.
    """

    area: Share
    false_positives: tuple[Share, ...]
    true_positives: tuple[Share, ...]


@dataclass(frozen=True)
class Bin:
    """The scans of a range of confidence: mean confidence, accuracy, share of all scans."""

    confidence: Share
    accuracy: Share
    share: Share


@dataclass(frozen=True)
class Figures:
    """What is plotted of a model.

    Attributes:
        history: None where there were no epochs.
        roc: by class; of two classes only the second one's, as the other mirrors it.
        reliability: bins in use, by confidence.
    """

    history: History | None
    roc: dict[str, RocCurve]
    reliability: tuple[Bin, ...]

    def count_right(self, scans: int) -> int:
        """Count the test scans, of so many, whose most probable class is right."""
        return round(scans * sum(one.share * one.accuracy for one in self.reliability))


def read_figures(report: Path) -> Figures | None:
    """Read a report's numbers; None where they are missing or damaged."""
    try:
        return read_json(Figures, read_file(report / FIGURES_FILE))
    except (OSError, ValueError):
        return None
