"""DICOM → the same without what identifies a patient, by the basic profile of PS3.15, annex E.

dicom-anonymizer knows the profile's table E.1-1: an action for each tag, and what stands in for a
value. It acts at the top of a data set only, though, and keeps dates that the table wants removed,
so the table is applied here, at every depth. Where it leaves a choice that depends on the kind of
object, the element stays, without its value.
"""

import io
import re
import secrets
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from pathlib import PurePath
from typing import Any

from dicomanonymizer import simpledicomanonymizer as profile
from pydicom import DataElement, Dataset, FileDataset, dcmread, uid
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.uid import UID, generate_uid

from brainscan.messages import Message, ScanError
from brainscan.scan.bounds import refuse

# This silences pydicom, too, which quotes what it finds odd.
from brainscan.scan.dicom_header import BAD_HEADER, DICOM_DAMAGE
from brainscan.scan.dicom_object import DIRECTORY, is_known

_TABLE: dict[tuple[int, ...], Callable[..., None]] = profile.initialize_actions("dicomfields_2026c")
_EMPTIED = (profile.empty, profile.delete_or_empty)
_REMOVED_OR_REPLACED = (profile.delete_or_replace, profile.delete_or_empty_or_replace)
_SEARCHED = (profile.keep, profile.delete_or_empty_or_replace_UID)

_FIRST_GROUP = 8  # those before it belong to messages, to the beginning of a file, or to a DICOMDIR
_TEMPORAL = ("DA", "DT", "TM")
_NOT_SHIFTED = {0x00100030, 0x00100032, 0x00160077}  # of the birth, and of a satellite
_TIME = re.compile(r"[\d.]+\s*")
_DATE = re.compile(r"(\d{8})([\d.]*)(?:[+-]\d{4})?\s*")
_MOST_DAYS = 3650

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_UNDEFINED = 0xFFFFFFFF  # a length
_METHODS = {  # in the words of CID 7050
    "113100": "Basic Application Confidentiality Profile",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
}
# Modalities and kinds of objects whose pictures often have text in them.
_LABELLED = re.compile("ES|GM|HC|IVUS|OT|US|XC")
_LABELLED_OBJECTS = re.compile("Secondary Capture|Ultrasound|Endoscop|Photograph")


@dataclass(frozen=True)
class Deidentified:
    """A file without what identifies a patient.

    Attributes:
        place: where it belongs, by its new UIDs: study/series/instance.dcm.
        data: the whole file.
        warnings: what a person had better look at.
    """

    place: PurePath
    data: bytes
    warnings: tuple[Message, ...]


@dataclass(frozen=True)
class _Patient:
    """What stands in for a patient: a name, and the days by which dates become earlier."""

    name: str = field(default_factory=partial(secrets.token_hex, 4))
    days: int = field(default_factory=lambda: 1 + secrets.randbelow(_MOST_DAYS))


class Deidentifier:
    """De-identifies files that belong together: what had the same UID or patient still does.

    What stands in for either is random and is not kept, so that nobody finds the way back.

    Args:
        shift_dates: whether dates become earlier, by as many days for all files of a patient,
            instead of being removed; times of day stay.
    """

    def __init__(self, *, shift_dates: bool = False) -> None:
        self._shifts = shift_dates
        self._uids: dict[str, str] = defaultdict(partial(generate_uid, None))
        self._patients: dict[tuple[str, ...], _Patient] = defaultdict(_Patient)

    def deidentify(self, data: bytes) -> Deidentified:
        """De-identify a DICOM file; its pixels stay as they are.

        Raises:
            ScanError: damaged, a DICOMDIR, or in a transfer syntax that is not known.
        """
        with refuse(DICOM_DAMAGE, BAD_HEADER):
            file = dcmread(io.BytesIO(data), force=True)
            _check(file)
            syntax = _find_syntax(file)
            warnings = (Message("burnt-in-text"),) if _may_show_text(file) else ()
            patient = self._patients[_identify_patient(file)]
            self._clean(file, patient.days if self._shifts else 0)
            self._sign(file, patient)
            file.preamble, file.file_meta = bytes(128), FileMetaDataset()
            file.file_meta.TransferSyntaxUID = syntax
            written = io.BytesIO()
            file.save_as(written, enforce_file_format=True)
        study, series = (file.get(f"{one}InstanceUID") or "none" for one in ("Study", "Series"))
        place = PurePath(str(study), str(series), f"{file.SOPInstanceUID}.dcm")
        return Deidentified(place, written.getvalue(), warnings)

    def _clean(self, dataset: Dataset, days: int) -> None:
        for tag in list(dataset.keys()):
            # The dictionary knows no private tag, and none of an overlay or a curve.
            if tag.group >= _FIRST_GROUP and dictionary_has_tag(tag):
                self._apply(dataset, tag, days)
            else:
                del dataset[tag]

    def _apply(self, dataset: Dataset, tag: BaseTag, days: int) -> None:
        """Do with an element what the table says."""
        action = _TABLE.get((tag.group, tag.element), profile.keep)
        vr = "SQ" if dataset.get_item(tag).VR == "SQ" else dictionary_VR(tag)
        if days and vr in _TEMPORAL and (shifted := _shift(dataset, tag, vr, days)):
            dataset[tag] = DataElement(tag, vr, shifted)
        elif action is profile.delete or (vr == "SQ" and action in _REMOVED_OR_REPLACED):
            del dataset[tag]
        elif action in _EMPTIED or (action is profile.keep and vr in _TEMPORAL):
            dataset[tag] = DataElement(tag, vr, None)
        elif vr == "SQ" and action in _SEARCHED:
            for item in dataset[tag].value:
                self._clean(item, days)
        elif action is not profile.keep:
            dataset[tag] = DataElement(tag, vr, self._replace(dataset, tag, vr))

    def _replace(self, dataset: Dataset, tag: BaseTag, vr: str) -> Any:
        """Give what stands in for the value of an element."""
        if vr == "SQ":
            return [Dataset()]
        if vr == "UI":
            return [one if is_known(one) else self._uids[one] for one in _list(dataset, tag)]
        dummy = DataElement(tag, vr, None)
        profile.replace_element(dummy)
        return dummy.value

    def _sign(self, file: FileDataset, patient: _Patient) -> None:
        """Tell a patient's files from others', and say what was done."""
        file.PatientName = file.PatientID = patient.name
        file.PatientIdentityRemoved = "YES"
        file.LongitudinalTemporalInformationModified = "MODIFIED" if self._shifts else "REMOVED"
        methods = list(_METHODS.items())[: 1 + self._shifts]
        file.DeidentificationMethod = [meaning for _, meaning in methods]
        file.DeidentificationMethodCodeSequence = [_code(*method) for method in methods]


