"""A prediction and its model's figures in plain words, for the page and in its language."""

from brainscan import Answer, Examination, Message, SeriesExamination
from brainscan.bundle import Card
from tumorapp.language.translation import mark, tell, translate, write_decimal, write_percent

_NO_TUMOR = mark("No tumour")
_UNCERTAIN_FINDING = mark("That does not rule one out: a single slice shows little of a brain.")
_UNCERTAIN_WHOLE = mark("That does not rule one out: a model may miss a small tumour.")
_CLASS_NAMES = {
    "glioma": mark("Glioma"),
    "healthy": _NO_TUMOR,
    "meningioma": mark("Meningioma"),
    "notumor": _NO_TUMOR,
    "pituitary": mark("Pituitary tumour"),
    "tumor": mark("Tumour"),
}

_HEADLINES = {
    "tumor-kind-unclear": mark("Tumour, kind unclear"),
    "no-tumor": mark("No tumour found"),
    "unclear": mark("Unclear whether there is a tumour"),
    "not-recognised": mark("Not recognised as an MRI slice of a head"),
}
# What the headline and its explanation say, and what stands at the picture.
_IN_THE_HEADLINE = frozenset({"kind-unclear", "tumor-unclear", "not-a-scan"})
_AT_THE_PICTURE = frozenset({"no-heatmap", "no-reliable-map"})

_MEANINGS = {
    "glioma": mark("A tumour that grows from the brain’s supporting cells, the glia."),
    "healthy": _UNCERTAIN_FINDING,
    "meningioma": mark("A tumour of the membranes that wrap the brain; most are benign."),
    "notumor": _UNCERTAIN_FINDING,
    "pituitary": mark("A tumour of the pituitary gland, at the base of the brain."),
    "tumor": mark("This model does not say which kind."),
}

# For who asks what a kind of tumour is; a question is one text, as languages decline its noun.
_QUESTIONS = {
    "glioma": mark("What is a glioma?"),
    "meningioma": mark("What is a meningioma?"),
    "pituitary": mark("What is a pituitary tumour?"),
}
_BACKGROUNDS = {
    "glioma": mark(
        "Gliomas grow within the brain. They range from slow ones (grade 1) to the glioblastoma "
        "(grade 4), and most malignant brain tumours are gliomas. In MRI their edge is often "
        "blurred, with swelling around them; a fast one may be a bright ring around a dark core "
        "after contrast agent."
    ),
    "meningioma": mark(
        "Meningiomas are the most frequent tumours that begin inside the skull. They press on the "
        "brain from outside, and most grow slowly. In MRI they are often a round, even, sharply "
        "bounded mass with a broad base on the skull or between the halves of the brain, bright "
        "after contrast agent."
    ),
    "pituitary": mark(
        "Nearly all are benign adenomas. The gland lies in a hollow of the skull’s base, just "
        "below the crossing of the optic nerves: a tumour there can change hormones or narrow the "
        "field of view. In MRI it is a mass in the middle, at the level of the eyes."
    ),
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
    mark("variants-75-25"): mark(
        "drawn at random from all variants of all scans, nearly all of which have variants of "
        "themselves in training"
    ),
    mark("random-80-20"): _DRAWN_AT_RANDOM,
}


def class_name(label: str) -> str:
    """Name a class: "notumor" → "No tumour". One that is not known keeps its own name."""
    if name := _CLASS_NAMES.get(label):
        return translate(name)
    return label.replace("_", " ").replace("-", " ").capitalize()


def headline(found: Answer) -> str:
    """Say what a model found, in a few words: "Glioma", "Tumour, kind unclear"."""
    words = _HEADLINES.get(found.verdict)
    return translate(words) if words else class_name(found.label)


def stated_share(found: Answer) -> float | None:
    """Give the probability that belongs to the headline, 0 to 1; None where none does.

    It is that of a tumour of any kind where the kind, or whether there is one, is left open.
    """
    if found.verdict == "not-recognised":
        return None
    return found.tumor_probability if is_open(found) else found.confidence


def is_open(found: Answer) -> bool:
    """Tell whether an answer leaves open the kind of a tumour, or whether there is one."""
    return found.verdict in ("tumor-kind-unclear", "unclear")


def certainty(found: Answer) -> str:
    """Say how probable the headline is: "98.0% confidence"; "" where that would mean nothing."""
    share = stated_share(found)
    if share is None:
        return ""
    if is_open(found):
        return translate("%(share)s probability of a tumour", share=probability(share))
    return translate("%(share)s confidence", share=probability(share))


