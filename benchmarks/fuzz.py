"""Feeds damaged scans, forms and requests to what reads uploads: each must be read or refused.

    python -m benchmarks.fuzz --inputs 100000
    python -m benchmarks.fuzz --inputs 10000 --volumes

Real files of every accepted format, and forms that contain them, are damaged where formats are
sensitive: bits, lengths, cuts, holes, repeated and exchanged pieces, pieces of another format.
TIFFs and DICOM files are also made of random tags, with noise for pixels. Requests with odd lengths
and long forms of text go through gunicorn's parser, and must be as long for werkzeug. Every input
is made from the seed and its own number, so one that fails can be repeated with --first. The run
stops at the first exception that is not a refusal, at the first input that takes more than
--seconds of the processor, and at the first that is written about to standard error. If a decoder
crashes the process, the last line shows where.
"""

import argparse
import faulthandler
import gzip
import io
import json
import os
import resource
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO
from unittest.mock import Mock, patch

import numpy as np
from flask import Flask
from gunicorn.config import Config
from gunicorn.http.body import LengthReader
from gunicorn.http.errors import ParseException
from gunicorn.http.parser import RequestParser
from gunicorn.http.wsgi import create
from PIL import Image, ImageDraw
from pillow_heif import register_heif_opener
from pydicom import uid
from tqdm import tqdm
from werkzeug.exceptions import HTTPException
from werkzeug.test import EnvironBuilder
from werkzeug.wsgi import get_content_length

from brainscan import Problem, ScanError
from brainscan.bundle import Card
from brainscan.scan import read_picture
from tests.volumes import NATIVE, SYNTAXES, draw_small, write_dicom, write_nifti
from tumorapp import create_app, uploads
from tumorapp.api.options import read_options
from tumorapp.catalog import Catalog

_BOUNDARY = b"fuzz"
_MAX_PIXELS = 4_000_000  # more would be slow to decode, and no more dangerous
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
_JPEG_END = b"\xff\xd9"
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
_LENGTHS = (
    *(b"0000000000000100", b"-1", b"+5", b"5, 5", b"\xb2", b"0x10", b"1_0", b" 7 ", b""),
    *(b"9" * 30, b"9" * 5000, b"100\r\nContent-Length: 99"),
)
_CODINGS = (b"chunked", b"Chunked", b"gzip, chunked", b"chunked, chunked", b"identity", b"x")
_FIELDS = (b"a", b"model=x", b"heatmap=1", b"%41", b"%4", b"%FF", b"\xff", b"=", b"image=", b"")
_TELLING = (0, 1, 0x7F, 0x80, 0xFF)  # bytes that change a length or a sign


@dataclass(eq=False)
class FuzzError(Exception):
    """An input that led to neither a result nor a refusal."""

    number: int
    reason: str

    def __str__(self) -> str:
        return f"Input {self.number}: {self.reason}"


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


