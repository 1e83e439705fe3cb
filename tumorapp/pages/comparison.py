"""One scan, all models: what each says of it, and on what they agree.

Models differ in their classes: some tell a tumour from none, some tell kinds of tumour apart. So
they are compared on what all of them answer, whether there is a tumour, and the kind is compared
among those that name one. Answers that are uncertain are shown and not counted.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from brainscan.bundle import Card
from tumorapp.catalog import Catalog
from tumorapp.inference import UNCERTAIN_BELOW, Prediction, Upload, predict_scans


@dataclass(frozen=True)
class Opinion:
    """What one model says of the scan."""

    card: Card
    prediction: Prediction

    @property
    def tumor_share(self) -> float:
        """The probability of a tumour of any kind, 0 to 1."""
        shares = self.prediction.probabilities.items()
        return min(1.0, sum(share for label, share in shares if self.card.is_tumor(label)))

    @property
    def uncertain(self) -> bool:
        """Whether the answer comes with a warning that many like it are wrong."""
        return self.prediction.confidence < UNCERTAIN_BELOW

    @property
    def tells_kinds(self) -> bool:
        """Whether the model tells kinds of tumour apart."""
        return sum(map(self.card.is_tumor, self.card.classes)) > 1


@dataclass(frozen=True)
class Comparison:
    """What all models say of the scan."""

    opinions: Sequence[Opinion]

    @property
    def certain(self) -> list[Opinion]:
        """The opinions that count."""
        return [opinion for opinion in self.opinions if not opinion.uncertain]

    @property
    def tumors(self) -> int:
        """How many that count call it a tumour."""
        return sum(opinion.prediction.tumor for opinion in self.certain)

    @property
    def agrees(self) -> bool:
        """Whether all that count say the same of whether there is a tumour."""
        return self.tumors in (0, len(self.certain))

    @property
    def kinds(self) -> list[tuple[str, int]]:
        """The kinds of tumour that were named and by how many models, the most frequent first."""
        named = (
            opinion.prediction.label
            for opinion in self.certain
            if opinion.prediction.tumor and opinion.tells_kinds
        )
        return Counter(named).most_common()


def compare_models(catalog: Catalog, upload: Upload, max_pixels: int) -> Comparison:
    """Let every model that is served predict a scan.

    Raises:
        UnreadableScanError, OversizedImageError: as `predict_uploads` does.
    """
    opinions = [
        Opinion(
            model.card,
            predict_scans(model, [upload], heatmap=False, max_pixels=max_pixels)[0],
        )
        for _, model in sorted(catalog.models.items())
    ]
    return Comparison(opinions)
