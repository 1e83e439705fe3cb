import contextlib
import io
import json
import logging
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import simplejpeg
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from brainscan.messages import ScanError
from brainscan.scan import MAX_PIXELS, Picture, read_picture
from tests.volumes import NATIVE, SYNTAXES, draw_small, write_dicom

_WORDS = ("MRAcquisitionType", "ScanningSequence", "SequenceVariant", "BodyPartExamined")
_NUMBERS = (
    *("EchoTime", "RepetitionTime", "InversionTime", "FlipAngle", "MagneticFieldStrength"),
    *("SliceThickness", "SpacingBetweenSlices"),
)
SAMPLES = Path("../shared/samples/dicom")
LOSSY = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit)


def read_small(**elements: Any) -> Picture:
    return read_picture(write_dicom(**elements))


def refuse(data: bytes, max_pixels: int = MAX_PIXELS) -> ScanError:
    with pytest.raises(ScanError) as refused:
        read_picture(data, max_pixels=max_pixels)
    for identifier in ("Doe", "Jane", "4711", "1.2.3"):
        assert identifier not in str(refused.value)
    return refused.value


def list_codes(picture: Picture) -> set[str]:
    return {note.code for note in picture.notes} - {"few-grey-levels"}


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda one: str(one.name))
def test_each_transfer_syntax_gives_the_same_picture(syntax: uid.UID) -> None:
    pixels: Any = draw_small()
    if syntax == uid.JPEGBaseline8Bit:
        pixels = (pixels >> 4).astype(np.uint8)
    picture = read_picture(write_dicom(pixels, syntax))
    expected = read_picture(write_dicom(pixels))
    difference = np.abs(picture.grey.astype(int) - expected.grey)
    assert difference.mean() <= (2 if syntax in LOSSY else 0)
    assert not list_codes(picture)


@pytest.mark.parametrize("syntax", [*NATIVE[:2], uid.ExplicitVRBigEndian])
def test_without_a_preamble(syntax: uid.UID) -> None:
    picture = read_picture(write_dicom(syntax=syntax, preamble=False))
    assert np.array_equal(picture.grey, read_small().grey)


@pytest.mark.parametrize("start", [b"II*\0", (348).to_bytes(4, "little")])
def test_a_preamble_that_begins_as_a_tiff_or_nifti(start: bytes) -> None:
    data = start + write_dicom()[4:]
    assert np.array_equal(read_picture(data).grey, read_small().grey)


def test_signed_pixels_rescaled_to_the_same() -> None:
    signed = draw_small().astype(np.int16) - np.int16(1000)
    for elements in ({}, {"RescaleSlope": 3, "RescaleIntercept": -40}):
        picture = read_picture(write_dicom(signed, **elements))
        assert np.array_equal(picture.grey, read_small().grey)


def test_the_window_of_the_header() -> None:
    picture = read_small(WindowCenter=1000.5, WindowWidth=2001)
    expected = np.clip(draw_small() * (255 / 2000), 0, 255).round()
    assert np.abs(picture.grey - expected).max() <= 1
    several = read_small(WindowCenter=[1000.5, 40], WindowWidth=[2001, 80])
    assert np.array_equal(several.grey, picture.grey)


@pytest.mark.parametrize(("center", "width"), [(32767, 65535), (5, 2), (9000, 100), (1200, 0)])
def test_a_window_that_would_hide_the_head_is_left_out(center: float, width: float) -> None:
    picture = read_small(WindowCenter=center, WindowWidth=width)
    assert np.array_equal(picture.grey, read_small().grey)


def test_a_lookup_table() -> None:
    item = Dataset()
    values = np.arange(4096) * 255 // 4095
    item.LUTDescriptor, item.LUTData = [4096, 0, 8], values.astype("<u2").tobytes()
    picture = read_small(BitsStored=12, VOILUTSequence=[item])
    assert np.abs(picture.grey - draw_small() * 255.0 / 4095).max() <= 1


def test_monochrome_1_is_inverted() -> None:
    inverted = 4095 - draw_small()
    picture = read_picture(write_dicom(inverted, PhotometricInterpretation="MONOCHROME1"))
    assert np.array_equal(picture.grey, read_small().grey)
    eight = (inverted >> 4).astype(np.uint8)
    picture = read_picture(write_dicom(eight, PhotometricInterpretation="MONOCHROME1"))
    assert np.array_equal(picture.grey, 255 - eight)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black(photometric: str) -> None:
    pixels = draw_small().astype(np.int16)
    if photometric == "MONOCHROME1":
        pixels = np.int16(4095) - pixels
    pixels[:4] = 30000
    picture = read_picture(
        write_dicom(pixels, PixelPaddingValue=30000, PhotometricInterpretation=photometric)
    )
    assert picture.grey[:4].max() <= 3
    assert np.abs(picture.grey[4:].astype(int) - read_small().grey[4:]).max() <= 3


