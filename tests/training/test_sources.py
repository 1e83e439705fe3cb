import pytest

from training.data.sources import (
    CANONICAL_CLASSES,
    SOURCES,
    DataError,
    canonical_class,
    check_own_classes,
    own_classes,
)

SPELLINGS = {
    "notumor": (
        "no_tumor",
        "notumor",
        "no tumor",
        "No-Tumour",
        "no",
        "NO",
        "healthy",
        "Healthy",
        "Not Cancer",
        "normal",
        "negative",
    ),
    "glioma": ("glioma", "Glioma", "glioma_tumor", "glioma tumour"),
    "meningioma": ("meningioma", "meningioma_tumor", "MENINGIOMA"),
    "pituitary": ("pituitary", "pituitary_tumor", "Pituitary Tumor"),
    "tumor": ("Brain Tumor", "brain_tumour", "tumor", "tumour", "yes", "cancer", "positive"),
}


@pytest.mark.parametrize(
    ("spelling", "canonical"),
    [(spelling, canonical) for canonical, group in SPELLINGS.items() for spelling in group],
)
def test_every_known_spelling_is_mapped(spelling: str, canonical: str) -> None:
    assert canonical_class(spelling) == canonical


@pytest.mark.parametrize("name", ["pred", "TRAIN", "", "_", "metastasis", "notumors", "tumor 2"])
def test_other_names_are_no_class(name: str) -> None:
    assert canonical_class(name) is None


def test_canonical_names_map_to_themselves() -> None:
    assert set(SPELLINGS) == set(CANONICAL_CLASSES)
    assert all(canonical_class(name) == name for name in CANONICAL_CLASSES)


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_is_complete(name: str) -> None:
    source = SOURCES[name]
    assert source.name == name
    assert source.title
    assert source.licence
    assert source.citation
    assert source.handle in source.url
    assert set(source.classes) <= set(CANONICAL_CLASSES)


def test_own_names_are_known_meanwhile() -> None:
    with own_classes({"Gliom": "Glioma Tumour", "kein Tumor": "notumor", "grade 2": "astro"}):
        assert [canonical_class(one) for one in ("GLIOM", "Kein_Tumor", "Grade-2", "no")] == [
            "glioma",
            "notumor",
            "astro",
            "notumor",
        ]
        check_own_classes()
    assert canonical_class("Gliom") is None


def test_an_own_name_that_nothing_bears_is_refused() -> None:
    with own_classes({"Gliom": "glioma", "gesundd": "notumor"}):
        canonical_class("Gliom")
        canonical_class("gesund")
        with pytest.raises(DataError, match=r"is called gesundd\. Found: gesund, gliom\."):
            check_own_classes()
