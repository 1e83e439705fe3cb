import copy
import io
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import DataElement, Dataset, uid

from brainscan.deidentify import Deidentified, Deidentifier
from brainscan.messages import ScanError
from brainscan.scan import read_picture
from tests.identifiers import FOUND_IN_BYTES, IN_A_FILE, SECRET, TAGS, fill, find_vr
from tests.volumes import NATIVE, SYNTAXES, draw_small, write_dicom

SAMPLES = Path("../shared/samples/dicom")


@pytest.fixture(scope="module")
def original() -> Dataset:
    """An MR slice with every tag of the table, twice: in an item of a sequence, too."""
    file = pydicom.dcmread(io.BytesIO(write_dicom()))
    fill(file)
    inner = Dataset()
    fill(inner)
    inner.RelatedSeriesSequence = [copy.deepcopy(inner)]
    file.SharedFunctionalGroupsSequence = [inner]
    return file


def write(file: Dataset) -> bytes:
    written = io.BytesIO()
    pydicom.dcmwrite(written, file)
    return written.getvalue()


def read(found: Deidentified) -> Any:
    return pydicom.dcmread(io.BytesIO(found.data))


@pytest.fixture(scope="module")
def removed(original: Dataset) -> Deidentified:
    return Deidentifier().deidentify(write(original))


@pytest.fixture(scope="module")
def shifted(original: Dataset) -> Deidentified:
    return Deidentifier(shift_dates=True).deidentify(write(original))


def list_levels(file: Dataset) -> list[Dataset]:
    """Give a data set, the item of its sequence, and that of the item's."""
    [inner] = file.SharedFunctionalGroupsSequence
    return [file, inner, *inner.RelatedSeriesSequence]


def is_done(action: str, before: DataElement, after: DataElement | None) -> bool:
    """Tell whether an element is as one of the actions of the table makes it."""
    if after is None:
        return action == "X"
    if action == "Z":
        return after.is_empty or (after.value != before.value and SECRET not in str(after.value))
    if action == "D":
        return not after.is_empty and SECRET not in str(after.value) and after != before
    if action == "U":
        return after.VR == "UI" and after.value.startswith("2.25.")
    if action == "C":
        return after == before if after.VR == "TM" else "1952" < after.value[:8] < "19620417"
    return action == "U*" and all(
        item.ReferencedSOPInstanceUID.startswith("2.25.") and SECRET not in str(item)
        for item in after.value
    )


def list_wrong(original: Dataset, found: Deidentified, *, shifted: bool = False) -> list[str]:
    """List the elements, at each depth, that are as no action of the table makes them."""
    wrong = []
    for before, after in zip(list_levels(original), list_levels(read(found)), strict=True):
        for tag in IN_A_FILE:
            cleaned = shifted and TAGS[tag]["modified_dates"] and find_vr(tag) in ("DA", "DT", "TM")
            actions = "C" if cleaned else TAGS[tag]["basic"]
            if not any(is_done(one, before[tag], after.get(tag)) for one in actions.split("/")):
                wrong.append(f"{after.get(tag, tag)} should be {actions}")
    return wrong


def test_each_tag_of_the_table_at_every_depth(original: Dataset, removed: Deidentified) -> None:
    assert len(IN_A_FILE) == 639
    assert not list_wrong(original, removed)


def test_dates_that_are_shifted(original: Dataset, shifted: Deidentified) -> None:
    assert not list_wrong(original, shifted, shifted=True)
    levels = list_levels(read(shifted))
    [moved] = {level.StudyDate for level in levels}
    assert 0 < (date(1962, 4, 17) - date.fromisoformat(moved)).days <= 3650
    assert all(level.AcquisitionDateTime == f"{moved}101112.131415" for level in levels)
    assert all(level.PatientBirthDate == "" for level in levels)


def test_nothing_is_left_anywhere_in_the_file(
    original: Dataset, removed: Deidentified, shifted: Deidentified
) -> None:
    data = write(original)
    data = b"DOE4711".ljust(128) + data[128:] + b"DOE4711"
    for found in (removed, shifted, Deidentifier().deidentify(data)):
        for value in FOUND_IN_BYTES:
            if value != b"101112.131415" or found is not shifted:
                assert value not in found.data, value
            assert value.decode() not in str(found.place)
        elements = list(read(found).iterall())
        assert not [one for one in elements if one.tag.is_private or one.tag.group > 0x7FE0]
        assert not [one for one in elements if one.tag.group >> 8 in (0x50, 0x60)]


def test_what_the_table_does_not_name_stays(original: Dataset, removed: Deidentified) -> None:
    file = read(removed)
    assert file.PixelData == original.PixelData
    for keyword in ("Modality", "Rows", "SOPClassUID", "BitsStored", "PhotometricInterpretation"):
        assert file[keyword] == original[keyword]
    [reference] = file.ReferencedImageSequence
    assert (reference.ReferencedSOPClassUID, reference.CodeMeaning) == (uid.MRImageStorage, "kept")


def test_what_was_done_is_said(removed: Deidentified, shifted: Deidentified) -> None:
    for found, codes, dates in (
        (removed, ["113100"], "REMOVED"),
        (shifted, ["113100", "113107"], "MODIFIED"),
    ):
        file = read(found)
        assert file.PatientIdentityRemoved == "YES"
        assert file.LongitudinalTemporalInformationModified == dates
        listed = file.DeidentificationMethodCodeSequence
        assert [code.CodeValue for code in listed] == codes
        assert {code.CodingSchemeDesignator for code in listed} == {"DCM"}