class Fuzzer:
    """Makes inputs by their numbers and feeds them to what reads uploads.

    Args:
        seed: different seeds make different inputs.
        volumes: whether they are made of DICOM and NIfTI files, or of other images.
    """

    def __init__(self, seed: int, *, volumes: bool = False) -> None:
        self._seed = seed
        self._files = draw_volumes() if volumes else draw_seeds()
        self._write_any = write_any_dicom if volumes else write_tiff
        self._app = Flask(__name__)
        self._app.config.update(MAX_UPLOAD_MB=1, MAX_IMAGES=4, MAX_SLICES=4)
        uploads.init_app(self._app)

    def feed(self, number: int) -> str:
        """Make an input, feed it, and name the outcome.

        Raises:
            FuzzError: an exception that is not a refusal.
        """
        random = np.random.default_rng((self._seed, number))
        feeds = (self._feed_decoder,) * 3 + (self._feed_form, self._feed_request)
        try:
            return feeds[number % len(feeds)](random)
        except Exception as error:
            raise FuzzError(number, f"{type(error).__name__}: {error}") from error

    def _feed_decoder(self, random: np.random.Generator) -> str:
        is_made = random.random() < 0.3
        data = self._write_any(random) if is_made else self._damage(random, self._pick(random))
        try:
            read_picture(data, max_pixels=_MAX_PIXELS)
        except ScanError:
            return "scan refused"
        return "scan read"

    def _feed_form(self, random: np.random.Generator) -> str:
        body, kind = self._draw_form(random), f"multipart/form-data; boundary={_BOUNDARY.decode()}"
        if random.random() < 0.1:
            kind = self._damage(random, kind.encode()).decode("latin-1")
        environ = EnvironBuilder(method="POST", data=body).get_environ()
        environ["CONTENT_TYPE"] = kind
        with self._app.request_context(environ) as context:
            try:
                found = uploads.read_files(context.request, max_images=4)
                read_options(context.request.values)
                for file in found:
                    read_picture(file.data, max_pixels=_MAX_PIXELS)
            except ScanError:
                return "form read, scan refused"
            except (Problem, HTTPException):
                return "form refused"
        return "form read"

    def _feed_request(self, random: np.random.Generator) -> str:
        parser = RequestParser(Config(), [self._draw_request(random)], ("127.0.0.1", 1))
        try:
            received = next(parser)
            _, environ = create(received, Mock(), ("127.0.0.1", 1), ("127.0.0.1", 80), Config())
            _check_length(received.body.reader, environ)
            environ["wsgi.input"] = io.BytesIO(received.body.read())
        except (ParseException, StopIteration, OSError):
            return "request refused"
        with self._app.request_context(environ) as context:
            try:
                read_options(context.request.values)
                uploads.read_files(context.request, max_images=4)
            except (Problem, HTTPException):
                return "request read, form refused"
        return "request read"

    def _draw_request(self, random: np.random.Generator) -> bytes:
        fields = [_FIELDS[index] for index in random.integers(len(_FIELDS), size=3)]
        body = b"&".join(fields * int(random.integers(2 ** random.integers(1, 17))))
        kind, length = b"application/x-www-form-urlencoded", b"%d" % len(body)
        if random.random() < 0.3:
            body, kind, length = self._pick(random), b"image/png", b"300"
        sort = random.random()
        if sort < 0.3:
            length = _LENGTHS[random.integers(len(_LENGTHS))]
        head = b"POST /?heatmap=1 HTTP/1.1\r\nHost: x\r\nContent-Type: " + kind
        if sort < 0.8:
            head += b"\r\nContent-Length: " + length
        if sort > 0.7:
            head += b"\r\nTransfer-Encoding: " + _CODINGS[random.integers(len(_CODINGS))]
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        sent = head + b"\r\n\r\n" + body
        return self._damage(random, sent) if random.random() < 0.3 else sent

    def _draw_form(self, random: np.random.Generator) -> bytes:
        parts = [b'name="image"; filename="a.png"\r\nContent-Type: image/png', b'name="model"']
        parts += [b'name="heatmap"', b"name*=utf-8''image; filename*=utf-8''%E2%80%AE.png"]
        body = b""
        for index in random.integers(len(parts), size=random.integers(1, 6)):
            content = self._pick(random) if index in (0, 3) else b"1"
            body += b"--" + _BOUNDARY + b"\r\nContent-Disposition: form-data; " + parts[index]
            body += b"\r\n\r\n" + content + b"\r\n"
        body += b"--" + _BOUNDARY + b"--\r\n"
        return self._damage(random, body) if random.random() < 0.9 else body

    def _pick(self, random: np.random.Generator) -> bytes:
        return self._files[random.integers(len(self._files))]

    def _damage(self, random: np.random.Generator, whole: bytes) -> bytes:
        data = bytearray(whole)
        for _ in range(random.integers(1, 6)):
            kind = random.integers(9)
            reach = len(data) if random.random() < 0.5 else min(len(data), 256)
            if reach < 8:
                break
            start = int(random.integers(reach))
            end = start + int(random.integers(1, 64))
            if kind == 0:  # single bits
                data[start] ^= 1 << int(random.integers(8))
            elif kind == 1:  # bytes that change a length
                data[start] = _TELLING[random.integers(len(_TELLING))]
            elif kind == 2:  # a whole number of 4 bytes, in either order
                value = int(random.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, len(data)]))
                data[start : start + 4] = struct.pack(random.choice(["<I", ">I"]), value)
            elif kind == 3:  # cut
                del data[start : end if random.random() < 0.7 else None]
            elif kind == 4:  # repeat
                data[start:start] = data[start:end] * int(random.integers(1, 50))
            elif kind == 5:  # a piece of another file
                other = self._pick(random)
                data[start:end] = other[start : start + int(random.integers(1, 256))]
            else:  # noise, a hole, or the end of a JPEG, too early
                hole = bytes(len(data[start : start + 2000]))
                new = (random.bytes(end - start), hole, _JPEG_END)[kind - 6]
                data[start : None if kind == 8 else start + len(new)] = new
        return bytes(data)