def test_colours_become_grey_and_are_counted() -> None:
    colours = np.zeros((32, 32, 3), np.uint8)
    colours[..., 0] = draw_small() >> 4
    for syntax in (uid.ExplicitVRLittleEndian, uid.RLELossless, uid.JPEG2000Lossless):
        picture = read_picture(write_dicom(colours, syntax))
        assert picture.coloured > 0.5


def test_a_jpeg_of_colours_that_does_not_say_so() -> None:
    colours = np.repeat((draw_small() >> 4).astype(np.uint8)[..., np.newaxis], 3, axis=-1)
    jpeg = simplejpeg.encode_jpeg(
        colours, colorsubsampling="444"
    )  # of grey, YCbCr is (Y, 128, 128)
    stored = jpeg.replace(jpeg[2:20], b"")  # without JFIF's marker
    assert b"JFIF" not in stored
    data = write_dicom(colours, PhotometricInterpretation="YBR_FULL")
    file = pydicom.dcmread(io.BytesIO(data))
    file.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    for photometric, coloured in (("YBR_FULL", False), ("RGB", True)):
        file.PhotometricInterpretation = photometric
        file.PixelData = encapsulate([stored])
        written = io.BytesIO()
        file.save_as(written)
        assert (read_picture(written.getvalue()).coloured > 0.5) is coloured


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_a_palette(syntax: uid.UID) -> None:
    indices = draw_small() >> 4
    order = "<u2" if syntax == uid.ExplicitVRLittleEndian else ">u2"
    table = (np.arange(256) * 256).astype(order).tobytes()
    palette: dict[str, Any] = {}
    for colour in ("Red", "Green", "Blue"):
        palette[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        palette[f"{colour}PaletteColorLookupTableData"] = table
    data = write_dicom(indices, syntax, PhotometricInterpretation="PALETTE COLOR", **palette)
    assert np.array_equal(read_picture(data).grey, indices)


# A head whose spot is at the patient's left, in front and above, as it lies in each plane's rows
# and columns: directions towards left, back and head.
@pytest.mark.parametrize(
    ("across", "down", "turn"),
    [
        ((1, 0, 0), (0, 1, 0), lambda grey: grey),
        ((-1, 0, 0), (0, 1, 0), lambda grey: grey[:, ::-1]),
        ((0, 1, 0), (1, 0, 0), lambda grey: grey.T),
        ((0.96, 0.28, 0), (-0.28, 0.96, 0), lambda grey: grey),
        ((1, 0, 0), (0, 0, -1), lambda grey: grey),
        ((1, 0, 0), (0, 0, 1), lambda grey: grey[::-1]),
        ((0, 1, 0), (0, 0, -1), lambda grey: grey),
        ((0, -1, 0), (0, 0, -1), lambda grey: grey[:, ::-1]),
        ((0, 0, 1), (0, 1, 0), lambda grey: grey[:, ::-1].T),
        ((0, 0, 0), (0, 0, 0), lambda grey: grey),
    ],
)
def test_the_orientation(
    across: tuple[float, ...], down: tuple[float, ...], turn: Callable[[Any], Any]
) -> None:
    picture = read_small(ImageOrientationPatient=[*across, *down])
    assert np.array_equal(picture.grey, turn(read_small().grey))


def test_pixels_become_square() -> None:
    assert read_small(PixelSpacing=[2, 1], ImageOrientationPatient=[1, 0, 0, 0, 1, 0]).size == (
        32,
        64,
    )


def make_enhanced(positions: list[float]) -> bytes:
    """Write an enhanced MR image whose frames, one brighter than the other, lie at these places."""
    frames = np.stack([draw_small() >> number for number in range(len(positions))])
    orientation, shared, each = Dataset(), Dataset(), []
    orientation.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]
    shared.PlaneOrientationSequence = [orientation]
    for position in positions:
        place, group = Dataset(), Dataset()
        place.ImagePositionPatient = [0, 0, position]
        group.PlanePositionSequence = [place]
        each.append(group)
    return write_dicom(
        frames,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1",
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=each,
    )


