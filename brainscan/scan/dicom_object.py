"""What a DICOM file is by its header: an MR image of a head, or something that is refused.

No value of a header gets into an error or a note, other than names of DICOM's own dictionary: any
other may identify a patient.
"""

import re
from collections.abc import Iterator

from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.uid import UID

from brainscan.messages import Message, ScanError
from brainscan.scan.dicom_header import EACH, SHARED, DicomFile
from brainscan.scan.encapsulated import ACCEPTED
from brainscan.scan.facts import read_terms

DIRECTORY = "1.2.840.10008.1.3.10"
_SYNTAXES = ACCEPTED | {
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
}
_STORAGE = "1.2.840.10008.5.1.4.1.1."
# MR images, secondary captures and parametric maps, with all their variants.
_ACCEPTED = tuple(_STORAGE + number for number in ("4", "7", "30"))
_MODALITIES = re.compile(
    "AR|AU|BI|CR|CT|CTPROTOCOL|DG|DOC|DX|ECG|ES|FID|GM|IO|IVUS|KO|LS|MG|NM|OCT|OP|OPT|OT|PR|PT|PX"
    "|REG|RF|RG|RTDOSE|RTIMAGE|RTPLAN|RTRECORD|RTSTRUCT|SEG|SM|SR|TG|US|XA|XC"
)
# Words for the part of the body that is examined. One of another part is enough to refuse, unless
# there is one of the head, too.
_HEAD_PARTS = re.compile("HEAD|BRAIN|SKULL|CRANI|CEREB|PITUI|SELLA|ORBIT|FACE|FACIAL|CALVARI")
_OTHER_PARTS = re.compile(
    "(?<![A-Z])(ABDOMEN|ANKLE|AORTA|ARM|BACK|BLADDER|BREAST|CALF|CARDIAC|CHEST|CLAVICLE|COCCYX|COLON"
    "|CSPINE|ELBOW|EXTREMITY|FEMUR|FINGER|FOOT|FOREARM|HAND|HEART|HIP|HUMERUS|KIDNEY|KNEE|LEG|LIVER"
    "|LSPINE|LUMBAR|LUNG|PANCREAS|PELVIS|PROSTATE|RIB|SACRUM|SCROTUM|SHOULDER|SPINE|SPLEEN|SSPINE"
    "|STERNUM|THIGH|THORAX|THUMB|TIBIA|TOE|TSPINE|UTERUS|WRIST)S?(?![A-Z])"
)

_MOSAIC = "MOSAIC"  # of Siemens: all slices of a volume in one picture
# From the third on, what values of an image type say of one that models have not learned from.
_UNUSUAL = re.compile(
    "LOCALIZER|P|PHASE([ _]MAP)?|REAL|IMAGINARY|VELOCITY([ _]MAP)?|FLOW_ENCODED|DIFFUSION(_ANISO)?"
    "|E?ADC|FA|TENSOR|TRACEW|PERFUSION|ASL|FMRI|RELCB[FV]|RELMTT|TTP|METABOLITE_MAP|TEMPERATURE"
    "|T[12](_STAR)?[ _]MAP|SUB|SUBTRACTION|PROJECTION IMAGE|M(AX|IN)_IP|SCREEN SAVE"
)


def check_object(file: DicomFile) -> None:
    """Refuse what is not an MR image of a head by what its header says."""
    if file.object_class == DIRECTORY:
        raise ScanError("dicomdir")
    modality = str(file.header.get("Modality") or "MR")
    if not file.pixels:
        raise ScanError("no-pixels", object=_name_object(file.object_class, modality))
    if modality != "MR" or (is_known(file.object_class) and not _is_accepted(file.object_class)):
        raise ScanError("not-mr", object=_name_object(file.object_class, modality))
    if _MOSAIC in read_terms(file.header, "ImageType"):
        raise ScanError("mosaic")
    for part in _list_parts(file.header):
        other = _OTHER_PARTS.search(part.upper())
        if other and not _HEAD_PARTS.search(part.upper()):
            raise ScanError("not-a-head", part=other[1].lower())
    if file.syntax not in _SYNTAXES:
        name = file.syntax.name if is_known(file.syntax) else "an unknown transfer syntax"
        raise ScanError("transfer-syntax", syntax=name)


def is_known(name: str) -> bool:
    """Tell whether a UID is one of DICOM's dictionary; any other may identify a patient."""
    return UID(name).name != name


def _is_accepted(object_class: str) -> bool:
    return any(f"{object_class}.".startswith(f"{one}.") for one in _ACCEPTED)


def _name_object(object_class: str, modality: str) -> str:
    """Name an object in DICOM's words."""
    if is_known(object_class) and (modality == "MR" or not _is_accepted(object_class)):
        return UID(object_class).name.removesuffix(" Storage")
    return f"modality {modality}" if _MODALITIES.fullmatch(modality) else "another modality"


def _list_parts(header: Dataset) -> Iterator[str]:
    """List what a header says of the part of the body."""
    yield str(header.get("BodyPartExamined") or "")
    groups = [*(header.get(SHARED) or ()), *(header.get(EACH) or ())[:1]]
    anatomies = [one for group in groups for one in group.get("FrameAnatomySequence") or ()]
    for place_of in (header, *anatomies):
        for region in place_of.get("AnatomicRegionSequence") or ():
            yield str(region.get("CodeMeaning") or "")


def find_unusual(header: Dataset) -> tuple[Message, ...]:
    """Note that an image is of a type that models have not learned from."""
    types = [*read_terms(header, "ImageType")[2:], *read_terms(header, "FrameType")[2:]]
    unusual = [one for one in types if _UNUSUAL.fullmatch(one)]
    return tuple(Message("unusual-image", {"type": one}) for one in unusual[:1])
