"""A series that a model has answered: its files, and what all objects of the answer have in common.

The UID of each object follows from the series, the model and the kind of the object, so that what
is made again, after a crash, takes the place of what is there already.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID
from pydicom.valuerep import DA, TM

from brainscan import Answer, Examination, SliceExamination
from brainscan.lesion import Polygon
from tumorapp.api.openapi import VERSION

NOTICE = "TumorApp: preliminary, made by software. Not for diagnosis."
MAKER = "TumorApp"
NEOPLASM = Code("126952004", "SCT", "Neoplasm of brain")

# What may be empty, but not missing, and is often missing or wrong all the same; and what takes
# only what is right.
_MAY_BE_EMPTY: Mapping[str, Callable[[Any], Any]] = {
    "AccessionNumber": str,
    "PatientBirthDate": DA,
    "PatientID": str,
    "PatientName": str,
    "PatientSex": highdicom.PatientSexValues,
    "ReferringPhysicianName": str,
    "StudyDate": DA,
    "StudyID": str,
    "StudyTime": TM,
}
_NUMBERS = {"report": 1000, "segmentation": 2000, "picture": 3000}  # added to the series'


@dataclass(frozen=True)
class AnsweredSeries:
    """An answer, and the files that it is about.

    Attributes:
        answer: it.
        marked: its slices that a region is marked on.
        strongest: the one that shows most.
        sources: the headers of its files, by SOP instance UID.
    """

    answer: Answer
    marked: Sequence[Examination]
    strongest: Examination
    sources: Mapping[str, Dataset]

    @classmethod
    def of(cls, answer: Answer, sources: Sequence[Dataset]) -> "AnsweredSeries":
        """Find what an answer marks, and its files among those that there are."""
        slices: Sequence[Examination]
        shown: list[Examination] = []
        if isinstance(answer, Examination):
            slices, strongest = [answer], answer
        else:
            slices, strongest = answer.slices, answer.slices[answer.strongest]
            shown += [one for one in answer.slices if one.shows]
        if not shown and answer.lesion:
            shown.append(strongest)
        wanted = {place_of(one).instance for one in slices}
        found = {
            one.SOPInstanceUID: _complete(one) for one in sources if one.SOPInstanceUID in wanted
        }
        return cls(answer, [one for one in shown if one.lesion], strongest, found)

    def source(self, found: Examination) -> Dataset:
        """Give the header of the file that a slice is in."""
        return self.sources[place_of(found).instance]

    def make_uid(self, of: str) -> UID:
        """Make a UID that is always the same of this answer: PS3.5, B.2, of a UUID by its name."""
        card = self.answer.card
        name = f"{place_of(self.strongest).series} {card.name} {card.version} {of}"
        return UID(f"2.25.{uuid5(NAMESPACE_OID, name).int}")

    def describe(self, kind: str) -> dict[str, Any]:
        """Give what all objects say of themselves."""
        number = int(self.source(self.strongest).get("SeriesNumber") or 0)
        return {
            "series_instance_uid": self.make_uid(f"{kind} series"),
            "series_number": _NUMBERS[kind] + number % 1000,
            "sop_instance_uid": self.make_uid(kind),
            "instance_number": 1,
            "manufacturer": MAKER,
            "manufacturer_model_name": self.answer.card.name,
            "software_versions": (self.version, f"brainscan {VERSION}"),
            "device_serial_number": self.version,
            "series_description": f"TumorApp {kind} - not for diagnosis",
        }

    @property
    def version(self) -> str:
        """The model's."""
        return str(self.answer.card.version)

    def refer(self, found: Examination) -> tuple[str, str, list[int] | None]:
        """Give the SOP class and instance of a slice, and its frame where there are several."""
        source = self.source(found)
        several = int(source.get("NumberOfFrames") or 1) > 1
        frame = [place_of(found).frame + 1] if several else None
        return source.SOPClassUID, source.SOPInstanceUID, frame

    def trace(self, found: Examination) -> list[NDArray[np.float64]]:
        """Give the outlines of a slice's regions, in columns and rows of its stored pixels."""
        source, undo = self.source(found), place_of(found).turn.undo
        size = source.Columns, source.Rows
        return [np.array([undo(*point) for point in one]) * size for one in outline_of(found)]


def _complete(header: Dataset) -> Dataset:
    """Give a header all that may be empty, and nothing in it that is not of its kind."""
    whole = Dataset()
    whole.update(header)
    for keyword, take in _MAY_BE_EMPTY.items():
        try:
            take(whole[keyword].value)
        except (KeyError, TypeError, ValueError):
            setattr(whole, keyword, None)
    return whole


def place_of(found: Examination) -> Any:
    """Give where a slice lies in its series, by the header of its file."""
    return found.reading.place


def outline_of(found: Examination) -> Sequence[Polygon]:
    """Give what is marked; where the tumour of a series is shown, only what is part of it."""
    if isinstance(found, SliceExamination) and found.shows:
        return found.region
    return found.lesion.outline if found.lesion else ()
