"""One scan, all models: what each says of it, and on what they agree.

Models differ in their classes: some tell a tumour from none, some tell kinds of tumour apart. So
they are compared on what all of them answer, whether there is a tumour, and the kind is compared
among those that name one. Answers that leave open whether there is a tumour, and uncertain ones,
are shown and not counted.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from brainscan import Examination, Model

_SIDE = 192  # pixels, of the picture next to an opinion


@dataclass(frozen=True)
class Comparison:
    """What all models say of the scan."""

    opinions: Sequence[Examination]

    @property
    def decided(self) -> list[Examination]:
        """The opinions that count: those that say whether there is a tumour."""
        return [opinion for opinion in self.opinions if _decides(opinion)]

    @property
    def tumors(self) -> int:
        """How many that count call it a tumour."""
        return sum(opinion.tumor for opinion in self.decided)

    @property
    def agrees(self) -> bool:
        """Whether all that count say the same of whether there is a tumour."""
        return self.tumors in (0, len(self.decided))

    @property
    def kinds(self) -> list[tuple[str, int]]:
        """The kinds of tumour that were named and by how many models, the most frequent first."""
        named = (
            opinion.label
            for opinion in self.decided
            if opinion.verdict == "tumor"
            and sum(map(opinion.card.is_tumor, opinion.card.classes)) > 1
        )
        return Counter(named).most_common()


def compare_models(models: Iterable[Model], found: Examination) -> Comparison:
    """Let all models examine a picture that one of them has examined; it is read only once."""
    opinions = [found if model.card is found.card else _ask(model, found) for model in models]
    small = found.picture.shrink(_SIDE)
    return Comparison([opinion.with_picture(small) for opinion in opinions])


def _decides(opinion: Examination) -> bool:
    """Tell whether an opinion says if there is a tumour; its kind may be open."""
    if opinion.verdict == "tumor-kind-unclear":
        return True
    return opinion.verdict in ("tumor", "no-tumor") and not opinion.uncertain


def _ask(model: Model, found: Examination) -> Examination:
    [opinion] = model.conclude(
        [model.prepare(found.name, found.picture, sha256=found.reading.sha256)]
    )
    return opinion
