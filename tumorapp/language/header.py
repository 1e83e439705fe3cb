"""What the header of a DICOM or NIfTI file says, in plain words and in the page's language."""

from collections.abc import Iterator, Mapping
from typing import Any

from tumorapp.language.translation import mark, translate, write_decimal

_PLANES = {"axial": mark("axial"), "coronal": mark("coronal"), "sagittal": mark("sagittal")}
# Of numbers that are written alike: what they are called, and their unit.
_NUMBERS = {
    "slice_thickness_mm": (mark("Slice thickness"), "mm"),
    "field_strength_t": (mark("Field strength"), "T"),
    "repetition_time_ms": (mark("Repetition time"), "ms"),
    "echo_time_ms": (mark("Echo time"), "ms"),
    "inversion_time_ms": (mark("Inversion time"), "ms"),
    "flip_angle_degrees": (mark("Flip angle"), "°"),
}
_DIGITS = 2


def list_facts(header: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List what people want to see of a header, by its names in `brainscan.scan.facts`."""
    return list(_list_facts(header))


def _list_facts(header: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if plane := header.get("plane"):
        yield translate("Plane"), translate(_PLANES[plane])
    if matrix := header.get("matrix"):
        yield translate("Matrix"), " × ".join(map(str, matrix))
    apart = [*header.get("pixel_spacing_mm", ()), header.get("slice_spacing_mm")]
    if numbers := [_write(number) for number in apart if number is not None]:
        yield translate("Spacing"), f"{' × '.join(numbers)} mm"
    words = [header.get(name) for name in ("weighting", "scanning_sequence", "acquisition")]
    if any(words):
        yield translate("Sequence"), ", ".join(filter(None, words))
    for name, (called, unit) in _NUMBERS.items():
        if name in header:
            yield translate(called), f"{_write(header[name])} {unit}".replace(" °", "°")
    if header.get("contrast_agent"):
        yield translate("Contrast agent"), translate("given")


def _write(number: float) -> str:
    return write_decimal(round(number, _DIGITS), _DIGITS).rstrip("0").rstrip(".,")


FILTERS = (list_facts,)
