"""A prediction and its model's figures in plain words, for the page."""

_CLASS_NAMES = {
    "glioma": "Glioma",
    "healthy": "No tumour",
    "meningioma": "Meningioma",
    "notumor": "No tumour",
    "pituitary": "Pituitary tumour",
    "tumor": "Tumour",
}

_MEANINGS = {
    "glioma": "A tumour that grows from the brain’s supporting cells, the glia.",
    "healthy": "That does not rule one out: a single slice shows little of a brain.",
    "meningioma": "A tumour of the membranes that wrap the brain; most are benign.",
    "notumor": "That does not rule one out: a single slice shows little of a brain.",
    "pituitary": "A tumour of the pituitary gland, at the base of the brain.",
    "tumor": "This model does not say of which kind.",
}

_PROTOCOLS = {
    "grouped": "kept out of training, with no near-copies in it",
    "official": "of the data set’s own test folder, with near-copies of training scans among them",
    "patient": "of patients who were kept out of training",
    "random-75-25": "drawn at random, with near-copies of training scans among them",
    "random-80-20": "drawn at random, with near-copies of training scans among them",
}


def class_name(label: str) -> str:
    """Name a class: "notumor" → "No tumour". One that is not known keeps its own name."""
    return _CLASS_NAMES.get(label) or label.replace("_", " ").replace("-", " ").capitalize()


def finding(label: str) -> str:
    """Say what a model found, as a headline: "notumor" → "No tumour found by this model"."""
    name = class_name(label)
    return f"{name} found by this model" if name == "No tumour" else name


def meaning(label: str) -> str:
    """Explain a class in a sentence; "" for one that is not known."""
    return _MEANINGS.get(label, "")


def protocol_meaning(protocol: str) -> str:
    """Describe the scans that a protocol measures on, to follow the word "scans"."""
    return _PROTOCOLS.get(protocol, "kept out of training")


def percent(share: float) -> str:
    """Write a share of 0 to 1 to one decimal: 0.9712 → "97.1%"."""
    return f"{share:.1%}"


def probability(share: float) -> str:
    """Write a probability as `percent` does, but never as certain: 0.99999 → ">99.9%"."""
    if share >= 0.9995:
        return ">99.9%"
    if share < 0.0005:
        return "<0.1%"
    return percent(share)


FILTERS = (class_name, finding, meaning, percent, probability, protocol_meaning)
