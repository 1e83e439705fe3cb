"""What was measured of a model: the one shape of it, from the training to the pages and the API."""

from dataclasses import dataclass, field

from brainscan.bundle.plain import Amount, Correlation, Count, Share

Interval = tuple[Share, Share]


@dataclass(frozen=True)
class Intervals:
    """95 % intervals: the 2.5 % and 97.5 % quantiles over draws of whole near-duplicate groups."""

    accuracy: Interval
    balanced_accuracy: Interval
    f1_macro: Interval
    roc_auc: Interval


@dataclass(frozen=True)
class ClassFigures:
    """The figures of one class, 0 to 1, and how many test scans carry its label."""

    precision: Share
    recall: Share
    f1: Share
    scans: Count


@dataclass(frozen=True)
class Mistake:
    """A pair of classes that was confused.

    Attributes:
        label: what the scans show.
        answer: what the model said of them.
        scans: how many.
        confidence: its probability for the scan it was surest of, 0 to 1.
    """

    label: str
    answer: str
    scans: Count
    confidence: Share


@dataclass(frozen=True)
class SourceFigures:
    """How many test scans are of one data set or plane, and the share that is answered rightly."""

    scans: Count
    accuracy: Share


@dataclass(frozen=True)
class Parts:
    """How many scans each part of the division has."""

    train: Count
    validation: Count
    test: Count


@dataclass(frozen=True)
class Leaks:
    """Test scans with a near-duplicate in the training or validation part.

    Attributes:
        scans: how many.
        accuracy_with: of those scans, 0 to 1; None where there are none.
        accuracy_without: of the other test scans; None where there are none.
    """

    scans: Count
    accuracy_with: Share | None
    accuracy_without: Share | None


@dataclass(frozen=True)
class UnnamedFigures:
    """Test scans that show a tumour of a kind that is not named.

    Attributes:
        scans: how many.
        groups: of near-duplicates among them.
        recognized: the share that was taken for a tumour of any kind, 0 to 1.
        interval: its 95 % interval.
    """

    scans: Count
    groups: Count
    recognized: Share
    interval: Interval


@dataclass(frozen=True)
class Pointing:
    """How well a map points at outlined tumours of the test part.

    Attributes:
        peak: how often its highest value lies in the outline, 0 to 1.
        energy: the mean share of its values that lie in the outline, 0 to 1.
        dice: of the region that it marks, 0 to 1; None for a map that marks none.
        centre: how often the middle of the head lies in the outline, 0 to 1.
        random: how often a random pixel of the head does, 0 to 1.
        marked_healthy: the share of heads without a tumour that get a mark; None for a map that
            marks none.
        scans: how many outlined ones there were.
    """

    peak: Share
    energy: Share
    dice: Share | None
    centre: Share
    random: Share
    marked_healthy: Share | None
    scans: Count

    @property
    def beats_centre(self) -> bool:
        """Whether it points at the tumour more often than the middle of the head."""
        return self.peak > self.centre


@dataclass(frozen=True)
class DecisionFigures:
    """What the thresholds of a card's decision are worth on the test part, all shares 0 to 1.

    Attributes:
        tumor_balanced_accuracy: of tumour or none at the threshold; None, as is the next, for a
            model that has no class without a tumour.
        tumor_roc_auc: of tumour or none.
        unclear: the share of scans of which it is left open.
        sure: the share of answers that are not called uncertain.
        sure_accuracy: of those answers; None where there are none.
        kinds_covered: the share of tumours whose kind is among those that remain possible; None, as
            is the next, for a model with fewer than two kinds.
        kinds_left: how many kinds remain possible of a tumour, in the mean.
    """

    tumor_balanced_accuracy: Share | None
    tumor_roc_auc: Share | None
    unclear: Share
    sure: Share
    sure_accuracy: Share | None
    kinds_covered: Share | None
    kinds_left: Amount | None