def test_the_middle_of_an_enhanced_image() -> None:
    picture = read_picture(make_enhanced([5.0, -5.0, 0.0, 10.0, -10.0]))
    [note] = [note for note in picture.notes if note.code == "one-slice"]
    assert note.values == {"slices": 5, "slice": 3}
    expected = read_picture(write_dicom(draw_small() >> 2)).grey[:, ::-1]
    assert np.array_equal(picture.grey, expected)


@pytest.mark.parametrize("syntax", [*NATIVE, uid.RLELossless, uid.JPEG2000Lossless])
def test_the_middle_of_frames_without_positions(syntax: uid.UID) -> None:
    frames = np.stack([draw_small(), draw_small().T, draw_small()])
    picture = read_picture(write_dicom(frames, syntax))
    assert np.array_equal(picture.grey, read_picture(write_dicom(draw_small().T)).grey)
    assert list_codes(picture) == {"one-slice"}


@pytest.mark.parametrize(
    ("elements", "code", "named"),
    [
        ({"Modality": "CT"}, "not-mr", "modality CT"),
        ({"Modality": "JANE"}, "not-mr", "another modality"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "not-mr", "CT Image"),
        (
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.2", "Modality": "RTDOSE"},
            "not-mr",
            "RT Dose",
        ),
        (
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1", "Modality": "DOC"},
            "no-pixels",
            "Encapsulated PDF",
        ),
        (
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11", "Modality": "SR"},
            "no-pixels",
            "Basic Text SR",
        ),
        (
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.3", "Modality": "RTSTRUCT"},
            "no-pixels",
            "RT Structure Set",
        ),
        ({}, "no-pixels", "MR Image"),
        ({"SOPClassUID": "1.2.840.10008.1.3.10"}, "dicomdir", "DICOMDIR"),
        ({"BodyPartExamined": "KNEE"}, "not-a-head", "knee"),
        ({"BodyPartExamined": "LSPINE"}, "not-a-head", "lspine"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "MOSAIC"]}, "mosaic", "dcm2niix"),
    ],
)
def test_what_is_not_mr_of_a_head_is_refused_by_its_header(
    elements: dict[str, Any], code: str, named: str
) -> None:
    data = write_dicom(**elements)
    if code == "no-pixels":
        file = pydicom.dcmread(io.BytesIO(data))
        del file.PixelData
        written = io.BytesIO()
        file.save_as(written)
        data = written.getvalue()
    error = refuse(data)
    assert error.code == code
    assert named in str(error)


def test_the_region_of_an_enhanced_image() -> None:
    region, anatomy, shared = Dataset(), Dataset(), Dataset()
    region.CodeMeaning = "Knee"
    anatomy.AnatomicRegionSequence = [region]
    shared.FrameAnatomySequence = [anatomy]
    error = refuse(write_dicom(SharedFunctionalGroupsSequence=[shared]))
    assert (error.code, error.message.values["part"]) == ("not-a-head", "knee")


@pytest.mark.parametrize(
    "part", ["HEAD", "BRAIN", "HEAD AND SPINE", "HIPPOCAMPUS", "", "WHOLEBODY"]
)
def test_other_parts_are_read(part: str) -> None:
    assert not list_codes(read_small(BodyPartExamined=part))


