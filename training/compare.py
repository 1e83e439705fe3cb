"""Whether a new model takes the place of the version of its name that is served."""

from typing import cast

from brainscan.bundle import Card, Measurement, Training
from brainscan.bundle.protocols import PROTOCOLS, Protocol


def is_worse(new: Card, served: Card) -> tuple[bool, str]:
    """Compare the accuracy on a new model's card with that on the card of the served version.

    On the same test scans, which neither model had seen, the lower one is worse. The served version
    is not asked about other test scans, as it may have been trained on them. There, the new one is
    worse only if the 95 % intervals of the two do not overlap, although the served version was
    measured under a protocol at least as strict. Where its card does not allow even that, nothing
    is known.

    Args:
        new: has been measured; its version does not matter.
        served: of the same name.

    Returns:
        Whether it is worse, and a sentence that says why or why not.
    """
    ours, theirs = new.measurement, served.measurement
    name = f"version {served.version}, which is served,"
    if ours is None or theirs is None:
        return False, f"It cannot be compared with {name} as that was not measured."
    if set(new.classes) != set(served.classes):
        return False, f"It cannot be compared with {name} as that has other classes."
    if _describe_test(ours, new.training) == _describe_test(theirs, served.training):
        return ours.accuracy < theirs.accuracy, (
            f"On the same test scans, {name} has an accuracy of {theirs.accuracy:.4f}, this model "
            f"of {ours.accuracy:.4f}."
        )
    low, high = theirs.intervals.accuracy
    told = (
        f"It cannot be compared closely with {name} as that may have been trained on these test "
        f"scans. On its own ({theirs.protocol}) it has an accuracy of {theirs.accuracy:.4f} (95 % "
        f"interval {low:.4f} to {high:.4f})"
    )
    as_strict = theirs.protocol in PROTOCOLS[PROTOCOLS.index(cast(Protocol, ours.protocol)) :]
    if as_strict and ours.intervals.accuracy[1] < low:
        return True, f"{told}, so this model is clearly worse."
    return False, f"{told}, which does not show that this model is worse."


def _describe_test(measured: Measurement, training: Training | None) -> tuple[object, ...]:
    """Give all that decides which scans a model was tested on, and what they show."""
    return (
        training and (training.manifest, training.seed),
        measured.protocol,
        measured.parts,
        measured.groups,
        {name: one.scans for name, one in measured.by_class.items()},
    )