def make(**elements: Any) -> bytes:
    names = {"StudyInstanceUID": "1.2.3.1", "SeriesInstanceUID": "1.2.3.2", "StudyDate": "20200301"}
    return write_dicom(**{**names, **elements})


def test_files_of_a_series_and_of_a_patient_stay_together() -> None:
    run = Deidentifier(shift_dates=True)
    one = run.deidentify(make())
    two = run.deidentify(make(SOPInstanceUID="1.2.4", SourceImageSequence=[refer("1.2.3")]))
    later = run.deidentify(make(StudyInstanceUID="1.2.3.3", StudyDate="20200311"))
    other = run.deidentify(make(PatientID="2"))
    assert one.place.parent == two.place.parent
    assert one.place != two.place
    [source] = read(two).SourceImageSequence
    assert source.ReferencedSOPInstanceUID == one.place.stem == read(one).SOPInstanceUID
    assert later.place.parts[0] != one.place.parts[0]
    days = [date.fromisoformat(read(found).StudyDate) for found in (one, later)]
    assert (days[1] - days[0]).days == 10
    assert read(one).PatientID == read(later).PatientID != read(other).PatientID
    assert read(Deidentifier().deidentify(make())).PatientID != read(one).PatientID
    nameless = [run.deidentify(make(PatientID="", StudyInstanceUID=f"1.{n}")) for n in (2, 3)]
    assert read(nameless[0]).PatientID != read(nameless[1]).PatientID


def refer(name: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPInstanceUID = name
    return item


def test_a_uid_that_is_dicoms_own_stays() -> None:
    atlas = "1.2.840.10008.1.4.1.1"  # Talairach's
    found = Deidentifier().deidentify(
        make(FrameOfReferenceUID=atlas, IrradiationEventUID=["1", "2"])
    )
    assert read(found).FrameOfReferenceUID == atlas
    assert [one[:5] for one in read(found).IrradiationEventUID] == ["2.25."] * 2


@pytest.mark.parametrize("written", ["2020", "00010101", "2020-03-01", "20201301", "soon"])
def test_a_date_that_cannot_be_shifted_is_removed(written: str) -> None:
    data = make(AcquisitionDateTime=written, StudyUpdateDateTime="20200301", ExpiryDate="20200301")
    file = read(Deidentifier(shift_dates=True).deidentify(data))
    assert file.AcquisitionDateTime != written
    assert "" != file.ExpiryDate < "20200301"  # in no table
    assert not read(Deidentifier().deidentify(data)).ExpiryDate


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda one: str(one.name))
def test_each_transfer_syntax(syntax: uid.UID) -> None:
    pixels: Any = draw_small()
    if syntax == uid.JPEGBaseline8Bit:
        pixels = (pixels >> 4).astype("uint8")
    data = make(pixels=pixels, syntax=syntax)
    found = Deidentifier().deidentify(data)
    file, before = read(found), pydicom.dcmread(io.BytesIO(data))
    assert (file.PixelData, file.file_meta.TransferSyntaxUID) == (before.PixelData, syntax)
    assert b"Doe" not in found.data
    assert file.file_meta.MediaStorageSOPInstanceUID == file.SOPInstanceUID
    if syntax in NATIVE[:2]:
        bare = make(syntax=syntax, preamble=False)
        assert read(Deidentifier().deidentify(bare)).file_meta.TransferSyntaxUID == syntax
    for length in (len(data) - 20, len(data) * 3 // 4):
        assert refuse(data[:length]) == "damaged-image"


def refuse(data: bytes) -> str:
    with pytest.raises(ScanError) as refused:
        Deidentifier().deidentify(data)
    assert "Doe" not in str(refused.value)
    return refused.value.code


def test_what_is_refused() -> None:
    assert refuse(make(SOPClassUID="1.2.840.10008.1.3.10")) == "dicomdir"
    plain = uid.ExplicitVRLittleEndian.encode()
    assert refuse(make().replace(plain, plain[:-1] + b"7")) == "transfer-syntax"
    assert refuse(make(SOPInstanceUID=None)) == "damaged-image"


@pytest.mark.parametrize(
    ("elements", "warned"),
    [
        ({}, False),
        ({"BurnedInAnnotation": "YES"}, True),
        ({"Modality": "US"}, True),
        ({"Modality": "US", "BurnedInAnnotation": "NO"}, False),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, True),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, True),
    ],
)
def test_text_in_the_picture_is_warned_of(elements: dict[str, Any], warned: bool) -> None:
    found = Deidentifier().deidentify(make(**elements))
    assert [one.code for one in found.warnings] == ["burnt-in-text"] * warned


def test_an_overlay_in_the_bits_of_the_pixels_is_warned_of() -> None:
    for position in (0, 12):
        file = pydicom.dcmread(io.BytesIO(make()))
        file.add_new(0x60000102, "US", position)
        assert bool(Deidentifier().deidentify(write(file)).warnings) == bool(position)


def test_real_slices() -> None:
    if not SAMPLES.is_dir():
        pytest.skip("../shared is not there")
    for path in sorted(SAMPLES.glob("*.dcm")):
        data = path.read_bytes()
        found = Deidentifier().deidentify(data)
        assert np.array_equal(read_picture(found.data).grey, read_picture(data).grey)
        before = pydicom.dcmread(path)
        for keyword in ("PatientName", "StudyInstanceUID", "SOPInstanceUID"):
            assert str(before[keyword].value).encode() not in found.data