def answer(found: Answer) -> str:
    """Say what a model found and how probable that is: "Glioma, 98.0% confidence"."""
    return ", ".join(filter(None, (headline(found), certainty(found))))


def explanation(found: Answer) -> str:
    """Explain an answer in a sentence or two; "" for a class that is not known."""
    if found.verdict == "not-recognised":
        return translate(
            "Such a slice is grey, with black around the head. A model classifies any picture it "
            "is given, so what it would have said of this one may mean nothing."
        )
    if found.verdict == "unclear":
        return translate("The probability is too high to say no, and too low to say yes.")
    if found.verdict == "tumor-kind-unclear":
        return f"{list_possible(found)} {_describe_coverage(found.card)}".rstrip()
    if found.verdict == "no-tumor" and isinstance(found, SeriesExamination):
        return translate(_UNCERTAIN_WHOLE)
    return meaning(found.label)


def list_possible(found: Answer) -> str:
    """List the kinds of tumour that remain: "Still possible: Glioma (61%), Meningioma (22%)."."""
    by_share = sorted(found.possible, key=lambda kind: -found.probabilities[kind])
    shares = (f"{class_name(kind)} ({probability(found.probabilities[kind])})" for kind in by_share)
    return translate("Still possible: %(kinds)s.", kinds=", ".join(shares))


def _describe_coverage(card: Card) -> str:
    measured = card.measurement.decision if card.measurement else None
    if measured is None or measured.kinds_covered is None:
        return ""
    share = percent(measured.kinds_covered, 0)
    return translate("Such a list had the right kind in %(share)s of the test scans.", share=share)


def named(found: Answer) -> tuple[str, ...]:
    """List the classes that an answer names."""
    if found.verdict == "tumor-kind-unclear":
        return found.possible
    return (found.label,) if found.verdict in ("tumor", "no-tumor") else ()


def remarks(found: Answer) -> list[Message]:
    """List the warnings that neither the headline nor the picture tells already."""
    told = _IN_THE_HEADLINE | _AT_THE_PICTURE
    if found.verdict == "not-recognised":  # how sure it would have been does not matter
        told |= {"uncertain"}
    return [warning for warning in found.warnings if warning.code not in told]


def missing_map(found: Examination) -> str:
    """Say why nothing is marked in a picture; "" where no map was asked for."""
    if reasons := [warning for warning in found.warnings if warning.code in _AT_THE_PICTURE]:
        return tell(reasons[0])
    if found.verdict == "not-recognised":
        return translate("Nothing is marked in a picture that is not recognised.")
    return translate("The model marks no region.") if found.lesion_map is not None else ""


def pointing(card: Card) -> str:
    """Say how well a model's map points at tumours; "" where that was not measured."""
    figures = card.measurement.pointing if card.measurement else None
    if figures is None:
        return ""
    return translate(
        "The map’s peak lies in the tumour in %(peak)s of %(scans)s scans (middle of the head: "
        "%(centre)s).",
        scans=write_decimal(figures.scans, 0),
        peak=percent(figures.peak, 0),
        centre=percent(figures.centre, 0),
    )


def area(share: float) -> str:
    """Write a region's share of the head: 0.031 → "3%", 0.002 → "<1%"."""
    return f"<{percent(0.01, 0)}" if share < 0.005 else percent(share, 0)


def meaning(label: str) -> str:
    """Explain a class in a sentence; "" for one that is not known."""
    return translate(_MEANINGS.get(label, ""))


def question(label: str) -> str:
    """Ask what a kind of tumour is: "What is a glioma?"; "" for a class without `background`."""
    return translate(_QUESTIONS.get(label, ""))


def background(label: str) -> str:
    """Tell what a kind of tumour is and looks like, in a few sentences; "" for another class."""
    return translate(_BACKGROUNDS.get(label, ""))


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
    if precision != "int8" or card.graphs is None or card.graphs.int8.accuracy is None:
        return ""
    share = percent(card.graphs.int8.accuracy)
    return translate("the served int8 graph: %(share)s", share=share)


FILTERS = (
    answer,
    area,
    background,
    certainty,
    class_name,
    explanation,
    headline,
    int8_accuracy,
    is_open,
    list_possible,
    missing_map,
    named,
    percent,
    pointing,
    probability,
    protocol_meaning,
    question,
    remarks,
    stated_share,
)
