"""What a header says of a scan and people want to see, and nothing that may identify a patient.

Only finite numbers within their range and words of DICOM's own lists are taken, whatever else an
element holds. Of free text it says only that there is some.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from brainscan.scan.bounds import DAMAGE

Facts = Mapping[str, str | bool | int | float | Sequence[float]]

_MOST_MM = 1000
# The keyword of an element, and the values of it that are passed on.
_WORDS = {
    "modality": ("Modality", "MR"),
    "acquisition": ("MRAcquisitionType", "2D 3D"),
    "scanning_sequence": ("ScanningSequence", "SE IR GR EP RM"),
    "sequence_variant": ("SequenceVariant", "SK MTC SS TRSS SP MP OSP"),
    "weighting": (
        "AcquisitionContrast",
        "DIFFUSION FLOW_ENCODED FLUID_ATTENUATED PERFUSION PROTON_DENSITY STIR T1 T2 T2_STAR TOF",
    ),
    "body_part": ("BodyPartExamined", "BRAIN FACE HEAD HEADNECK IAC ORBIT PITUITARY SELLA SKULL"),
}
# The keywords of elements, of which the first that an image has counts, and the largest number.
_NUMBERS = {
    "field_strength_t": (("MagneticFieldStrength",), 30),
    "repetition_time_ms": (("RepetitionTime",), 100_000),
    "echo_time_ms": (("EchoTime", "EffectiveEchoTime"), 10_000),
    "inversion_time_ms": (("InversionTime", "InversionTimes"), 100_000),
    "flip_angle_degrees": (("FlipAngle",), 360),
    "slice_thickness_mm": (("SliceThickness",), _MOST_MM),
}
_AGENT = "ContrastBolusAgent"
_NO_AGENT = re.compile(
    r"\W*((0|n|no\w*|nil|nicht|kein\w*|ohne|unknown|without)\b|$)", re.IGNORECASE
)
_DAMAGE = (*DAMAGE, AttributeError, RuntimeError)  # the latter of recursion, too
KEYWORDS = (
    *(keyword for keyword, _ in _WORDS.values()),
    *(keyword for keywords, _ in _NUMBERS.values() for keyword in keywords),
    _AGENT,
)
_PLANES = ("sagittal", "coronal", "axial")  # by the axis of the patient that they are normal to
_DIGITS = 4


def read_number(header: Any, keyword: str) -> float | None:
    """Read the first value of an element of a DICOM header; None if missing or not finite."""
    with suppress(*_DAMAGE):
        value = header.get(keyword)
        first = value if isinstance(value, int | float) else value[0]  # several are a list
        return float(first) if math.isfinite(first) and not isinstance(value, bytes) else None
    return None


def read_terms(header: Any, keyword: str) -> list[str]:
    """Read the values of an element of a DICOM header that has words; none if it is missing."""
    with suppress(*_DAMAGE):
        value = header.get(keyword) or ()
        return [value] if isinstance(value, str) else [str(one) for one in value]
    return []


def read_facts(header: Any) -> dict[str, Any]:
    """Read what a DICOM header says of how an image was made."""
    facts: dict[str, Any] = {}
    for name, (keyword, words) in _WORDS.items():
        if told := [one for one in read_terms(header, keyword) if one in words.split()]:
            facts[name] = " ".join(told)
    for name, (keywords, most) in _NUMBERS.items():
        numbers = (read_number(header, keyword) for keyword in keywords)
        number = next((one for one in numbers if one is not None), 0)
        if 0 < number <= most:
            facts[name] = round(number, _DIGITS)
    if any(not _NO_AGENT.match(one) for one in read_terms(header, _AGENT)):
        facts["contrast_agent"] = True
    return facts


def describe_slices(
    size: Iterable[int],
    slices: int,
    across: Any,
    down: Any,
    spacing: Sequence[float],
    apart: float | None = None,
) -> dict[str, Any]:
    """Describe the slices of a volume.

    Args:
        size: how many columns and rows they have, as they are stored.
        slices: how many there are.
        across: the direction in which columns follow each other, towards the patient's left, back
            and head; anything else where it is not known.
        down: the same of rows.
        spacing: mm from column to column, and from row to row; empty where that is not known.
        apart: mm from slice to slice; None where that is not known.
    """
    facts: dict[str, Any] = {"matrix": [*size], "slices": slices}
    if spacing and all(0 < one <= _MOST_MM for one in spacing):
        facts["pixel_spacing_mm"] = [round(one, _DIGITS) for one in spacing]
    if apart is not None and 0 < apart <= _MOST_MM:
        facts["slice_spacing_mm"] = round(float(apart), _DIGITS)
    if len(across) == len(down) == len(_PLANES):
        normal = np.abs(np.cross(across, down))
        if np.isfinite(normal).all() and normal.any():
            facts["plane"] = _PLANES[int(np.argmax(normal))]
    return facts
