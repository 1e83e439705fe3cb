"""A mix of good and bad requests of every kind, for `benchmarks.faults`."""

import base64
import http.client
import io
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

BOUNDARY = "tumorapp-benchmark"
_IMAGE = {"Content-Type": "image/jpeg"}
_FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
_TEXT = {"Content-Type": "application/x-www-form-urlencoded"}
_PAGE = {"Accept": "text/html"}


@dataclass(frozen=True)
class Kind:
    """A kind of request.

    Attributes:
        name: for the table.
        status: the expected status of the answer.
        path: after the port.
        body: what is posted; None for a GET.
        method: if neither GET nor POST.
    """

    name: str
    status: int
    path: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    method: str = ""


def write_form(*parts: tuple[str, bytes]) -> bytes:
    """Write files, each with the name of its field, as multipart/form-data."""
    body = b""
    for name, data in parts:
        body += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; '.encode()
        body += b'filename="scan.jpg"\r\n\r\n' + data + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


def _make_hole(scan: bytes) -> bytes:
    data, middle = bytearray(scan), len(scan) // 2
    data[middle : middle + len(scan) // 8] = bytes(len(scan) // 8)
    return bytes(data)


def _draw(mode: str, side: int) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (side, side)).save(file, "PNG")
    return file.getvalue()


def _draw_noisy_fax() -> bytes:
    """Draw a fax of which libtiff has something to say in each row."""
    file = io.BytesIO()
    Image.effect_noise((600, 600), 90).convert("1").save(file, "TIFF", compression="group4")
    data = bytearray(file.getvalue())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(range(256)) * 8
    return bytes(data)


def list_kinds(scan: bytes) -> list[Kind]:
    """Give good requests for a scan, and bad ones of every kind."""
    several = write_form(*[("image", scan)] * 16)
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES"}
    inference = {"inputs": [{**tensor, "data": [base64.b64encode(scan).decode()]}]}
    infer = "/v2/models/lesion-lite0/infer"
    predict = "/api/predict"
    return [
        Kind("one scan", 200, predict, scan, _IMAGE),
        Kind("the other model", 200, f"{predict}?model=binary-cnn", scan, _IMAGE),
        Kind("a heat map", 200, f"{predict}?heatmap=1", scan, _IMAGE),
        Kind("16 scans", 200, predict, several, _FORM),
        Kind("16 heat maps", 200, f"{predict}?heatmap=1", several, _FORM),
        Kind("a tensor", 200, infer, json.dumps(inference).encode()),
        Kind("the page", 200, "/", headers=_PAGE),
        Kind("the page's form", 200, "/", write_form(("image", scan)), {**_FORM, **_PAGE}),
        Kind("the models", 200, "/api/models"),
        Kind("the metrics", 200, "/metrics"),
        Kind("an empty file", 422, predict, b"", _IMAGE),
        Kind("text", 422, predict, b"glioma, certainly", _IMAGE),
        Kind("a cut JPEG", 422, predict, scan[: len(scan) // 2], _IMAGE),
        Kind("a JPEG with a hole", 422, predict, _make_hole(scan), _IMAGE),
        Kind("a damaged fax", 422, predict, _draw_noisy_fax(), {"Content-Type": "image/tiff"}),
        Kind("a long form of text", 413, predict, b"a=1&" * 100_000, _TEXT),
        Kind("an odd length", 400, predict, scan, {**_IMAGE, "Content-Length": "1_0"}),
        Kind("a negative length", 400, predict, scan, {**_IMAGE, "Content-Length": "-5"}),
        Kind("a 1 × 1 image", 422, predict, _draw("L", 1), _IMAGE),
        Kind("a black image", 422, predict, _draw("L", 200), _IMAGE),
        Kind("a bomb", 413, predict, _draw("1", 20_000), _IMAGE),
        Kind("too large", 413, predict, bytes(21 * 2**20), _IMAGE),
        Kind("too many", 413, predict, write_form(*[("image", scan)] * 17), _FORM),
        Kind("unknown model", 404, f"{predict}?model=vgg", scan, _IMAGE),
        Kind("a missing field", 400, predict, write_form(("scan", scan)), _FORM),
        Kind("a page's bad form", 422, "/", write_form(("image", b"x")), {**_FORM, **_PAGE}),
        Kind("no tensor", 400, infer, b"{}"),
        Kind("a wrong method", 405, predict),
        Kind("an odd method", 405, "/api/models", method="DELETE"),
        Kind("an unknown path", 404, "/nothing"),
    ]


@dataclass
class Tally:
    """What became of the requests of a load.

    Attributes:
        answers: how many of each kind had each status, or 0 for none.
        seconds: how long the answers took, by status.
    """

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    seconds: dict[int, list[float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, status: int, seconds: float) -> None:
        """Count one request."""
        with self._lock:
            self.answers[name, status] += 1
            self.seconds.setdefault(status, []).append(seconds)

    def count(self, *statuses: int) -> int:
        """Tell how many requests had one of these statuses."""
        return sum(number for (_, status), number in self.answers.items() if status in statuses)


class Load:
    """Clients in threads that send requests all the time: `with Load(port, kinds, 8) as tally: …`.

    Args:
        port: of the service on this machine.
        kinds: from which each client draws at random, with the same seed each time.
        clients: how many there are.
        leaving: the share of requests whose client disconnects before the end.
    """

    def __init__(
        self, port: int, kinds: Sequence[Kind], clients: int, *, leaving: float = 0.0
    ) -> None:
        self._port, self._kinds, self._leaving = port, kinds, leaving
        self._ended = threading.Event()
        self._tally = Tally()
        self._threads = [
            threading.Thread(target=self._ask, args=(number,)) for number in range(clients)
        ]

    def __enter__(self) -> Tally:
        for thread in self._threads:
            thread.start()
        return self._tally

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, seed: int) -> None:
        choose = random.Random(seed)  # noqa: S311  (nothing is kept secret with it)
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._ended.is_set():
            kind = choose.choice(self._kinds)
            if choose.random() < self._leaving:
                leave_early(self._port, kind.body or b"", choose.random())
                continue
            start = time.perf_counter()
            status = ask(connection, kind)
            self._tally.add(kind.name, status, time.perf_counter() - start)
        connection.close()


def ask(connection: http.client.HTTPConnection, kind: Kind) -> int:
    """Send a request and read its answer; give its status, or 0 if there was none."""
    method = kind.method or ("GET" if kind.body is None else "POST")
    try:
        connection.request(method, kind.path, kind.body, kind.headers)
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return 0
    return response.status


def leave_early(port: int, body: bytes, share: float) -> None:
    """Announce a body, send part of it, and disconnect."""
    head = f"POST /api/predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body) + 1}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(head.encode() + body[: int(len(body) * share)])


def read_scan(path: Path | None) -> bytes:
    """Read the scan to send, or draw something like a head."""
    if path is not None:
        return path.read_bytes()
    picture = Image.radial_gradient("L").point(lambda value: max(0, 200 - 2 * value))
    file = io.BytesIO()
    picture.save(file, "JPEG")
    return file.getvalue()
