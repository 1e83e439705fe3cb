"""How a model's outputs become a verdict; every number is chosen on the validation part."""

from dataclasses import dataclass, field

from brainscan.bundle.plain import Amount, Share


@dataclass(frozen=True)
class LesionMap:
    """When a lesion map marks a region.

    Attributes:
        region_from: the value, 0 to 1, from which a pixel of the map is part of the region.
        marked_from: the map's peak, 0 to 1, from which a region is marked at all.
    """

    region_from: Share
    marked_from: Share


@dataclass(frozen=True)
class Decision:
    """When a scan shows a tumour, which kinds remain possible, and when an answer is sure.

    Attributes:
        tumor_from: the probability of a tumour of any kind from which a scan is said to show one.
        unclear: between these probabilities of a tumour it is left open whether there is one; the
            lower is at most `tumor_from`, the higher at least that.
        sure_from: the confidence from which an answer is not called uncertain.
        kind_from: of each kind of tumour, the probability from which it remains possible
            (class-conditional conformal prediction); of a model with fewer than two kinds, none.
        promised: the share of scans whose kind is to be among those that remain possible.
        lesion: of a network with a lesion map, else None.
    """

    tumor_from: Share
    unclear: tuple[Share, Share]
    sure_from: Share
    kind_from: dict[str, Share] = field(default_factory=dict)
    promised: Share = 0.95
    lesion: LesionMap | None = None


@dataclass(frozen=True)
class Refusal:
    """When a picture is not recognised as a slice of a head; see `brainscan.familiarity`.

    Attributes:
        distance_above: the distance from the training scans above which it is not.
    """

    distance_above: Amount
