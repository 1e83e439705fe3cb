"""A prediction and its model's figures in plain words, for the page and in its language."""

from brainscan.bundle import Card
from tumorapp.language.translation import mark, translate, write_percent

_NO_TUMOR = mark("No tumour")
_UNCERTAIN_FINDING = mark("That does not rule one out: a single slice shows little of a brain.")
_CLASS_NAMES = {
    "glioma": mark("Glioma"),
    "healthy": _NO_TUMOR,
    "meningioma": mark("Meningioma"),
    "notumor": _NO_TUMOR,
    "pituitary": mark("Pituitary tumour"),
    "tumor": mark("Tumour"),
}

_MEANINGS = {
    "glioma": mark("A tumour that grows from the brain’s supporting cells, the glia."),
    "healthy": _UNCERTAIN_FINDING,
    "meningioma": mark("A tumour of the membranes that wrap the brain; most are benign."),
    "notumor": _UNCERTAIN_FINDING,
    "pituitary": mark("A tumour of the pituitary gland, at the base of the brain."),
    "tumor": mark("This model does not say which kind."),
}

_DRAWN_AT_RANDOM = mark("drawn at random, with near-copies of training scans among them")
_KEPT_OUT = mark("kept out of training")
_PROTOCOLS = {
    mark("grouped"): mark("kept out of training, with no near-copies in it"),
    mark("leave-one-source-out"): mark("of a data set of which nothing was trained on"),
    mark("official"): mark(
        "of the data set’s own test folder, with near-copies of training scans among them"
    ),
    mark("patient"): mark("of patients who were kept out of training"),
    mark("random-75-25"): _DRAWN_AT_RANDOM,
    mark("random-80-20"): _DRAWN_AT_RANDOM,
}


def class_name(label: str) -> str:
    """Name a class: "notumor" → "No tumour". One that is not known keeps its own name."""
    if name := _CLASS_NAMES.get(label):
        return translate(name)
    return label.replace("_", " ").replace("-", " ").capitalize()


def finding(label: str) -> str:
    """Say what a model found, as a headline: "notumor" → "No tumour found by this model"."""
    if _CLASS_NAMES.get(label) == _NO_TUMOR:
        return translate("No tumour found by this model")
    return class_name(label)


def meaning(label: str) -> str:
    """Explain a class in a sentence; "" for one that is not known."""
    words = _MEANINGS.get(label)
    return translate(words) if words else ""


def protocol_meaning(protocol: str) -> str:
    """Describe the scans that a protocol measures on, to follow the word "scans"."""
    return translate(_PROTOCOLS.get(protocol, _KEPT_OUT))


def percent(share: float, digits: int = 1) -> str:
    """Write a share of 0 to 1, by default to one decimal: 0.9712 → "97.1%"."""
    return write_percent(share, digits)


def probability(share: float) -> str:
    """Write a probability as `percent` does, but never as certain: 0.99999 → ">99.9%"."""
    if share >= 0.9995:
        return f">{percent(0.999)}"
    if share < 0.0005:
        return f"<{percent(0.001)}"
    return percent(share)


def int8_accuracy(card: Card, precision: str) -> str:
    """Tell the accuracy of the int8 graph where it is served; "" where it is not.

    The other figures of a card are those of the fp16 graph.
    """
    if precision != "int8" or card.graphs is None:
        return ""
    share = percent(card.graphs.int8.accuracy)
    return translate("the served int8 graph: %(share)s", share=share)


FILTERS = (class_name, finding, int8_accuracy, meaning, percent, probability, protocol_meaning)