@dataclass(frozen=True)
class PictureFigures:
    """Pictures of one kind that are not MRI slices of a head.

    Attributes:
        pictures: how many.
        refused: the share that was not recognised, 0 to 1.
    """

    pictures: Count
    refused: Share


@dataclass(frozen=True)
class RefusalFigures:
    """What is not recognised as an MRI slice of a head.

    Attributes:
        scans: the share of test scans that were not, 0 to 1.
        pictures: kind → figures of pictures that had no part in the choice.
    """

    scans: Share
    pictures: dict[str, PictureFigures]


@dataclass(frozen=True)
class CurveAreas:
    """Areas under two curves of confidence while pixels are changed in the order of a map.

    Attributes:
        deletion: while the highest of the map are blurred first, 0 to 1; low where they matter.
        insertion: while they return first to a blurred scan, 0 to 1; high where they matter.
    """

    deletion: Share
    insertion: Share


@dataclass(frozen=True)
class Faithfulness:
    """Whether a model's maps show what its answers come from, measured on the test part.

    Attributes:
        map: areas in the order of its maps.
        centre: of maps that are highest in the middle of the head.
        random: of its maps with their cells shuffled.
        unlearned: mean rank correlation, -1 to 1, of its maps with those of the same network after
            its weights were shuffled: near 1, a map shows the scan and not what was learned.
        scans: how many there were.
    """

    map: CurveAreas
    centre: CurveAreas
    random: CurveAreas
    unlearned: Correlation
    scans: Count


@dataclass(frozen=True)
class Measurement:
    """What a model is worth, measured once on the test part.

    Attributes:
        protocol: how the scans were divided.
        scans: of the test part.
        groups: of near-duplicates among them.
        accuracy: share of the scans, 0 to 1, as are the next three.
        balanced_accuracy: mean recall of the classes.
        f1_macro: mean F1 of the classes.
        roc_auc: mean of the classes, each against the others.
        loss: cross-entropy after calibration, natural logarithm.
        calibration_error: expected, 0 to 1.
        intervals: 95 % intervals.
        bootstrap_rounds: how many draws they are from.
        by_class: figures of each class.
        confusion: how many scans; rows are labels and columns answers, in the classes' order.
        mistakes: pairs that were confused, the one it was surest of first.
        parts: sizes of the parts.
        leaks: what the test part shares with the others.
        seconds_per_epoch: the median; None where there were no epochs.
        by_source: figures of each data set.
        by_plane: figures of each plane: "axial", "coronal", "sagittal", as guessed, or "unknown".
        unnamed_tumors: None where the data has none.
        pointing: of its lesion map, or else of its heat map; None where that was not measured.
        decision: what its thresholds are worth; None for a model whose card has none.
        refusal: what it does not recognise; None for a model that recognises everything.
        faithfulness: of the same map; likewise.
        flips: the share of the scans with a tumour and a marked region in which the model sees no
            tumour once that region is replaced by other tissue of the head, 0 to 1; None where it
            marks none, or that was not measured.
    """

    protocol: str
    scans: Count
    groups: Count
    accuracy: Share
    balanced_accuracy: Share
    f1_macro: Share
    roc_auc: Share
    loss: Amount
    calibration_error: Share
    intervals: Intervals
    bootstrap_rounds: Count
    by_class: dict[str, ClassFigures]
    confusion: tuple[tuple[Count, ...], ...]
    mistakes: tuple[Mistake, ...]
    parts: Parts
    leaks: Leaks
    seconds_per_epoch: Amount | None
    by_source: dict[str, SourceFigures] = field(default_factory=dict)
    by_plane: dict[str, SourceFigures] = field(default_factory=dict)
    unnamed_tumors: UnnamedFigures | None = None
    pointing: Pointing | None = None
    decision: DecisionFigures | None = None
    refusal: RefusalFigures | None = None
    faithfulness: Faithfulness | None = None
    flips: Share | None = None

    @property
    def leaked(self) -> float:
        """The share of the test scans with a near-duplicate in training, 0 to 1."""
        return self.leaks.scans / self.scans if self.scans else 0.0
