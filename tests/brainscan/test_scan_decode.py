import contextlib
import io
import struct
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from brainscan.scan import MAX_PIXELS, OversizedScanError, ScanError, decode_scan

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
    ("TIFF", "L", {"compression": "tiff_adobe_deflate"}, 0),
    ("TIFF", "L", {"compression": "packbits"}, 0),
    ("TIFF", "LA", {}, 0),
    ("TIFF", "P", {}, 0),
    ("TIFF", "RGB", {}, 1),
    ("TIFF", "RGBA", {}, 1),
    ("TIFF", "CMYK", {}, 1),
    ("BMP", "L", {}, 0),
    ("BMP", "P", {}, 0),
    ("BMP", "RGB", {}, 1),
    ("WEBP", "L", {"lossless": True}, 1),
    ("WEBP", "RGB", {"quality": 95}, 16),
    ("WEBP", "RGBA", {"lossless": True}, 1),
]


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
        grey = decode_scan(draw_scan(file_format, mode=mode, **options))
        assert grey.dtype == np.uint8
        assert grey.shape == (220, 200)
        assert grey.flags.c_contiguous
        difference = np.abs(grey.astype(int) - phantom)
        assert np.percentile(difference, 99) <= off
        assert difference.mean() <= off / 8

    @pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP"])
    def test_one_bit(self, draw_scan: Draw, file_format: str) -> None:
        grey = decode_scan(draw_scan(file_format, mode="1"))
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
        grey = decode_scan(save(Image.fromarray(deep), file_format))
        assert (grey.min(), grey.max()) == (0, 255)
        low, high = int(phantom.min()), int(phantom.max())
        expected = (phantom.astype(float) - low) * 255 / (high - low)
        assert np.abs(grey - expected).max() <= 1

    def test_big_endian_sixteen_bits(self, phantom: NDArray[np.uint8]) -> None:
        plain = save(Image.fromarray(phantom.astype(np.uint16) * 257), "TIFF")
        big = Image.frombytes(
            "I;16B", (200, 220), (phantom.astype(">u2") * 257).astype(">u2").tobytes()
        )
        np.testing.assert_array_equal(decode_scan(save(big, "TIFF")), decode_scan(plain))

    def test_negative_intensities(self) -> None:
        deep = np.linspace(-1000, 3000, 64 * 64).reshape(64, 64).astype(np.float32)
        grey = decode_scan(save(Image.fromarray(deep), "TIFF"))
        assert (grey[0, 0], grey[-1, -1]) == (0, 255)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_values_that_are_not_numbers(self, value: float) -> None:
        deep = np.random.default_rng(0).random((32, 32)).astype(np.float32)
        deep[3, 3] = value
        with pytest.raises(ScanError, match="not numbers"):
            decode_scan(save(Image.fromarray(deep), "TIFF"))

    def test_transparency_is_laid_over_black(self, draw_scan: Draw) -> None:
        picture = Image.open(io.BytesIO(draw_scan("PNG", mode="RGBA")))
        picture.paste((255, 255, 255, 0), (0, 0, 200, 60))
        for file_format in ("PNG", "TIFF", "WEBP"):
            grey = decode_scan(save(picture, file_format, lossless=True))
            assert not grey[:60].any()
            assert grey[60:].any()

    def test_a_palette_with_a_transparent_colour(self) -> None:
        picture = Image.new("P", (32, 32), 1)
        picture.putpalette([255, 255, 255, 200, 200, 200])
        picture.paste(0, (0, 0, 32, 16))
        grey = decode_scan(save(picture, "PNG", transparency=0))
        assert (grey[:16] == 0).all()
        assert (grey[16:] == 200).all()

    def test_colour_becomes_luminance(self) -> None:
        picture = Image.new("RGB", (30, 30))
        for column, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
            picture.paste(colour, (column * 10, 0, column * 10 + 10, 30))
        grey = decode_scan(save(picture))
        assert [int(grey[0, column]) for column in (5, 15, 25)] == [76, 150, 29]

    def test_only_the_first_page_is_read(self, draw_scan: Draw, phantom: NDArray[np.uint8]) -> None:
        pages = [Image.fromarray(phantom), Image.new("L", (50, 50))]
        data = save(pages[0], "TIFF", save_all=True, append_images=pages[1:])
        np.testing.assert_array_equal(decode_scan(data), phantom)

    @pytest.mark.parametrize("file_format", ["GIF", "PPM", "TGA", "ICO", "PDF", "DDS"])
    def test_other_formats_are_not_accepted(self, draw_scan: Draw, file_format: str) -> None:
        with pytest.raises(ScanError, match="Accepted: JPEG, PNG, TIFF, BMP and WebP"):
            decode_scan(draw_scan(file_format, mode="RGB"))

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (bytes(128) + b"DICM" + bytes(500), "The file is DICOM.*Export the slice as PNG"),
            (b"GIF89a" + bytes(50), "The file is GIF"),
            (b"\x00\x00\x00\x1cftypavif" + bytes(50), "The file is AVIF"),
            (b"\x00\x00\x00\x1cftypheic" + bytes(50), "The file is HEIC"),
        ],
    )
    def test_formats_often_sent_by_mistake_are_named(self, data: bytes, words: str) -> None:
        with pytest.raises(ScanError, match=f"{words}.* Accepted: JPEG"):
            decode_scan(data)


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize(
        ("file_format", "mode"),
        [
            *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
            *(("PNG", mode) for mode in ("L", "RGB", "RGBA", "I;16")),
            *(("TIFF", mode) for mode in ("L", "RGB", "RGBA", "I;16")),
            *(("WEBP", mode) for mode in ("RGB", "RGBA")),
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
        grey = decode_scan(data)
        assert grey.shape == ((220, 150) if orientation < 5 else (150, 220))
        assert np.abs(grey - expected).max() <= 1

    @pytest.mark.parametrize("orientation", [0, 9, 65535])
    def test_an_unknown_rotation_is_left(
        self, phantom: NDArray[np.uint8], orientation: int
    ) -> None:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        data = save(Image.fromarray(phantom), "PNG", exif=exif)
        np.testing.assert_array_equal(decode_scan(data), phantom)


class TestRefusals:
    @pytest.mark.parametrize(
        ("data", "word"),
        [
            (b"", "The file is empty"),
            (b"a text, not a scan", "not an image"),
            ("Ein Text – кириллица".encode(), "not an image"),
            (b"\x00" * 10_000, "not an image"),
            (b"%PDF-1.7\n", "not an image"),
            (b"\x89PNG\r\n\x1a\n", "not an image|damaged or cut short"),
            (b"\xff\xd8\xff\xe0", "not an image|damaged or cut short"),
            (b"II*\x00\x08\x00\x00\x00", "not an image|damaged or cut short"),
            (b"BM" + bytes(52), "not an image|damaged or cut short"),
            (b"RIFF\x00\x00\x00\x00WEBP", "not an image|damaged or cut short"),
        ],
    )
    def test_no_image(self, data: bytes, word: str) -> None:
        with pytest.raises(ScanError, match=word):
            decode_scan(data)

    @pytest.mark.parametrize("kept", [0.02, 0.25, 0.5, 0.9])
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
        with pytest.raises(ScanError, match=r"damaged or cut short|not an image"):
            decode_scan(data[: int(len(data) * kept)])

    @pytest.mark.parametrize("value", [0, 4, 255])
    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
    def test_blank(self, mode: str, value: int) -> None:
        picture = Image.new("L", (100, 100), value).convert(mode)
        with pytest.raises(ScanError, match=f"blank: every pixel has the value {value}"):
            decode_scan(save(picture))

    @pytest.mark.parametrize("kind", [np.uint16, np.float32])
    def test_blank_and_deep(self, kind: type) -> None:
        data = save(Image.fromarray(np.full((50, 50), 7, kind)), "TIFF")
        with pytest.raises(ScanError, match="blank"):
            decode_scan(data)

    def test_wholly_transparent(self) -> None:
        clear = Image.effect_noise((64, 64), 50).convert("LA")
        clear.putalpha(0)
        with pytest.raises(ScanError, match="blank"):
            decode_scan(save(clear))

    @pytest.mark.parametrize("size", [(1, 1), (15, 200), (200, 15)])
    def test_too_small(self, size: tuple[int, int]) -> None:
        with pytest.raises(ScanError, match=f"{size[0]} × {size[1]} pixels, which is too small"):
            decode_scan(save(Image.effect_noise(size, 50)))

    def test_the_smallest(self) -> None:
        assert decode_scan(save(Image.effect_noise((16, 16), 50))).shape == (16, 16)

    def test_the_largest_is_accepted_and_a_pixel_more_is_not(self) -> None:
        data = save(Image.effect_noise((40, 25), 50))
        assert decode_scan(data, max_pixels=1000).shape == (25, 40)
        with pytest.raises(OversizedScanError, match=r"40 × 25 .* At most 999 pixels"):
            decode_scan(data, max_pixels=999)


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Write a PNG by hand: a grey header and the chunks given."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*one) for one in [(b"IHDR", header), *chunks, (b"IEND", b"")]
    )


class TestBombs:
    @pytest.mark.parametrize("side", [7_072, 20_000, 2**31 - 1])
    def test_a_picture_far_too_large_is_refused_before_it_is_decoded(self, side: int) -> None:
        assert side * side > MAX_PIXELS
        bomb = png(side, side, (b"IDAT", zlib.compress(bytes(1000))))
        with pytest.raises(OversizedScanError, match="too large"):
            decode_scan(bomb)

    def test_a_real_one(self) -> None:
        bomb = save(Image.new("1", (8_000, 8_000)))
        assert len(bomb) < 50_000
        with pytest.raises(OversizedScanError, match="50,000,000 pixels are accepted"):
            decode_scan(bomb)

    @pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
    def test_a_text_that_swells_is_not_unpacked(self, kind: bytes) -> None:
        swelling = b"name\x00\x00" + zlib.compress(bytes(40_000_000))
        noise = np.random.default_rng(0).integers(0, 256, (32, 33), np.uint8)
        noise[:, 0] = 0  # each row's filter
        data = png(32, 32, (kind, swelling), (b"IDAT", zlib.compress(noise.tobytes())))
        tracemalloc.start()
        try:
            with contextlib.suppress(ScanError):
                decode_scan(data)
            assert tracemalloc.get_traced_memory()[1] < 10_000_000
        finally:
            tracemalloc.stop()


def test_damaged_files_never_raise_anything_else(draw_scan: Draw) -> None:
    random = np.random.default_rng(3)
    files = [
        draw_scan(file_format, mode=mode, width=48, height=52, **options)
        for file_format, mode, options, _ in STORED
    ]
    for _ in range(1500):
        data = bytearray(files[random.integers(len(files))])
        reach = len(data) if random.random() < 0.5 else min(len(data), 200)
        for position in random.integers(reach, size=random.integers(1, 8)):
            data[position] = random.choice([0, 1, 127, 255, random.integers(256)])
        try:
            grey = decode_scan(bytes(data))
        except ScanError:
            continue
        assert grey.dtype == np.uint8


def test_the_filters_of_warnings_stay_as_they_are(draw_scan: Draw) -> None:
    scan = draw_scan("TIFF")
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(decode_scan, [scan] * 64))
    assert warnings.filters == before
    with pytest.raises(UserWarning, match="not Pillow's"):
        warnings.warn("not Pillow's", stacklevel=1)


def test_several_threads_at_once(draw_scan: Draw) -> None:
    files = [draw_scan(kind, mode=mode, **options) for kind, mode, options, _ in STORED]
    expected = [decode_scan(file) for file in files]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(decode_scan, files * 8))
    for index, grey in enumerate(found):
        np.testing.assert_array_equal(grey, expected[index % len(files)])
