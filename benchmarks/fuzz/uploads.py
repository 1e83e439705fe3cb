"""Damaged scans, forms and requests, fed to what reads uploads."""

import io
import os
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO
from unittest.mock import Mock

import numpy as np
from flask import Flask
from gunicorn.config import Config
from gunicorn.http.body import LengthReader
from gunicorn.http.errors import ParseException
from gunicorn.http.parser import RequestParser
from gunicorn.http.wsgi import create
from tqdm import tqdm
from werkzeug.exceptions import HTTPException
from werkzeug.test import EnvironBuilder
from werkzeug.wsgi import get_content_length

from benchmarks.fuzz import FuzzError
from benchmarks.fuzz.files import draw_seeds, draw_volumes, write_any_dicom, write_tiff
from brainscan import Problem, ScanError
from brainscan.scan import read_picture
from tumorapp import uploads
from tumorapp.api.options import read_options

_BOUNDARY = b"fuzz"
_MAX_PIXELS = 4_000_000  # more would be slow to decode, and no more dangerous
_JPEG_END = b"\xff\xd9"
_LENGTHS = (
    *(b"0000000000000100", b"-1", b"+5", b"5, 5", b"\xb2", b"0x10", b"1_0", b" 7 ", b""),
    *(b"9" * 30, b"9" * 5000, b"100\r\nContent-Length: 99"),
)
_CODINGS = (b"chunked", b"Chunked", b"gzip, chunked", b"chunked, chunked", b"identity", b"x")
_FIELDS = (b"a", b"model=x", b"heatmap=1", b"%41", b"%4", b"%FF", b"\xff", b"=", b"image=", b"")
_TELLING = (0, 1, 0x7F, 0x80, 0xFF)  # bytes that change a length or a sign


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
