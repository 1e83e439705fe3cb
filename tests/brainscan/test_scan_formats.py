"""The table of formats: what is read, and how what is not is refused."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from brainscan.scan import ScanError, read_picture
from brainscan.scan.formats import (
    FORMATS,
    list_endings,
    list_media_types,
    list_names,
    register,
)

TEXTS = (b"a text, not a scan", "Ein Text – кириллица".encode(), bytes(10_000), b"%PDF-1.7\n")


def save(picture: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def refuse(data: bytes) -> ScanError:
    with pytest.raises(ScanError) as caught:
        read_picture(data)
    return caught.value


def test_what_is_read() -> None:
    assert list_names() == ("JPEG", "PNG", "TIFF", "BMP", "WebP", "DICOM", "NIfTI")
    pictures = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
    assert list_endings() == (*pictures, ".dcm", ".ima", ".nii", ".nii.gz")
    assert "image/jpeg" in list_media_types()


def test_a_format_is_registered_once() -> None:
    with pytest.raises(ValueError, match="PNG is registered already"):
        register(FORMATS["PNG"])


@pytest.mark.parametrize("file_format", ["GIF", "PPM", "PDF"])
def test_others_are_refused(draw_scan: Callable[..., bytes], file_format: str) -> None:
    error = refuse(draw_scan(file_format, mode="RGB"))
    assert error.code == ("format-not-read" if file_format == "GIF" else "not-an-image")
    assert "Accepted: JPEG, PNG, TIFF, BMP, WebP, DICOM and NIfTI." in str(error)
    assert error.accepted == list_media_types()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"GIF89a" + bytes(50), "GIF"),
        (b"\x00\x00\x00\x1cftypavif" + bytes(50), "AVIF"),
        (b"\x00\x00\x00\x1cftypheic" + bytes(50), "HEIC"),
    ],
)
def test_what_is_often_sent_by_mistake_is_named(data: bytes, name: str) -> None:
    error = refuse(data)
    assert (error.code, error.message.values["format"]) == ("format-not-read", name)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty-file"),
        *((text, "not-an-image") for text in TEXTS),
        (b"\x89PNG\r\n\x1a\n", "damaged-image"),
        (b"\xff\xd8\xff\xe0", "damaged-image"),
        (b"II*\x00\x08\x00\x00\x00", "damaged-image"),
    ],
)
def test_what_is_not_an_image(data: bytes, code: str) -> None:
    assert refuse(data).code == code


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16"])
def test_a_blank_one(mode: str) -> None:
    assert refuse(save(Image.new(mode, (100, 100)))).code == "blank-image"


def test_a_wholly_transparent_one() -> None:
    clear = Image.effect_noise((64, 64), 50).convert("LA")
    clear.putalpha(0)
    assert refuse(save(clear)).code == "blank-image"
