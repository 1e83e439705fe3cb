"""The files that inputs are made of: every accepted format, and TIFF and DICOM of random tags."""

import gzip
import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from pillow_heif import register_heif_opener
from pydicom import uid

from tests.volumes import NATIVE, SYNTAXES, draw_small, write_dicom, write_nifti

_MODES = {
    "JPEG": ("L", "RGB", "CMYK"),
    "PNG": ("L", "LA", "P", "RGB", "RGBA", "1", "I;16"),
    "TIFF": ("L", "P", "RGB", "RGBA", "CMYK", "1", "I;16", "F"),
    "BMP": ("L", "P", "RGB", "1"),
    "WEBP": ("RGB", "RGBA"),
    "AVIF": ("L", "RGBA"),
    "HEIF": ("L", "RGBA", "I;16"),
    "JPEG2000": ("L", "LA", "RGB", "I;16"),
}
_COMPRESSIONS = ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group3", "group4")
# What the tags of a TIFF may say: compression, photometric interpretation, bits, number format.
_TIFF_TAGS = {
    259: (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34925, 50000, 50001),
    262: (0, 1, 2, 3, 5, 6, 8, 32803),
    258: (1, 2, 4, 8, 12, 16, 32, 64),
    339: (1, 2, 3),
    277: (1, 1, 1, 2, 3, 4, 5),
    284: (1, 2),
    266: (1, 2),
    274: (1, 6),
    292: (0, 1, 4),
    317: (1, 2, 3),
    338: (0, 1, 2),
}
_TILE_TAGS = (322, 323, 324, 325)
_STRIP_TAGS = (278, 273, 279)
_SIDES = (16, 64, 100, 2000)
# What the elements of a DICOM file may say of its pixels, from samples to their sign.
_DICOM_ELEMENTS = {
    0x0002: (1, 1, 1, 3, 0, 65535),
    0x0006: (0, 1, 2),
    0x0010: (32, 32, 32, 16, 0, 1, 65535),
    0x0011: (32, 32, 32, 16, 0, 1, 65535),
    0x0100: (16, 16, 8, 1, 12, 32, 64, 0),
    0x0101: (16, 12, 8, 1, 0, 65535),
    0x0103: (0, 1, 2),
    0x0120: (0, 20, 65535),
}
_DICOM_TEXTS = {
    (0x0008, 0x0008, b"CS"): (b"ORIGINAL\\PRIMARY\\LOCALIZER", b"MOSAIC", b"\\\\", b"P"),
    (0x0008, 0x0060, b"CS"): (b"MR", b"MR", b"MR", b"CT", b"\\\\"),
    (0x0018, 0x0020, b"FD"): (b"SE", b"12345678"),  # a wrong type, and a wrong length of it
    (0x0018, 0x0081, b"DS"): (b"3.4", b"nan", b"1e308", b"x\\y"),
    (0x0028, 0x0008, b"IS"): (b"1", b"2", b"-1", b"999999999999", b"x"),
    (0x0028, 0x1050, b"DS"): (b"600", b"1e308", b"nan", b"x\\y"),
    (0x0028, 0x1051, b"DS"): (b"1200", b"0", b"-inf", b"5\\5"),
    (0x0028, 0x1053, b"DS"): (b"1", b"-2", b"0", b"1e-300", b"y"),
}
_PHOTOMETRIC = (
    b"MONOCHROME1 ",
    b"MONOCHROME2 ",
    b"RGB ",
    b"PALETTE COLOR ",
    b"YBR_FULL_422",
    b"X ",
)
_PACKED = 40_000_000  # bytes: ten for each pixel that is accepted
_DEEP = 3000  # sequences in sequences


def draw_seeds() -> list[bytes]:
    """Draw a head and save it in every format, mode and compression that is accepted."""
    register_heif_opener()  # which is also what saves it
    head = Image.new("L", (60, 64), 4)
    pen = ImageDraw.Draw(head)
    pen.ellipse((6, 4, 54, 60), fill=200)
    pen.ellipse((9, 8, 51, 56), fill=90)
    pen.ellipse((30, 30, 42, 40), fill=240)
    exif = Image.Exif()
    exif[0x0112] = 6
    seeds = [
        _save(_convert(head, mode), kind, exif=exif)
        for kind, modes in _MODES.items()
        for mode in modes
    ]
    for compression in _COMPRESSIONS:
        mode = "1" if compression.startswith("group") else "L"
        seeds.append(_save(head.convert(mode), "TIFF", compression=compression))
    pages = {"save_all": True, "append_images": [head, head]}
    seeds += [
        _save(head, "TIFF", **pages),
        _save(head, "TIFF", big_tiff=True),
        _save(head, "JPEG", progressive=True),
        _save(head.convert("RGB"), "JPEG", progressive=True, subsampling=0),
        _save(head.convert("RGB"), "WEBP", lossless=True),
        *(_save(head.convert("RGB"), kind, **pages) for kind in ("WEBP", "PNG", "MPO", "AVIF")),
    ]
    return seeds


