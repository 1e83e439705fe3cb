"""The table of formats: what is read, and how what is not is refused."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
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

PROJECT = Path(__file__).parents[2]
TEXTS = (b"a text, not a scan", "Ein Text – кириллица".encode(), bytes(10_000))


def save(picture: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def refuse(data: bytes) -> ScanError:
    with pytest.raises(ScanError) as caught:
        read_picture(data)
    return caught.value


def test_what_is_read() -> None:
    names = ("JPEG", "PNG", "TIFF", "BMP", "WebP", "HEIC", "AVIF", "JPEG 2000", "DICOM", "NIfTI")
    assert list_names() == names
    assert {".jpg", ".jfif", ".tiff", ".webp", ".heic", ".jp2"} < set(list_endings())
    assert {".dcm", ".ima", ".nii", ".nii.gz"} < set(list_endings())
    assert {"image/jpeg", "image/heic", "image/jp2"} < set(list_media_types())


def test_a_format_is_registered_once() -> None:
    with pytest.raises(ValueError, match="PNG is registered already"):
        register(FORMATS["PNG"])


@pytest.mark.parametrize("file_format", ["GIF", "PPM", "PDF"])
def test_others_are_refused(draw_scan: Callable[..., bytes], file_format: str) -> None:
    error = refuse(draw_scan(file_format, mode="RGB"))
    assert error.code == ("not-an-image" if file_format == "PPM" else "format-not-read")
    accepted = "Accepted: JPEG, PNG, TIFF, BMP, WebP, HEIC, AVIF, JPEG 2000, DICOM and NIfTI."
    assert accepted in str(error)
    assert error.accepted == list_media_types()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"GIF89a" + bytes(50), "GIF"),
        (b"%PDF-1.7\n", "PDF"),
        (b"MATLAB 5.0 MAT-file, Platform: GLNXA64", "MATLAB"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "HDF5"),
    ],
)
def test_what_is_often_sent_by_mistake_is_named(data: bytes, name: str) -> None:
    error = refuse(data)
    assert (error.code, error.message.values["format"]) == ("format-not-read", name)


@pytest.mark.parametrize(
    ("data", "code", "step"),
    [
        (b"PK\3\4" + bytes(50), "archive-not-read", "Unpack it"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git-lfs-pointer", "git lfs pull"),
        (b"\n<!DOCTYPE html>\n<HTML lang=en>", "web-page", "Download the image itself"),
    ],
)
def test_what_is_not_an_image_is_followed_by_what_to_do(data: bytes, code: str, step: str) -> None:
    error = refuse(data)
    assert error.code == code
    assert step in str(error)


def test_kinds_of_accepted_formats_that_are_not_read(draw_scan: Callable[..., bytes]) -> None:
    deep = bytearray(draw_scan("JPEG"))
    deep[deep.find(b"\xff\xc0") + 4] = 12
    floats = cv2.imencode(".tiff", np.ones((40, 40, 3), np.float32))[1].tobytes()
    for data, name in (
        (bytes(deep), "JPEG (12 bit)"),
        (floats, "TIFF (RGB, float)"),
    ):
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


# Reads a file of each format that needs a package under the GPL.
_READ = """
from brainscan.scan import ScanError, read_picture
from brainscan.scan.formats import list_names
from tests.volumes import uid, write_dicom
print("HEIC" in list_names())
for data in (b"\\0\\0\\0\\x18ftypheic" + bytes(20), write_dicom(syntax=uid.JPEGLosslessSV1)):
    try:
        read_picture(data)
    except ScanError as error:
        print(error)
"""


def test_packages_that_are_left_out(tmp_path: Path) -> None:
    for entry in Path(np.__file__).parents[1].iterdir():
        if not entry.name.startswith(("pillow_heif", "libjpeg", "pylibjpeg_libjpeg")):
            (tmp_path / entry.name).symlink_to(entry)
    command = [sys.executable, "-S", "-c", _READ]  # -S: of packages, only those
    environment = {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        command, capture_output=True, check=True, text=True, cwd=PROJECT, env=environment
    )
    listed, heic, lossless = done.stdout.splitlines()
    assert listed == "False"
    assert heic.startswith("The file is HEIC, which cannot be read here.")
    assert lossless.startswith("The DICOM file's pixels are stored as JPEG Lossless")
