"""DICOM headers in which every element that may identify a patient does so.

`confidentiality_profile.csv` has table E.1-1 of PS3.15 as the package idiscore 1.6.0 read it from
the standard on 2025-06-24, so it owes nothing to the package that de-identifies files here.
"""

import csv
from pathlib import Path
from typing import Any

from pydicom import DataElement, Dataset, uid
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.tag import Tag

with Path(__file__).with_name("confidentiality_profile.csv").open() as _file:
    _TABLE = list(csv.DictReader(_file))
TAGS = {Tag(int(row["tag"], 16)): row for row in _TABLE if "x" not in row["tag"]}
_REPEATED = [row["tag"] for row in _TABLE if "x" in row["tag"]]  # overlays and curves
IN_A_FILE = [tag for tag in TAGS if tag.group >= 8]

SECRET = "DOE4711"
_VALUES: dict[str, Any] = {
    "AS": "047Y",
    "DA": "19620417",
    "DS": "47.114711",
    "DT": "19620417101112.131415+0100",
    "FD": 47.114711,
    "FL": 47.114711,
    "IS": "4711471",
    "OB": SECRET.encode() + b"0",
    "OW": SECRET.encode() + b"0",
    "SL": 47114711,
    "SS": 4711,
    "TM": "101112.131415",
    "UL": 47114711,
    "UN": SECRET.encode() + b"0",
    "US": 47110,
}
# By which any of them is found in a file or a text.
FOUND_IN_BYTES = (SECRET.encode(), b"19620417", b"101112.131415", b"47.114711", b"1.2.3.4711")


def find_vr(tag: Any) -> str:
    """Give the value representation of a tag; LO of one that pydicom does not know yet."""
    return dictionary_VR(tag) if dictionary_has_tag(tag) else "LO"


def _make_value(tag: Any) -> Any:
    vr = find_vr(tag)
    if vr == "SQ":
        item = Dataset()
        item.PatientName, item.ReferencedSOPInstanceUID = SECRET, "1.2.3.4711.1"
        item.ReferencedSOPClassUID, item.CodeMeaning = uid.MRImageStorage, "kept"
        return [item]
    return f"1.2.3.4711.{int(tag)}" if vr == "UI" else _VALUES.get(vr, SECRET)


def fill(dataset: Dataset) -> None:
    """Give a data set an element with a value for each tag of the table, and what is private."""
    for tag in IN_A_FILE:
        dataset[tag] = DataElement(tag, find_vr(tag), _make_value(tag))
    for tag in _REPEATED:
        dataset.add_new(int(tag.replace("x", "0"), 16), "LO", SECRET)
    dataset.private_block(0x0009, SECRET, create=True).add_new(1, "LO", SECRET)
    dataset.add_new(0x00080002, "LO", SECRET)  # in no dictionary
