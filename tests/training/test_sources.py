import pytest

from training.data.sources import (
    BINARY_CLASSES,
    CANONICAL_CLASSES,
    FOUR_CLASSES,
    SOURCES,
    DataError,
    canonical_class,
    to_binary,
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


def test_binary_classes_follow_from_the_canonical_ones() -> None:
    assert {name: to_binary(name) for name in CANONICAL_CLASSES} == {
        "glioma": "tumor",
        "meningioma": "tumor",
        "notumor": "healthy",
        "pituitary": "tumor",
        "tumor": "tumor",
    }
    assert {to_binary(name) for name in CANONICAL_CLASSES} == set(BINARY_CLASSES)


def test_an_unknown_class_is_not_guessed_to_be_a_tumour() -> None:
    with pytest.raises(DataError, match=r"'pred'.*Known: glioma"):
        to_binary("pred")


def test_classes_are_in_the_order_that_models_use() -> None:
    assert list(FOUR_CLASSES) == sorted(FOUR_CLASSES)
    assert list(BINARY_CLASSES) == sorted(BINARY_CLASSES)


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_is_complete(name: str) -> None:
    source = SOURCES[name]
    assert source.name == name
    assert source.title
    assert source.licence
    assert source.citation
    assert source.handle in source.url
    assert set(source.classes) <= set(CANONICAL_CLASSES)
