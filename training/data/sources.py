"""The public data sets this project knows: where each lies, its licence, and its class names."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from brainscan.classes import SPELLINGS

FOUR_CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
UNSTATED_LICENCE = "not stated"


_LINES_SHOWN = 5


class DataError(ValueError):
    """The data cannot be used as it is; the message says what was found and what to do next."""


def list_some(lines: Sequence[str]) -> str:
    """Write the first lines of a list below a message, and how many more there are."""
    more = [f"and {len(lines) - _LINES_SHOWN:,} more"] if len(lines) > _LINES_SHOWN else []
    return "".join(f"\n  {line}" for line in [*lines[:_LINES_SHOWN], *more])


@dataclass(frozen=True)
class Source:
    """One public data set.

    Attributes:
        name: what `flask data fetch` and an exclude pattern call it.
        title: its published title.
        kind: which service serves it.
        handle: its identifier there: `owner/dataset` at Kaggle, the article's number at figshare.
        licence: an SPDX identifier, or `not stated`.
        classes: the canonical names of its classes.
        citation: how to cite it.
    """

    name: str
    title: str
    kind: Literal["kaggle", "figshare"]
    handle: str
    licence: str
    classes: tuple[str, ...]
    citation: str

    @property
    def url(self) -> str:
        """Its page, to read about it or to download it by hand."""
        if self.kind == "kaggle":
            return f"https://www.kaggle.com/datasets/{self.handle}"
        return f"https://figshare.com/articles/dataset/{self.title.replace(' ', '_')}/{self.handle}"


_SOURCES = (
    Source(
        name="sartaj",
        title="Brain Tumor Classification (MRI)",
        kind="kaggle",
        handle="sartajbhuvaji/brain-tumor-classification-mri",
        licence="MIT",
        classes=FOUR_CLASSES,
        citation="Bhuvaji S., Kadam A., Bhumkar P., Dedge S., Kanchan S. Brain Tumor "
        "Classification (MRI). Kaggle, 2020. doi:10.34740/KAGGLE/DSV/1183165",
    ),
    Source(
        name="nickparvar",
        title="Brain Tumor MRI Dataset",
        kind="kaggle",
        handle="masoudnickparvar/brain-tumor-mri-dataset",
        licence="CC0-1.0",
        classes=FOUR_CLASSES,
        citation="Nickparvar M. Brain Tumor MRI Dataset. Kaggle, 2021. "
        "doi:10.34740/KAGGLE/DSV/2645886",
    ),
    Source(
        name="preetviradiya",
        title="Brian Tumor Dataset",  # so spelt by its publisher
        kind="kaggle",
        handle="preetviradiya/brian-tumor-dataset",
        licence=UNSTATED_LICENCE,
        classes=("notumor", "tumor"),
        citation="Viradiya P. Brian Tumor Dataset. Kaggle, 2021.",
    ),
    Source(
        name="br35h",
        title="Br35H :: Brain Tumor Detection 2020",
        kind="kaggle",
        handle="ahmedhamada0/brain-tumor-detection",
        licence=UNSTATED_LICENCE,
        classes=("notumor", "tumor"),
        citation="Hamada A. Br35H :: Brain Tumor Detection 2020. Kaggle, 2020.",
    ),
    Source(
        name="figshare",
        title="brain tumor dataset",
        kind="figshare",
        handle="1512427",
        licence="CC-BY-4.0",
        classes=("glioma", "meningioma", "pituitary"),
        citation="Cheng J. brain tumor dataset (3064 T1-weighted contrast-enhanced slices of "
        "233 patients). figshare, 2017. doi:10.6084/m9.figshare.1512427",
    ),
)
SOURCES = {source.name: source for source in _SOURCES}

_CLASS_OF = {spelling: name for name, spellings in SPELLINGS.items() for spelling in spellings}
CANONICAL_CLASSES = tuple(SPELLINGS)


@dataclass(frozen=True)
class _Own:
    """What a command was told of the names of folders: the class of each, and those it has met."""

    classes: Mapping[str, str]
    met: set[str]


_OWN: ContextVar[_Own | None] = ContextVar("own", default=None)


@contextmanager
def own_classes(names: Mapping[str, str]) -> Iterator[None]:
    """Let names of folders stand for classes meanwhile: `{"Gliom": "glioma"}`.

    Case, spaces, `_` and `-` do not matter, as in the names that are known in any case.

    Args:
        names: the class of each name: a known one in any spelling, or one of its own.
    """
    classes = {_plain(name): canonical_class(to) or to for name, to in names.items()}
    before = _OWN.set(_Own(classes, set()))
    try:
        yield
    finally:
        _OWN.reset(before)


def canonical_class(folder_name: str) -> str | None:
    """Give the canonical name of a class folder, or None where the name is not a known one.

    Case, spaces, `_` and `-` do not matter: `No_Tumor`, `no tumor` and `notumor` are one class.
    Within `own_classes`, its names are known too, and come first.
    """
    return own_class(folder_name) or _CLASS_OF.get(_plain(folder_name))


def own_class(folder_name: str) -> str | None:
    """Give the class that `own_classes` says a name stands for, or None."""
    if (own := _OWN.get()) is None:
        return None
    plain = _plain(folder_name)
    own.met.add(plain)
    return own.classes.get(plain)


def check_own_classes() -> None:
    """Refuse a name of `own_classes` that nothing bears, once all folders are listed.

    Raises:
        DataError: it is likely a slip, and what it was to name would be a class of its own.
    """
    own = _OWN.get()
    if own and (unmet := sorted(own.classes.keys() - own.met)):
        raise DataError(
            f"No folder or class is called {', '.join(unmet)}. Found: "
            f"{', '.join(sorted(own.met))}. Pass --class and --tumor-free the names as they are."
        )


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold().replace("tumour", "tumor")