def draw_volumes() -> list[bytes]:
    """Write DICOM files of every transfer syntax and kind of pixels, and NIfTI files.

    Some ask for more than they hold: sequences in sequences, and what unpacks to far more.
    """
    head = draw_small()
    eight, frames = (head >> 4).astype(np.uint8), np.stack([head] * 3)
    colours = np.repeat(eight[..., np.newaxis], 3, axis=2)
    directions = [0, 1, 0, 0, 0, -1]
    seeds = [write_dicom(eight if "Baseline" in one.name else head, one) for one in SYNTAXES]
    seeds += [write_dicom(syntax=one, preamble=False) for one in NATIVE[:2]]
    seeds += [write_dicom(frames, one) for one in (*NATIVE, uid.RLELossless, uid.JPEG2000Lossless)]
    seeds += [write_dicom(colours, one) for one in (uid.ExplicitVRLittleEndian, uid.RLELossless)]
    seeds += [
        write_dicom(head.astype(np.int16) - np.int16(500), PixelPaddingValue=-480, RescaleSlope=2),
        write_dicom(PhotometricInterpretation="MONOCHROME1", WindowCenter=900, WindowWidth=1800),
        write_dicom(ImageOrientationPatient=directions, PixelSpacing=[1, 2]),
    ]
    whole = seeds[SYNTAXES.index(uid.ExplicitVRLittleEndian)]
    start = whole.index(b"\x08\0\x16\0")
    nested = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" * _DEEP
    deflated = seeds[SYNTAXES.index(uid.DeflatedExplicitVRLittleEndian)]
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    seeds += [
        whole[:start] + nested + whole[start:],
        deflated[:start] + packer.compress(bytes(_PACKED)) + packer.flush(),
    ]
    voxels = np.stack([head] * 20, axis=-1)
    plain = write_nifti(voxels, packed=False)
    huge = plain[:42] + struct.pack("<3h", 2000, 2000, 2000) + plain[48:352]
    colour = [(name, "u1") for name in "RGB"]
    seeds += [plain, gzip.compress(huge + bytes(_PACKED))]
    seeds += [write_nifti(voxels.astype(kind)) for kind in ("u1", "<i2", ">f4", "f8", "u4")]
    seeds += [write_nifti(voxels, np.diag([-1, 2, 3, 1])), write_nifti(np.stack([voxels] * 2, -1))]
    seeds += [
        write_nifti(np.repeat(voxels.astype("u1")[..., np.newaxis], 3, -1).view(colour)[..., 0])
    ]
    return seeds


def write_any_dicom(random: np.random.Generator) -> bytes:
    """Write a DICOM file whose elements say anything, with noise or zeros for its pixels."""

    def write(group: int, element: int, kind: bytes, value: bytes) -> bytes:
        value += b" " * (len(value) % 2)
        return struct.pack("<HH2sH", group, element, kind, len(value)) + value

    syntaxes = [one.encode() for one in (*SYNTAXES, uid.HTJ2K, uid.MPEG2MPML, uid.UID("1.2.3"))]
    syntax = write(2, 0x10, b"UI", syntaxes[random.integers(len(syntaxes))])
    elements = {
        (0x28, tag): (b"US", struct.pack("<H", random.choice(values)))
        for tag, values in _DICOM_ELEMENTS.items()
    }
    elements[0x28, 4] = (b"CS", _PHOTOMETRIC[random.integers(len(_PHOTOMETRIC))])
    for (group, tag, kind), texts in _DICOM_TEXTS.items():
        if random.random() < 0.5:
            elements[group, tag] = (kind, texts[random.integers(len(texts))])
    header = b"".join(write(*place, *elements[place]) for place in sorted(elements))
    pixels = (random.bytes(2048), bytes(2048))[random.integers(2)]
    length = int(random.choice([2048, 2048, 2**32 - 1, 2**31, 0]))
    end = b"\xe0\x7f\x10\0OW\0\0" + struct.pack("<I", length)
    fragment = b"\xfe\xff\0\xe0\0\0\0\0\xfe\xff\0\xe0\0\x08\0\0"
    return bytes(128) + b"DICM" + syntax + header + end + fragment * (length > 2**31) + pixels


def _convert(head: Image.Image, mode: str) -> Image.Image:
    if mode in ("I;16", "F"):
        deep = np.asarray(head, np.float32) * 200
        return Image.fromarray(deep.astype(np.uint16) if mode == "I;16" else deep)
    return head.convert(mode)


def _save(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def write_tiff(random: np.random.Generator) -> bytes:
    """Write a TIFF whose tags say anything, with noise, a ramp or zeros for its pixels."""
    order = random.choice(["<", ">"])
    noise = random.bytes(int(random.integers(1, 20_000)))
    pixels = (noise, bytes(len(noise)), bytes(range(256)) * 20)[random.integers(3)]
    tags = {tag: int(random.choice(values)) for tag, values in _TIFF_TAGS.items()}
    for tag in random.choice(list(tags), size=4, replace=False).tolist():
        del tags[tag]
    width, height, across, down = (int(random.choice(_SIDES)) for _ in range(4))
    tags |= {256: width, 257: height}
    places = (across, down, 400, len(pixels)) if random.random() < 0.3 else (down, 400, len(pixels))
    tags |= dict(zip(_TILE_TAGS if len(places) == 4 else _STRIP_TAGS, places, strict=True))
    signature = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, len(tags))
    # A long, whatever the tag: no value of more than a place.
    listed = (struct.pack(order + "HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    return (signature + b"".join(listed)).ljust(400, b"\0") + pixels