def test_what_is_not_an_image_of_the_anatomy() -> None:
    picture = read_small(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER", "JANE"])
    assert [note.values for note in picture.notes if note.code == "unusual-image"] == [
        {"type": "LOCALIZER"}
    ]
    assert not list_codes(read_small(ImageType=["P", "FA", "M", "NORM", "JANE"]))


def test_what_the_header_says() -> None:
    picture = read_small(
        ScanningSequence=["GR", "IR"],
        SequenceVariant="SP",
        MRAcquisitionType="3D",
        EchoTime=3.4,
        RepetitionTime=2300,
        FlipAngle=9,
        MagneticFieldStrength=3,
        ImageOrientationPatient=[0, 1, 0, 0, 0, -1],
        PixelSpacing=[1, 1.2],
        SliceThickness=5,
        BodyPartExamined="BRAIN",
        ContrastBolusAgent="Jane Doe 10 ml",
    )
    assert picture.facts == {
        "modality": "MR",
        "acquisition": "3D",
        "scanning_sequence": "GR IR",
        "sequence_variant": "SP",
        "body_part": "BRAIN",
        "field_strength_t": 3,
        "repetition_time_ms": 2300,
        "echo_time_ms": 3.4,
        "flip_angle_degrees": 9,
        "slice_thickness_mm": 5,
        "contrast_agent": True,
        "matrix": [32, 32],
        "slices": 1,
        "pixel_spacing_mm": [1.2, 1],
        "plane": "sagittal",
    }
    assert json.loads(json.dumps(picture.facts)) == picture.facts


def test_no_fact_identifies_a_patient() -> None:
    """Whatever an element holds: here each of them a name, as text and in the place of a number."""
    plain = {"modality": "MR", "matrix": [32, 32], "slices": 1}
    data = write_dicom(ContrastBolusAgent="NONE", **dict.fromkeys(_WORDS, "JANE DOE"))
    assert read_picture(data).facts == plain
    numbers = dict.fromkeys(_NUMBERS, "1.1111111")
    data = write_dicom(PixelSpacing=["1.1111111", "1.1111111"], **numbers)
    for bad in (b"Jane Doe ", b"nan      ", b"4711e4711", b"-4711.123"):
        assert read_picture(data.replace(b"1.1111111", bad)).facts == plain


def test_a_transfer_syntax_that_is_not_read_is_named() -> None:
    data = write_dicom()
    plain = uid.ExplicitVRLittleEndian.encode()
    video = data.replace(plain + b"\0", b"1.2.840.10008.1.2.4.100"[: len(plain) + 1])
    assert refuse(video).code == "transfer-syntax"
    error = refuse(data.replace(plain, plain[:-1] + b"7"))
    assert (error.code, error.message.values["syntax"]) == (
        "transfer-syntax",
        "an unknown transfer syntax",
    )


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda one: str(one.name))
def test_a_file_that_is_cut_short_is_refused(syntax: uid.UID) -> None:
    pixels: Any = draw_small()
    if syntax == uid.JPEGBaseline8Bit:
        pixels = (pixels >> 4).astype(np.uint8)
    data = write_dicom(pixels, syntax)
    for length in (len(data) - 20, len(data) * 3 // 4, 200):
        assert refuse(data[:length]).code in ("damaged-image", "no-pixels")


def test_nothing_of_a_header_is_logged() -> None:
    log = io.StringIO()  # caplog hears what is not passed on, too
    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)
    data = write_dicom(RescaleSlope=1, SpecificCharacterSet="ISO_IR 192")
    read_picture(data.replace(b"ISO_IR 192", b"Jane^Doe  "))
    refuse(data.replace(b"MONOCHROME2", b"Jane^Doe   "))
    logging.getLogger().removeHandler(handler)
    assert not log.getvalue()


def test_an_element_of_another_type_and_a_length_that_is_not_its() -> None:
    data = write_dicom(ScanningSequence="SE ", Modality="MR")
    for element, value in ((b"\x18\0\x20\0CS", b"FD"), (b"\x08\0\x60\0CS", b"FD")):
        assert element in data
        changed = data.replace(element, element[:4] + value)
        with contextlib.suppress(ScanError):
            assert read_picture(changed).facts["slices"] == 1


def test_a_size_that_the_file_does_not_have() -> None:
    assert refuse(write_dicom(Rows=60000, Columns=60000)).code == "image-too-large"
    assert refuse(write_dicom(Rows=3000)).code == "damaged-image"
    assert refuse(write_dicom(Rows=8)).code == "image-too-small"
    for syntax in (uid.RLELossless, uid.JPEG2000Lossless, uid.JPEGLSLossless, uid.JPEGLosslessSV1):
        data = write_dicom(syntax=syntax)
        rows = b"\x28\x00\x10\x00US\x02\x00"
        place = data.index(rows) + len(rows)
        for other in (31, 64):
            changed = data[:place] + struct.pack("<H", other) + data[place + 2 :]
            assert refuse(changed).code == "damaged-image"


def test_more_work_than_any_scan_asks_for() -> None:
    data = write_dicom(syntax=uid.DeflatedExplicitVRLittleEndian)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    meta = 144 + struct.unpack_from("<I", data, 140)[0]
    bomb = data[:meta] + packer.compress(bytes(8_000_000)) + packer.flush()
    assert refuse(bomb, 1_000_000).code == "image-too-complex"
    empty = b"\x09\x00\x10\x00LO\x00\x00" * 200_000
    data = write_dicom()
    start = data.index(b"\x10\x00\x10\x00PN")
    assert refuse(data[:start] + empty + data[start:]).code == "image-too-complex"


def test_real_slices() -> None:
    if not SAMPLES.is_dir():
        pytest.skip("../shared is not there")
    for path in sorted(SAMPLES.glob("*.dcm")):
        picture = read_picture(path.read_bytes())
        assert not picture.notes
        assert picture.grey.mean() > 10
