import contextlib
import io
import struct
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from brainscan.scan import MAX_PIXELS, ScanError, read_picture

Draw = Callable[..., bytes]

ORIENTATION = 0x0112
# (format, mode, options of Image.save, how far a pixel may be off)
STORED = [
    ("PNG", "L", {}, 0),
    ("PNG", "LA", {}, 0),
    ("PNG", "P", {}, 0),
    ("PNG", "RGB", {}, 1),
    ("PNG", "RGBA", {}, 1),
    ("JPEG", "L", {"quality": 95}, 16),
    ("JPEG", "L", {"quality": 95, "progressive": True}, 16),
    ("JPEG", "RGB", {"quality": 95}, 16),
    ("JPEG", "CMYK", {"quality": 95}, 16),
    ("TIFF", "L", {}, 0),
    ("TIFF", "L", {"compression": "tiff_lzw"}, 0),
    ("TIFF", "L", {"compression": "packbits"}, 0),
    ("TIFF", "P", {}, 0),
    ("TIFF", "RGB", {}, 1),
    ("TIFF", "RGBA", {}, 1),
    ("BMP", "L", {}, 0),
    ("BMP", "RGB", {}, 1),
    ("WEBP", "RGB", {"quality": 95}, 16),
    ("WEBP", "RGBA", {"lossless": True}, 1),
]


def read(data: bytes) -> NDArray[np.uint8]:
    return read_picture(data).grey


def refuse(data: bytes, **options: int) -> ScanError:
    with pytest.raises(ScanError) as caught:
        read_picture(data, **options)
    return caught.value


