import pytest

from brainscan.bundle.protocols import PROTOCOLS
from tumorapp.language import wording


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("glioma", "Glioma"),
        ("pituitary", "Pituitary tumour"),
        ("tumor", "Tumour"),
        ("notumor", "No tumour"),
        ("healthy", "No tumour"),
        ("brain_stem-glioma", "Brain stem glioma"),
    ],
)
def test_classes_in_plain_words(label: str, name: str) -> None:
    assert wording.class_name(label) == name


def test_a_class_without_an_explanation_gets_none() -> None:
    assert "glia" in wording.meaning("glioma")
    assert wording.meaning("astrocytoma") == ""


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.97123, "97.1%"),
        (0.5, "50.0%"),
        (1.0, ">99.9%"),
        (0.9996, ">99.9%"),
        (0.9994, "99.9%"),
        (0.0, "<0.1%"),
        (0.00051, "0.1%"),
    ],
)
def test_a_probability_is_never_certain(share: float, text: str) -> None:
    assert wording.probability(share) == text


@pytest.mark.parametrize(("share", "text"), [(0.031, "3%"), (0.004, "<1%"), (0.0, "<1%")])
def test_a_region_is_never_nothing(share: float, text: str) -> None:
    assert wording.area(share) == text


def test_a_measured_share_may_be_whole() -> None:
    assert wording.percent(1.0) == "100.0%"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_is_described(protocol: str) -> None:
    assert wording.protocol_meaning(protocol) != wording.protocol_meaning("of one's own")