def _check(file: FileDataset) -> None:
    """Refuse a DICOMDIR, and a file that is cut short, which pydicom does not mind."""
    if file.file_meta.get("MediaStorageSOPClassUID") == DIRECTORY:
        raise ScanError("dicomdir")
    last: Any = file.get_item(list(file.keys())[-1])
    cut = isinstance(last, RawDataElement) and len(last.value or b"") < last.length != _UNDEFINED
    if cut or ("Rows" in file and not any(one in file for one in _PIXELS)):
        raise EOFError


def _find_syntax(file: FileDataset) -> UID:
    """Give the transfer syntax that a file names, or else the one that it was read in."""
    implicit, little = file.original_encoding
    plain = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
    assumed = uid.ImplicitVRLittleEndian if implicit else plain
    syntax = UID(file.file_meta.get("TransferSyntaxUID") or assumed)
    if syntax not in uid.AllTransferSyntaxes:
        raise ScanError("transfer-syntax", syntax="an unknown transfer syntax")
    return syntax


def _identify_patient(file: FileDataset) -> tuple[str, ...]:
    known = [str(file.get(one) or "") for one in ("PatientID", "IssuerOfPatientID")]
    return tuple(known) if known[0] else (str(file.get("StudyInstanceUID")),)


def _may_show_text(file: FileDataset) -> bool:
    """Tell whether the pixels, or the bits that they leave, may hold text."""
    overlays = [group for group in range(0x6000, 0x6020, 2) if (group, 0x0102) in file]
    if any(file[group, 0x0102].value for group in overlays):  # which bit of a pixel is its own
        return True
    stated = str(file.get("BurnedInAnnotation") or "")
    if stated in ("YES", "NO"):
        return stated == "YES"
    return bool(
        _LABELLED.fullmatch(str(file.get("Modality") or ""))
        or _LABELLED_OBJECTS.search(UID(str(file.get("SOPClassUID") or "")).name)
        or "SCREEN" in str(file.get("ImageType") or "")
    )


def _list(dataset: Dataset, tag: BaseTag) -> list[str]:
    value = dataset[tag].value or []
    return [str(one) for one in (value if isinstance(value, MultiValue | list) else [value])]


def _shift(dataset: Dataset, tag: BaseTag, vr: str, days: int) -> list[str]:
    """Give dates that many days earlier, and times as they are; none where that is not possible."""
    written = [] if tag in _NOT_SHIFTED else _list(dataset, tag)
    if vr == "TM":
        return written if all(map(_TIME.fullmatch, written)) else []
    found = list(map(_DATE.fullmatch, written))
    if not all(found):
        return []
    try:
        earlier = [(date.fromisoformat(one[1]) - timedelta(days), one[2]) for one in found if one]
    except (OverflowError, ValueError):
        return []
    return [f"{day.isoformat().replace('-', '')}{time}" for day, time in earlier]


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code