def pixels(data: bytes) -> NDArray[np.uint8]:
    """Read a grey PNG without any of the code under test."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("L"))


def save(picture: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def phantom(draw_scan: Draw) -> NDArray[np.uint8]:
    """The head that `draw_scan` draws: uint8, shape (220, 200), 4 to 240."""
    return pixels(draw_scan("PNG"))


class TestFormats:
    @pytest.mark.parametrize(
        ("file_format", "mode", "options", "off"),
        STORED,
        ids=[
            f"{kind}-{mode}-{'-'.join(map(str, options.values()))}"
            for kind, mode, options, _ in STORED
        ],
    )
    def test_the_same_scan_in_every_format(
        self,
        draw_scan: Draw,
        phantom: NDArray[np.uint8],
        file_format: str,
        mode: str,
        options: dict[str, Any],
        off: int,
    ) -> None:
        grey = read(draw_scan(file_format, mode=mode, **options))
        assert grey.dtype == np.uint8
        assert grey.shape == (220, 200)
        assert grey.flags.c_contiguous
        difference = np.abs(grey.astype(int) - phantom)
        assert np.percentile(difference, 99) <= off
        assert difference.mean() <= off / 8

    @pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP"])
    def test_one_bit(self, draw_scan: Draw, file_format: str) -> None:
        grey = read(draw_scan(file_format, mode="1"))
        assert set(np.unique(grey)) == {0, 255}

    @pytest.mark.parametrize(
        ("file_format", "kind", "scale"),
        [
            ("PNG", np.uint16, 257),
            ("PNG", np.uint16, 16),  # 12 bits, as scanners store them
            ("TIFF", np.uint16, 257),
            ("TIFF", np.int32, 70_000),
            ("TIFF", np.float32, 1e-3),
            ("TIFF", np.float32, 1e6),
        ],
    )
    def test_deep_intensities_are_stretched(
        self, phantom: NDArray[np.uint8], file_format: str, kind: type, scale: float
    ) -> None:
        deep = (phantom * np.float64(scale)).astype(kind)
        grey = read(save(Image.fromarray(deep), file_format))
        assert (grey.min(), grey.max()) == (0, 255)
        low, high = int(phantom.min()), int(phantom.max())
        expected = (phantom.astype(float) - low) * 255 / (high - low)
        assert np.abs(grey - expected).max() <= 1

    def test_transparency_is_laid_over_black(self, draw_scan: Draw) -> None:
        picture = Image.open(io.BytesIO(draw_scan("PNG", mode="RGBA")))
        picture.paste((255, 255, 255, 0), (0, 0, 200, 60))
        for file_format in ("PNG", "TIFF", "WEBP"):
            grey = read(save(picture, file_format, lossless=True))
            assert not grey[:60].any()
            assert grey[60:].any()

    def test_a_palette_with_a_transparent_colour(self) -> None:
        picture = Image.new("P", (32, 32), 1)
        picture.putpalette([255, 255, 255, 200, 200, 200])
        picture.paste(0, (0, 0, 32, 16))
        grey = read(save(picture, "PNG", transparency=0))
        assert (grey[:16] == 0).all()
        assert (grey[16:] == 200).all()

    @pytest.mark.parametrize("pages", [1, 3])
    def test_only_the_first_page_is_read(self, phantom: NDArray[np.uint8], pages: int) -> None:
        others = [Image.new("L", (50, 50))] * (pages - 1)
        data = save(Image.fromarray(phantom), "TIFF", save_all=True, append_images=others)
        picture = read_picture(data)
        np.testing.assert_array_equal(picture.grey, phantom)
        told = [(warning.code, warning.values) for warning in picture.warnings]
        assert told == ([("more-pages", {"pages": 3})] if others else [])

    @pytest.mark.parametrize("file_format", ["WEBP", "PNG", "MPO"])
    def test_only_the_first_of_several_pictures_is_read(
        self, phantom: NDArray[np.uint8], file_format: str
    ) -> None:
        first = Image.fromarray(phantom).convert("RGB")
        others = [Image.new("RGB", first.size, "red"), Image.new("RGB", first.size, "blue")]
        options: dict[str, Any] = {"lossless": True} if file_format == "WEBP" else {}
        picture = read_picture(
            save(first, file_format, save_all=True, append_images=others, **options)
        )
        assert np.abs(picture.grey.astype(int) - phantom).max() <= (
            64 if file_format == "MPO" else 1
        )
        [warning] = picture.warnings
        assert (warning.code, warning.values) == ("more-pages", {"pages": 3})

    def test_a_jpeg_whose_colours_have_an_odd_resolution(self) -> None:
        noise = save(Image.effect_noise((48, 48), 50).convert("RGB"), "JPEG", subsampling=0)
        data = bytearray(noise)
        data[data.find(b"\xff\xc0") + 11] = 0x31  # three columns of grey to one of colour
        with Image.open(io.BytesIO(data)) as picture:
            expected = np.asarray(picture.convert("L"))
        np.testing.assert_array_equal(read(bytes(data)), expected)

    @pytest.mark.parametrize("kind", ["grey", "white", "colours", "RGB", "RGBA", "P", "jpeg"])
    def test_some_rows_at_a_time(
        self, draw_scan: Draw, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        data = draw_scan("JPEG" if kind == "jpeg" else "PNG", mode="RGB")
        picture = Image.open(io.BytesIO(data))
        picture.paste((255, 0, 0), (60, 60, 100, 64))
        deep = np.asarray(picture).astype(np.uint16) * 200
        if kind == "grey":
            data = save(Image.fromarray(deep[..., 1]), "TIFF")
        elif kind == "white":
            data = save(Image.fromarray(deep[..., 1]), "TIFF", tiffinfo={262: 0})
        elif kind == "colours":
            data = cv2.imencode(".png", deep)[1].tobytes()
        elif kind != "jpeg":
            data = save(picture.convert(kind), "PNG")
        whole = read_picture(data)
        monkeypatch.setattr("brainscan.scan.planes._BAND", 200 * 7)
        parts = read_picture(data)
        np.testing.assert_array_equal(parts.grey, whole.grey)
        assert (parts.coloured, parts.notes) == (whole.coloured, whole.notes)

    def test_chunks_around_deep_colours_are_written_about_nowhere(
        self, capfd: pytest.CaptureFixture[str]
    ) -> None:
        deep = np.zeros((40, 40, 3), np.uint16)
        deep[10:30, 10:30] = 40_000
        data = cv2.imencode(".png", deep)[1].tobytes()
        assert read(data[:33] + chunk(b"sRGB", b"\t") * 50 + data[33:]).any()
        assert capfd.readouterr() == ("", "")


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize(
        ("file_format", "mode"),
        [
            *(("JPEG", mode) for mode in ("L", "RGB")),
            *(("PNG", mode) for mode in ("RGBA", "I;16")),
            ("TIFF", "L"),
            ("WEBP", "RGB"),
        ],
    )
    def test_every_exif_rotation_is_undone(
        self, phantom: NDArray[np.uint8], file_format: str, mode: str, orientation: int
    ) -> None:
        picture = Image.fromarray(phantom[:, :150])
        if mode == "I;16":
            picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
        else:
            picture = picture.convert(mode)
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        options: dict[str, Any] = {"lossless": True} if file_format == "WEBP" else {}
        if file_format == "JPEG":
            options = {"quality": 95}
        data = save(picture, file_format, exif=exif, **options)
        with Image.open(io.BytesIO(data)) as stored:
            if mode == "I;16":
                upright = ImageOps.exif_transpose(stored)
                deep = np.asarray(upright).astype(float)
                expected = (deep - deep.min()) * 255 / (deep.max() - deep.min())
            else:
                expected = np.asarray(ImageOps.exif_transpose(stored).convert("L")).astype(float)
        grey = read(data)
        assert grey.shape == ((220, 150) if orientation < 5 else (150, 220))
        assert np.abs(grey - expected).max() <= 1

    @pytest.mark.parametrize("orientation", [0, 9, 65535])
    def test_an_unknown_rotation_is_left(
        self, phantom: NDArray[np.uint8], orientation: int
    ) -> None:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        data = save(Image.fromarray(phantom), "PNG", exif=exif)
        np.testing.assert_array_equal(read(data), phantom)


class TestRefusals:
    @pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
    @pytest.mark.parametrize(
        ("file_format", "options"),
        [
            ("JPEG", {}),
            ("JPEG", {"progressive": True}),
            ("PNG", {}),
            ("TIFF", {}),
            ("TIFF", {"compression": "tiff_lzw"}),
            ("BMP", {}),
            ("WEBP", {}),
        ],
        ids=["jpeg", "progressive", "png", "tiff", "lzw", "bmp", "webp"],
    )
    def test_cut_short(
        self, draw_scan: Draw, file_format: str, options: dict[str, Any], kept: float
    ) -> None:
        data = draw_scan(file_format, **options)
        assert refuse(data[: int(len(data) * kept)]).code == "damaged-image"

    @pytest.mark.parametrize(
        ("file_format", "mode", "options"),
        [
            ("JPEG", "L", {}),
            ("JPEG", "L", {"progressive": True}),
            ("JPEG", "RGB", {}),
            ("JPEG", "CMYK", {}),
            ("TIFF", "L", {"compression": "jpeg"}),
            ("TIFF", "1", {"compression": "group3"}),
            ("TIFF", "1", {"compression": "group4"}),
        ],
    )
    @pytest.mark.parametrize("ends", [False, True], ids=["hole", "half"])
    def test_what_a_decoder_would_fill_up(
        self,
        draw_scan: Draw,
        capfd: pytest.CaptureFixture[str],
        file_format: str,
        mode: str,
        options: dict[str, Any],
        ends: bool,
    ) -> None:
        data = draw_scan(file_format, mode=mode, **options)
        assert read_picture(data).size == (200, 220)
        middle = len(data) // 2
        hole = len(data) // 8
        damaged = data[:middle] + bytes(hole) + data[middle + hole :]
        if ends:
            damaged = data[:middle] + (b"\xff\xd9" if file_format == "JPEG" else b"")
        assert refuse(damaged).code == "damaged-image"
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("size", [(1, 1), (15, 200), (200, 15)])
    def test_too_small(self, size: tuple[int, int]) -> None:
        assert refuse(save(Image.effect_noise(size, 50))).code == "image-too-small"

    def test_the_largest_is_accepted_and_a_pixel_more_is_not(self) -> None:
        data = save(Image.effect_noise((40, 25), 50))
        assert read_picture(data, max_pixels=1000).size == (40, 25)
        error = refuse(data, max_pixels=999)
        assert error.code == "image-too-large"
        assert "40 × 25 pixels. Accepted: at most 999" in str(error)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Write a PNG by hand: a grey header and the chunks given."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*one) for one in [(b"IHDR", header), *chunks, (b"IEND", b"")]
    )


class TestBombs:
    @pytest.mark.parametrize("side", [7_072, 2**31 - 1])
    def test_a_picture_far_too_large_is_refused_before_it_is_decoded(self, side: int) -> None:
        assert side * side > MAX_PIXELS
        bomb = png(side, side, (b"IDAT", zlib.compress(bytes(1000))))
        assert refuse(bomb).code == "image-too-large"

    def test_a_real_one(self) -> None:
        bomb = save(Image.new("1", (8_000, 8_000)))
        assert len(bomb) < 50_000
        assert refuse(bomb).message.values["most"] == 50_000_000

    @pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
    def test_a_text_that_swells_is_not_unpacked(self, kind: bytes) -> None:
        swelling = b"name\x00\x00" + zlib.compress(bytes(40_000_000))
        noise = np.random.default_rng(0).integers(0, 256, (32, 33), np.uint8)
        noise[:, 0] = 0  # each row's filter
        data = png(32, 32, (kind, swelling), (b"IDAT", zlib.compress(noise.tobytes())))
        tracemalloc.start()
        try:
            with contextlib.suppress(ScanError):
                read(data)
            assert tracemalloc.get_traced_memory()[1] < 10_000_000
        finally:
            tracemalloc.stop()


def test_damaged_files_never_raise_anything_else(draw_scan: Draw) -> None:
    random = np.random.default_rng(3)
    files = [
        draw_scan(file_format, mode=mode, width=48, height=52, **options)
        for file_format, mode, options, _ in STORED
    ]
    for _ in range(1000):
        data = bytearray(files[random.integers(len(files))])
        reach = len(data) if random.random() < 0.5 else min(len(data), 200)
        for position in random.integers(reach, size=random.integers(1, 8)):
            data[position] = random.choice([0, 1, 127, 255, random.integers(256)])
        try:
            grey = read(bytes(data))
        except ScanError:
            continue
        assert grey.dtype == np.uint8


def test_the_filters_of_warnings_stay_as_they_are(draw_scan: Draw) -> None:
    scan = draw_scan("TIFF")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(read, [scan] * 64))
    assert warnings.filters == before
    with pytest.raises(UserWarning, match="not Pillow's"):
        warnings.warn("not Pillow's", stacklevel=1)
