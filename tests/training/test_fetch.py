"""Every test talks to a stand-in server on this machine; the code that asks is the real one."""

import base64
import csv
import hashlib
import io
import json
import socket
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import h5py
import numpy as np
import pytest
from PIL import Image

from training.data.fetch import FetchError, fetch
from training.data.folders import find_scans
from training.data.sources import SOURCES

FULL_DISK = Path("/dev/full")


@dataclass
class StandIn:
    """What the server holds and does, and what it was asked.

    Attributes:
        files: stored files by path below `/storage/`.
        listing: what figshare's API lists.
        status: what every API call answers.
        cut_after: bytes after which the next download breaks off.
        requests: method, path, Range and Authorization of each request.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    listing: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    body: bytes | None = None
    cut_after: int | None = None
    requests: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)
    port: int = 0

    def store(self, name: str, content: bytes) -> None:
        """Offer a file as figshare does: with its size and checksum."""
        number = 3_381_290 + len(self.listing)
        self.files[str(number)] = content
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        size = len(content)
        self.listing.append({"id": number, "name": name, "size": size, "computed_md5": digest})

    def paths(self) -> list[str]:
        return [path for _, path, _, _ in self.requests]

    def ranges(self) -> list[str]:
        return [asked for _, _, asked, _ in self.requests if asked]


class Handler(BaseHTTPRequestHandler):
    """Kaggle's API and storage, and figshare's, as far as a download needs them."""

    stand_in: StandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = self._note()
        if self._refuses():
            return
        if path.endswith("DatasetApiService/GetDataset"):
            assert f"{asked['ownerSlug']}/{asked['datasetSlug']}" == SOURCES["br35h"].handle
            self._answer(200, json.dumps({"currentVersionNumber": 7}).encode())
        elif path.endswith("DatasetApiService/DownloadDataset"):
            assert asked["datasetVersionNumber"] == 7
            self._redirect("/storage/archive.zip")
        else:
            self._answer(404, b"{}")

    def do_GET(self) -> None:
        path = self._note()
        if path.startswith("/storage/"):
            self._send_file(self.stand_in.files[path.removeprefix("/storage/")])
        elif self._refuses():
            return
        elif path == "/v2/articles/1512427/files":
            self._answer(200, json.dumps(self.stand_in.listing).encode())
        elif path.startswith("/v2/file/download/"):
            self._redirect(f"/storage/{path.rsplit('/', 1)[-1]}")
        else:
            self._answer(404, b"{}")

    def _note(self) -> str:
        path = urlsplit(self.path).path  # a proxy gets the whole address
        asked = (self.headers["Range"], self.headers["Authorization"])
        self.stand_in.requests.append((self.command, path, *asked))
        return path

    def _refuses(self) -> bool:
        status, body = self.stand_in.status, self.stand_in.body
        if status == 200 and body is None:
            return False
        self._answer(status, body or json.dumps({"code": status, "message": "No."}).encode())
        return True

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _redirect(self, path: str) -> None:
        self.send_response(302)
        self.send_header("Location", f"http://{self.headers['Host']}{path}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_file(self, content: bytes) -> None:
        """Send a file as cloud storage does: ranges, length and checksum."""
        start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        checksum = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        self.send_response(206 if start else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("x-goog-hash", f"crc32c=AAAAAA==,md5={checksum}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        cut, self.stand_in.cut_after = self.stand_in.cut_after, None
        self.wfile.write(content[start:] if cut is None else content[start : start + cut])
        self.close_connection = cut is not None


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """Start a server that kagglehub and figshare's client take for the real ones."""
    state = StandIn()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"stand_in": state}))
    state.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    point_at(state.port, tmp_path, monkeypatch)
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    point_at(port, tmp_path, monkeypatch)


def point_at(port: int, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send both clients to a port, and keep them from this machine's credentials and caches."""
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(home / ".kaggle"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(home / "cache"))
    # kagglesdk then asks http://localhost, whose port is fixed: as its proxy, any port can answer.
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("TUMORAPP_FIGSHARE_URL", f"http://127.0.0.1:{port}/v2")


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (32, 32), shade).save(buffer, "PNG")
    return buffer.getvalue()


MEGABYTE = 1 << 20
BR35H_FILES = {"yes/y1.png": png(200), "no/no1.png": png(100), "pred/pred1.png": png(50)}
BR35H = packed(BR35H_FILES)
LARGE_BR35H = packed(BR35H_FILES | {"annotations.json": bytes(2 * MEGABYTE)})


