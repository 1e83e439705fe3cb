"""Formats that are decoded in a process of their own: HEIC, AVIF and JPEG 2000."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pillow_heif import register_heif_opener

from brainscan.scan import ScanError, read_picture
from brainscan.scan.bounds import ExcessError
from brainscan.scan.confined import decode_confined
from tests.conftest import draw_head

ENOUGH = 100_000_000  # bytes
FORMATS = ("HEIF", "AVIF", "JPEG2000")


@pytest.fixture(scope="module", autouse=True)
def heif() -> None:
    register_heif_opener()  # which is also what saves it


@pytest.fixture(scope="module")
def head() -> Image.Image:
    return draw_head()


def save(picture: Image.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def differ(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.abs(one.astype(int) - other).mean())


@pytest.mark.parametrize(
    ("file_format", "mode"),
    [("HEIF", "L"), ("HEIF", "RGB"), ("AVIF", "RGB"), ("JPEG2000", "L"), ("JPEG2000", "RGB")],
)
def test_the_picture(head: Image.Image, file_format: str, mode: str) -> None:
    picture = read_picture(save(head.convert(mode), file_format))
    assert differ(picture.grey, np.asarray(head)) < 3
    assert picture.warnings == ()


@pytest.mark.parametrize("file_format", FORMATS)
def test_transparency_is_laid_over_black(head: Image.Image, file_format: str) -> None:
    picture = head.convert("RGBA")
    picture.paste((255, 255, 255, 0), (0, 0, 200, 60))
    grey = read_picture(save(picture, file_format)).grey
    assert grey[:56].max() < 8
    assert grey[64:].max() > 200


def test_numbers_of_16_bits_are_windowed(head: Image.Image) -> None:
    grey = np.asarray(head)
    deep = Image.fromarray(grey.astype(np.uint16) * 100)
    assert differ(read_picture(save(deep, "JPEG2000")).grey, grey) < 20


@pytest.mark.parametrize("file_format", ["HEIF", "AVIF"])
def test_rotation_is_undone(head: Image.Image, file_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = head.convert("RGB").transpose(Image.Transpose.ROTATE_90)
    picture = read_picture(save(turned, file_format, exif=exif.tobytes()))
    assert picture.size == head.size
    assert differ(picture.grey, np.asarray(head)) < 3


@pytest.mark.parametrize("file_format", ["HEIF", "AVIF"])
def test_other_pictures_are_told(head: Image.Image, file_format: str) -> None:
    colours = head.convert("RGB")
    data = save(colours, file_format, save_all=True, append_images=[colours.copy()])
    [warning] = read_picture(data).warnings
    assert (warning.code, warning.values) == ("more-pages", {"pages": 2})


@pytest.mark.parametrize("file_format", FORMATS)
def test_one_that_is_cut_short(head: Image.Image, file_format: str) -> None:
    data = save(head, file_format)
    with pytest.raises(ScanError) as caught:
        read_picture(data[: len(data) * 2 // 3])
    assert caught.value.code == "damaged-image"


def test_fewer_pixels_are_accepted_as_each_takes_more_memory(head: Image.Image) -> None:
    with pytest.raises(ScanError) as caught:
        read_picture(save(head, "JPEG2000"), max_pixels=10_000)
    assert (caught.value.code, caught.value.message.values["most"]) == ("image-too-large", 3_181)


def test_memory_is_bounded_whatever_size_a_file_gives() -> None:
    data = bytearray(save(Image.new("RGB", (3000, 2000), "grey"), "AVIF", speed=10))
    size = data.find(b"ispe") + 8
    data[size : size + 8] = (64).to_bytes(4) * 2
    with pytest.raises((ExcessError, ValueError)):
        decode_confined(bytes(data), "AVIF", 10_000, -55_000_000)
    assert decode_confined(bytes(data), "AVIF", 10_000, ENOUGH).pixels.shape[:2] == (64, 64)


def test_a_decoder_that_crashes(
    head: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "decoder.py"
    program.write_text("import os; os.abort()")
    monkeypatch.setattr("brainscan.scan.confined._PROGRAM", program)
    with pytest.raises(ScanError, match="its decoder crashed") as caught:
        read_picture(save(head, "AVIF"))
    assert caught.value.code == "damaged-image"
