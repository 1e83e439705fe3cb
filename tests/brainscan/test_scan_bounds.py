"""Files that are small and name a small picture, and would keep a processor busy for hours."""

import io
import re
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from brainscan.scan import ScanError, read_picture
from brainscan.scan.bounds import ExcessError, check_directories

MEGABYTE = 2**20


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes) -> bytes:
    """Write a grey PNG of 32 × 32 pixels of noise, with chunks before its picture."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 33), np.uint8)
    noise[:, 0] = 0  # each row's filter
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 8, 0, 0, 0, 0))
    picture = chunk(b"IDAT", zlib.compress(noise.tobytes())) + chunk(b"IEND")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + picture


def jpeg(side: int = 32, **options: object) -> bytes:
    file = io.BytesIO()
    ramp = np.tile((np.arange(side) // 8 % 256).astype(np.uint8), (side, 1))
    Image.fromarray(ramp).save(file, "JPEG", **options)
    return file.getvalue()


def tiff(*tags: tuple[int, int, int, int], order: str = "<", big: bool = False) -> bytes:
    """Write a TIFF of one directory by hand, and 4 kB behind it: tag, type, number, value."""
    signature = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "H", 43 if big else 42)
    head = struct.pack(order + "HHQ", 8, 0, 16) if big else struct.pack(order + "I", 8)
    body = struct.pack(order + ("Q" if big else "H"), len(tags))
    for tag in sorted(tags):
        body += struct.pack(order + ("HHQQ" if big else "HHII"), *tag)
    return signature + head + body + bytes(8 if big else 4) + bytes(range(256)) * 16


def refuse(data: bytes) -> str:
    """Check that a file asks for too much work, and give what is said of it."""
    with pytest.raises(ScanError) as caught:
        read_picture(data)
    assert caught.value.code == "image-too-complex"
    return str(caught.value)


GREY = [(256, 3, 1, 64), (257, 3, 1, 64), (258, 3, 1, 8), (262, 3, 1, 1), (278, 3, 1, 1)]


@pytest.mark.parametrize(
    "data",
    [
        png(chunk(b"prVt") * (4 * MEGABYTE // 12)),
        png(chunk(b"IDAT") * (4 * MEGABYTE // 12)),
        jpeg()[:2] + b"\xff\xfe\x00\x02" * MEGABYTE + jpeg()[2:],
        jpeg()[:2] + b"\xff\xdb\x00\x02" * MEGABYTE + jpeg()[2:],
    ],
    ids=["png-unknown", "png-data", "jpeg-comments", "jpeg-tables"],
)
def test_a_million_empty_pieces(data: bytes) -> None:
    assert "too many small pieces" in refuse(data)


def test_a_large_png_in_small_chunks_is_read() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2000, 2001), np.uint8)
    noise[:, 0] = 0
    data = zlib.compress(noise.tobytes(), 0)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2000, 2000, 8, 0, 0, 0, 0))
    pieces = [chunk(b"IDAT", data[start : start + 1024]) for start in range(0, len(data), 1024)]
    whole = b"\x89PNG\r\n\x1a\n" + header + b"".join(pieces) + chunk(b"IEND")
    np.testing.assert_array_equal(read_picture(whole).grey, noise[:, 1:])


def test_a_jpeg_of_many_passes() -> None:
    data = jpeg(3000, progressive=True)
    last = data[data.rfind(b"\xff\xda") : -2]
    assert read_picture(data).size == (3000, 3000)
    told = refuse(data[:-2] + last * 10_000 + b"\xff\xd9")
    assert re.search(r"drawn in 10,00\d passes, and 100 are accepted", told)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True], ids=["tiff", "bigtiff"])
@pytest.mark.parametrize("tag", [273, 324])
def test_a_tiff_of_many_strips(tag: int, big: bool, order: str) -> None:
    data = tiff(*GREY, (tag, 1, 20_000_000, 8), order=order, big=big)
    assert "lists 20,000,000 strips or tiles, and 65,536" in refuse(data)


def test_on_a_later_page_it_is_found_as_well() -> None:
    pages = [Image.effect_noise((64, 64), 50)] * 3
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    data = bytearray(file.getvalue())
    strips = struct.pack("<HHI", 273, 4, 1)
    last = data.rfind(strips)
    data[last : last + 8] = struct.pack("<HHI", 273, 4, 70_000)
    with pytest.raises(ExcessError, match="70,000 strips"):
        check_directories(bytes(data))


def test_a_tiff_of_many_tags() -> None:
    data = tiff(*GREY, *((50_000, 4, 1, 0) for _ in range(10_000)))
    assert "has 10,005 tags, and 10,000 are accepted" in refuse(data)


@pytest.mark.parametrize("offset", [0, 7, 2**31, 2**32 - 1])
def test_a_directory_that_lies_elsewhere_is_left_to_the_parser(offset: int) -> None:
    data = b"II*\0" + struct.pack("<I", offset) + bytes(100)
    check_directories(data)
    with pytest.raises(ScanError, match="damaged"):
        read_picture(data)


def test_directories_in_a_circle() -> None:
    data = bytearray(tiff(*GREY, (273, 4, 1, 100)))
    end = 8 + 2 + 12 * 6
    data[end : end + 4] = struct.pack("<I", 8)
    assert read_picture(bytes(data)).size == (64, 64)


def test_overlapping_tags_are_not_copied_each() -> None:
    shared = bytes(4 * MEGABYTE)
    tags = [(40_000 + index, 7, len(shared), 5000) for index in range(500)]
    data = tiff(*GREY, (273, 4, 1, 100), *tags) + shared
    tracemalloc.start()
    try:
        assert read_picture(data).size == (64, 64)
        assert tracemalloc.get_traced_memory()[1] < 20 * MEGABYTE
    finally:
        tracemalloc.stop()


def test_a_webp_canvas_is_not_made_before_its_size_is_known() -> None:
    size = (16_383).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + size + size + bytes(100)
    with pytest.raises(ScanError) as caught:
        read_picture(b"RIFF" + struct.pack("<I", len(body)) + body)
    assert caught.value.code in ("image-too-large", "damaged-image")