def matlab(contents: dict[str, np.ndarray]) -> bytes:
    """Write a MATLAB 7.3 file: HDF5 after a header of 512 bytes, arrays column by column."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=512) as file:
        for name, values in contents.items():
            file[name] = values.T
    return buffer.getvalue()


def slice_file(label: int, patient: str, *, left: int = 30, top: int = 8) -> bytes:
    """Draw a slice, 40 high and 64 wide, with a bright tumour 10 wide and 4 high."""
    image = np.full((40, 64), -5, np.int16)
    image[top : top + 4, left : left + 10] = 995
    x, y = np.array([left, left + 10, left + 10, left]), np.array([top, top, top + 4, top + 4])
    return matlab(
        {
            "cjdata/label": np.array([[float(label)]]),
            "cjdata/PID": np.array([[ord(letter) for letter in patient]], np.uint16),
            "cjdata/image": image,
            "cjdata/tumorBorder": np.stack([x, y], axis=1).reshape(-1, 1).astype(np.float64),
            "cjdata/tumorMask": (image > 0).astype(np.uint8),
        }
    )


def folds(*values: int) -> bytes:
    return matlab({"cvind": np.array([values], np.float64).T})


SLICES = {
    "brainTumorDataPublic_1-2.zip": packed(
        {
            "1.mat": slice_file(1, "100360"),
            "2.mat": slice_file(3, "MR017260F"),
            "more.txt": bytes(100_000),  # to break off in
        }
    ),
    "brainTumorDataPublic_3-3.zip": packed({"../../3.mat": slice_file(2, "112649", left=2)}),
    "cvind.mat": folds(5, 1, 3),
    "README.txt": b"Please cite.",
}


def offer_article(stand_in: StandIn, **changed: bytes) -> None:
    for name, content in SLICES.items():
        stand_in.store(name, changed.get(name.split(".")[0], content))


def list_seen(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if not path.name.startswith(".")]


def test_a_set_of_kaggle(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.files["archive.zip"] = BR35H
    folder = fetch("br35h", tmp_path / "data")
    assert folder == tmp_path / "data/br35h"
    assert [(scan.path.name, scan.label) for scan in find_scans(folder)] == [
        ("no1.png", "notumor"),
        ("y1.png", "tumor"),
    ]
    assert (folder / "no/no1.png").read_bytes() == png(100)
    assert list_seen(tmp_path / "data") == ["br35h"]
    assert all(authorization is None for *_, authorization in stand_in.requests)


@pytest.mark.parametrize("name", ["br35h", "figshare"])
def test_a_second_call_asks_nobody(stand_in: StandIn, tmp_path: Path, name: str) -> None:
    stand_in.files["archive.zip"] = BR35H
    offer_article(stand_in)
    fetch(name, tmp_path)
    stand_in.requests.clear()
    assert fetch(name, tmp_path) == tmp_path / name
    assert stand_in.requests == []


def test_a_download_from_kaggle_goes_on_after_a_cut(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.files["archive.zip"] = LARGE_BR35H
    stand_in.cut_after = MEGABYTE + 100
    with pytest.raises(FetchError, match=r"was lost.*continues with what"):
        fetch("br35h", tmp_path)
    assert not (tmp_path / "br35h").exists()
    fetch("br35h", tmp_path)
    assert stand_in.ranges() == [f"bytes={MEGABYTE}-"]  # kagglehub keeps whole megabytes
    assert (tmp_path / "br35h/yes/y1.png").read_bytes() == png(200)


def test_figshare_becomes_pictures_by_class(stand_in: StandIn, tmp_path: Path) -> None:
    offer_article(stand_in)
    folder = fetch("figshare", tmp_path / "data")
    with (folder / "slices.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["label"], row["fold"], row["patient"]) for row in rows] == [
        ("meningioma/1.png", "meningioma", "5", "100360"),
        ("pituitary/2.png", "pituitary", "1", "MR017260F"),
        ("glioma/3.png", "glioma", "3", "112649"),
    ]
    assert rows[0]["border"] == "0.4688 0.2000;0.6250 0.2000;0.6250 0.3000;0.4688 0.3000"
    for row in rows:
        with Image.open(folder / row["file"]) as picture:
            assert (picture.mode, picture.size) == ("L", (64, 40))
            assert picture.getextrema() == (0, 255)
            points = [point.split() for point in row["border"].split(";")]
            x = sum(float(point[0]) for point in points) / len(points) * picture.width
            y = sum(float(point[1]) for point in points) / len(points) * picture.height
            assert picture.getpixel((int(x), int(y))) == 255
    assert list_seen(tmp_path / "data") == ["figshare"]
    assert not list(tmp_path.rglob("3.mat"))


def test_figshare_goes_on_after_a_cut(stand_in: StandIn, tmp_path: Path) -> None:
    offer_article(stand_in)
    stand_in.cut_after = 100_000
    with pytest.raises(FetchError, match="continues with what was downloaded"):
        fetch("figshare", tmp_path)
    assert len(find_scans(fetch("figshare", tmp_path))) == 3
    assert set(stand_in.ranges()) == {"bytes=65536-"}  # asked again after the redirect


def test_figshare_can_be_downloaded_by_hand(no_network: None, tmp_path: Path) -> None:
    with pytest.raises(FetchError) as refusal:
        fetch("figshare", tmp_path)
    by_hand = tmp_path / "figshare.download/1512427.zip"
    assert str(by_hand) in str(refusal.value)
    by_hand.write_bytes(packed(SLICES)[:5000])
    with pytest.raises(FetchError, match="cut short"):
        fetch("figshare", tmp_path)
    by_hand.write_bytes(packed(SLICES))
    assert len(find_scans(fetch("figshare", tmp_path))) == 3


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_say_how_to_get_some(
    stand_in: StandIn, tmp_path: Path, status: int
) -> None:
    stand_in.status = status
    with pytest.raises(FetchError, match="KAGGLE_API_TOKEN") as refusal:
        fetch("br35h", tmp_path)
    message = str(refusal.value)
    assert f"status {status}" in message
    assert "https://www.kaggle.com/settings/api" in message
    assert "~/.kaggle/access_token" in message
    assert f"{SOURCES['br35h'].url}, unpack it and pass the folder to --data" in message


def test_a_malformed_credentials_file_is_named(
    stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle/kaggle.json").write_text("{")
    with pytest.raises(FetchError, match=r"Invalid Kaggle credentials file at .*kaggle\.json"):
        fetch("br35h", tmp_path)


@pytest.mark.parametrize("status", [404, 503])
@pytest.mark.parametrize("name", ["br35h", "figshare"])
def test_other_refusals(stand_in: StandIn, tmp_path: Path, name: str, status: int) -> None:
    stand_in.status = status
    with pytest.raises(FetchError, match=f"status {status}. Try again later"):
        fetch(name, tmp_path)


@pytest.mark.parametrize("body", [b"<html>Sign in</html>", b'{"message": "maintenance"}'])
@pytest.mark.parametrize("name", ["br35h", "figshare"])
def test_an_answer_that_is_not_the_services(
    stand_in: StandIn, tmp_path: Path, name: str, body: bytes
) -> None:
    stand_in.body = body
    with pytest.raises(FetchError, match="by hand"):
        fetch(name, tmp_path)


@pytest.mark.parametrize("name", ["br35h", "figshare"])
def test_no_network(no_network: None, tmp_path: Path, name: str) -> None:
    with pytest.raises(FetchError, match=r"no connection to (localhost|127\.0\.0\.1).*proxy"):
        fetch(name, tmp_path)
    assert not (tmp_path / name).exists()


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"'brats'.*sartaj, nickparvar, .*--data"):
        fetch("brats", tmp_path)


def test_an_archive_that_is_none_is_not_kept(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.files["archive.zip"] = b"not an archive"
    with pytest.raises(FetchError, match="Unsupported archive"):
        fetch("br35h", tmp_path)
    stand_in.files["archive.zip"] = BR35H
    fetch("br35h", tmp_path)


def test_a_set_without_its_classes_is_refused(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.files["archive.zip"] = packed({"yes/1.png": png(1), "glioma/1.png": png(2)})
    with pytest.raises(FetchError, match="no scans of notumor: it holds glioma, tumor"):
        fetch("br35h", tmp_path)


def test_a_wrong_checksum_at_figshare(stand_in: StandIn, tmp_path: Path) -> None:
    offer_article(stand_in)
    last = stand_in.listing[2]
    right, last["computed_md5"] = last["computed_md5"], "0" * 32
    with pytest.raises(FetchError, match=r"cvind\.mat came damaged.*deleted"):
        fetch("figshare", tmp_path)
    last["computed_md5"] = right
    stand_in.requests.clear()
    fetch("figshare", tmp_path)
    downloads = [path for path in stand_in.paths() if "/file/download/" in path]
    assert downloads == [f"/v2/file/download/{last['id']}"]  # the others are not asked for again


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"cvind": folds(1, 1, 1, 2)}, "3 slices came, but cvind.mat has folds for 4"),
        ({"cvind": b"no HDF5"}, "cvind.mat is damaged"),
        ({"brainTumorDataPublic_3-3": b"PK no zip"}, "damaged or cut short"),
        ({"brainTumorDataPublic_3-3": packed({"3.mat": b"no HDF5"})}, "3.mat is damaged"),
        ({"brainTumorDataPublic_3-3": packed({"3.mat": slice_file(4, "1")})}, "3.mat is damaged"),
    ],
)
def test_damaged_slices(
    stand_in: StandIn, tmp_path: Path, changed: dict[str, bytes], words: str
) -> None:
    offer_article(stand_in, **changed)
    with pytest.raises(FetchError, match=words):
        fetch("figshare", tmp_path)
    assert list_seen(tmp_path) == ["figshare.download"]


@pytest.mark.skipif(not FULL_DISK.exists(), reason="no device that is always full")
def test_a_full_disk(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.files["archive.zip"] = BR35H
    archive = tmp_path / f"cache/datasets/{SOURCES['br35h'].handle}/7.archive"
    archive.parent.mkdir(parents=True)
    archive.symlink_to(FULL_DISK)
    with pytest.raises(FetchError, match="cannot be written: No space left on device"):
        fetch("br35h", tmp_path)


def test_a_destination_that_is_a_file(stand_in: StandIn, tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(FetchError, match=r"data cannot be written: "):
        fetch("br35h", tmp_path / "data")