@contextmanager
def watch_standard_error() -> Iterator[BinaryIO]:
    """Give a file that takes what is written to standard error."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield written
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _check_length(reader: Any, environ: dict[str, Any]) -> None:
    """Compare how long a body is for gunicorn and for werkzeug."""
    ours, theirs = get_content_length(environ), None
    if isinstance(reader, LengthReader):
        ours, theirs = ours or 0, reader.length
    if ours != theirs:
        raise ValueError(f"The body has {theirs} bytes for gunicorn, and {ours} for werkzeug.")


def run(
    first: int, inputs: int, seed: int, seconds: float, *, volumes: bool = False
) -> tuple[Counter[str], float]:
    """Feed inputs one after another.

    Returns:
        How often each outcome occurred, and the processor's seconds for the slowest input.

    Raises:
        FuzzError: an input was neither read nor refused, took more than `seconds` of the processor,
            or made a decoder write to standard error.
    """
    fuzzer, outcomes, slowest = Fuzzer(seed, volumes=volumes), Counter[str](), 0.0
    numbers = range(first, first + inputs)
    with os.fdopen(os.dup(2), "w") as terminal, watch_standard_error() as written:
        for number in tqdm(numbers, unit="input", mininterval=1, disable=None, file=terminal):
            start = time.process_time()  # a machine that is busy with other work counts for nothing
            outcomes[fuzzer.feed(number)] += 1
            took = time.process_time() - start
            slowest = max(slowest, took)
            if took > seconds:
                raise FuzzError(number, f"it took {took:.1f} s of the processor")
            if os.fstat(written.fileno()).st_size:
                written.seek(0)
                raise FuzzError(number, f"this was written to standard error: {written.read()!r}")
    return outcomes, slowest


# Of a wrong type, out of every range, or hard to write.
_WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    0.5,
    7,
    10**400,
    1e308,
    5e-324,
    "",
    "9" * 5000,
    "\ud800",
    "<b>",
    [],
    {},
)


def fuzz_cards(app: Flask, first: int, inputs: int, seed: int) -> Counter[str]:
    """Change a value in the card of a served model; what is still accepted must be shown.

    Raises:
        FuzzError: an exception that is not a refusal.
    """
    client, outcomes = app.test_client(), Counter[str]()
    served = dict(app.extensions["catalog"].models)
    for number in range(first, first + inputs):
        random = np.random.default_rng((seed, number))
        name = random.choice(sorted(served))
        raw = json.loads(served[name].card.to_json())
        _spoil(raw, random)
        try:
            card = Card.from_json(json.dumps(raw))
        except ValueError:
            outcomes["card refused"] += 1
            continue
        with patch.object(Catalog, "models", {name: replace(served[name], card=card)}):
            for page in ("/", "/models", f"/models/{name}/{card.version}?lang=de"):
                try:
                    client.get(page).close()
                except Exception as error:
                    raise FuzzError(number, f"{page}: {type(error).__name__}: {error}") from error
        outcomes["card read"] += 1
    return outcomes


def _spoil(value: Any, random: np.random.Generator) -> None:
    """Change one value, at any depth, of the dictionaries and lists that JSON holds."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[random.integers(len(keys))]
    if isinstance(value[key], dict | list) and value[key] and random.random() < 0.9:
        _spoil(value[key], random)
    else:
        value[key] = _WRONG[random.integers(len(_WRONG))]


def main() -> None:
    """Run it, and print the outcomes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--volumes", action="store_true", help="DICOM and NIfTI files")
    parser.add_argument("--seconds", type=float, default=5, help="of the processor, for one input")
    given = parser.parse_args()
    faulthandler.enable(os.fdopen(os.dup(2), "w"))
    start = time.perf_counter()
    try:
        outcomes, slowest = run(
            given.first, given.inputs, given.seed, given.seconds, volumes=given.volumes
        )
        app = create_app({"PROPAGATE_EXCEPTIONS": True})
        outcomes += fuzz_cards(app, given.first, given.inputs // 50, given.seed)
    except FuzzError as failure:
        sys.exit(
            f"{failure}\nAgain: python -m benchmarks.fuzz --seed {given.seed} "
            f"--first {failure.number} --inputs 1"
        )
    rate = given.inputs / (time.perf_counter() - start)
    print(f"{given.inputs:,} inputs, {rate:.0f} a second; the slowest took {slowest * 1000:.0f} ms")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"  {memory:8,} MB of memory at most")
    for outcome, count in outcomes.most_common():
        print(f"  {count:8,} {outcome}")


if __name__ == "__main__":
    main()
