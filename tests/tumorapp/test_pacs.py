"""Series of a real Orthanc, answered by DICOMweb and C-STORE."""

import contextlib
import gc
import http.server
import io
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
import requests
from click.testing import Result
from flask import Flask
from pydicom import Dataset, dcmread

from brainscan import Problem
from tests.cards import VERDICTS
from tests.conftest import draw_head
from tests.identifiers import FOUND_IN_BYTES, fill
from tests.volumes import write_series, write_series_of
from tumorapp import create_app
from tumorapp.pacs import dicomweb
from tumorapp.pacs.cstore import Destination, Folder, Spool, listen
from tumorapp.pacs.worker import State, Study, Worker, hash_uid

Run = Callable[..., Result]

PROJECT = Path(__file__).parents[2]
SAMPLES = PROJECT.parent / "shared" / "samples"
PLUGINS = Path("/usr/share/orthanc/plugins")
ORTHANC = shutil.which("Orthanc", path=f"{os.environ['PATH']}:/usr/sbin")

pytestmark = [
    pytest.mark.skipif(
        ORTHANC is None or not list(PLUGINS.glob("*DicomWeb*")),
        reason="Orthanc is not installed: apt-get install orthanc orthanc-dicomweb",
    ),
    # pynetdicom does not close a socket whose other end was closed first.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

# While there is a file next to it, it lets nobody store anything.
LUA = """
function IncomingHttpRequestFilter(method, uri)
  local file = method == "POST" and uri:find("studies") and io.open("%s/refuse")
  if file then file:close() end
  return not file
end
"""


def find_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc."""

    folder: Path
    port: int
    dicom_port: int

    @property
    def url(self) -> str:
        return f"http://tumorapp:secret@127.0.0.1:{self.port}"

    @property
    def web(self) -> str:
        return f"{self.url}/dicom-web"

    def ask(self, path: str) -> Any:
        return requests.get(f"{self.url}/{path}", timeout=10).json()

    def is_ready(self) -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return bool(self.ask("system"))
        return False

    def add(self, *files: bytes) -> None:
        for data in files:
            requests.post(f"{self.url}/instances", data, timeout=10).raise_for_status()

    def count(self, study: str) -> Counter[str]:
        """Count the instances of a study by modality."""
        return Counter(str(one.Modality) for one in self.read(study))

    def find(self, level: str, study: str) -> list[str]:
        """List Orthanc's ids of what it has of a study."""
        query = {"Level": level, "Query": {"StudyInstanceUID": study}}
        found: list[str] = requests.post(f"{self.url}/tools/find", json=query, timeout=10).json()
        return found

    def read(self, study: str) -> list[Dataset]:
        """Read the files of a study."""
        addresses = [f"{self.url}/instances/{one}/file" for one in self.find("Instance", study)]
        answers = [requests.get(address, timeout=10).content for address in addresses]
        return [dcmread(io.BytesIO(answer)) for answer in answers]

    def wait_until_stable(self, *studies: str) -> None:
        ids = [one for study in studies for one in self.find("Study", study)]
        wait_for(lambda: all(self.ask(f"studies/{one}")["IsStable"] for one in ids))

    @contextlib.contextmanager
    def refuse(self) -> Iterator[None]:
        (self.folder / "refuse").touch()
        yield
        (self.folder / "refuse").unlink()


@pytest.fixture(scope="module")
def running_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    folder = tmp_path_factory.mktemp("orthanc")
    running = Orthanc(folder, find_port(), find_port())
    (folder / "filter.lua").write_text(LUA % folder)
    shipped = json.loads((PROJECT / "deploy" / "orthanc" / "orthanc.json").read_text())
    settings = {
        **shipped,
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": running.port,
        "DicomPort": running.dicom_port,
        "RegisteredUsers": {"tumorapp": "secret"},
        "DicomAlwaysAllowStore": True,
        "StableAge": 1,
        "LuaScripts": [str(folder / "filter.lua")],
        "Plugins": [str(PLUGINS)],
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(ORTHANC), folder / "orthanc.json"], stdout=log, stderr=log)
    try:
        wait_for(running.is_ready)
        yield running
    finally:
        gc.collect()  # what is left of pynetdicom's sockets
        process.terminate()
        process.wait(30)


@pytest.fixture
def orthanc(running_orthanc: Orthanc) -> Orthanc:
    """An Orthanc that is empty."""
    for study in running_orthanc.ask("studies"):
        requests.delete(f"{running_orthanc.url}/studies/{study}", timeout=10).raise_for_status()
    return running_orthanc


@pytest.fixture(scope="module")
def pacs_app(tmp_path_factory: pytest.TempPathFactory, publish_model: Callable[..., Path]) -> Flask:
    """An application whose model takes every single slice for a tumour."""
    root = tmp_path_factory.mktemp("models")
    publish_model(root, "mobilenet-v2", **VERDICTS["tumor"])
    return create_app({"MODELS_DIR": root, "JOBS_DIR": root / "jobs"})


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def memory() -> Iterator[State]:
    with contextlib.closing(State(None)) as state:
        yield state


@pytest.fixture
def server(orthanc: Orthanc) -> Iterator[dicomweb.Server]:
    with contextlib.closing(dicomweb.Server(orthanc.web)) as server:
        yield server


@pytest.fixture
def run(pacs_app: Flask, state: Path) -> Run:
    """Run a command of `flask dicomweb` with a state of the test's own."""

    def run(command: str, *more: str, app: Flask = pacs_app) -> Result:
        return app.test_cli_runner().invoke(
            args=["dicomweb", command, "--state", str(state), *more]
        )

    return run


@pytest.fixture
def watch(run: Run, orthanc: Orthanc) -> Run:
    """Run `flask dicomweb watch --once` on Orthanc."""

    def watch(*more: str, url: str = orthanc.web, **options: Flask) -> Result:
        return run("watch", "--url", url, "--once", *more, **options)

    return watch


HEAD = np.asarray(draw_head(), np.uint16)[None] * 16
IDENTIFIERS = ("Doe", "Jane", "MRN-4711")
ANSWERED = {"MR": 1, "SR": 1, "SEG": 1, "OT": 1}


def identify(data: bytes) -> bytes:
    """Give a file identifiers wherever there may be any, but where it says what it belongs to."""
    file, written = dcmread(io.BytesIO(data)), io.BytesIO()
    own = Dataset()
    own.update(file)
    fill(file)
    file.update(own)
    file.save_as(written)
    return written.getvalue()


def test_a_study_is_answered_once(
    orthanc: Orthanc, watch: Run, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    study = "1.2.826.1"
    orthanc.add(
        *map(identify, (*write_series(HEAD, f"{study}.1"), *write_series(HEAD, f"{study}.2")))
    )
    assert watch().exit_code == 0
    assert orthanc.count(study) == {"MR": 2}  # only logged
    for lost in (False, False, True):
        if lost:
            shutil.rmtree(state)  # as after a crash before it was written
        result = watch("--store")
        assert result.exit_code == 0, result.output
        assert orthanc.count(study) == {"MR": 2, "SR": 2, "SEG": 2, "OT": 2}
    assert len(re.findall(f"{hash_uid(study)}.*stored: SEG, OT, SR", caplog.text)) == 3 * 2
    kept = b"".join(file.read_bytes() for file in state.iterdir())
    for identifier in (*FOUND_IN_BYTES, study.encode()):
        assert identifier not in (caplog.text + result.output).encode() + kept


def test_each_version_of_a_model_answers(
    orthanc: Orthanc, watch: Run, tmp_path: Path, publish_model: Callable[..., Path]
) -> None:
    study = "1.2.826.2"
    orthanc.add(*write_series(HEAD, f"{study}.1", StudyDate="20991231"))
    for version in (1, 2):
        publish_model(tmp_path, "mobilenet-v2", **VERDICTS["no-tumor"])
        app = create_app({"MODELS_DIR": tmp_path, "JOBS_DIR": tmp_path / "jobs"})
        result = watch("--store", "--since", "2099-12-31", app=app)
        assert result.exit_code == 0, result.output
        assert orthanc.count(study) == {"MR": 1, "SR": version}


def test_what_cannot_be_answered_is_told_and_the_rest_goes_on(
    orthanc: Orthanc, watch: Run, caplog: pytest.LogCaptureFixture
) -> None:
    ct, mixed = "1.2.826.3", "1.2.826.4"
    orthanc.add(
        *write_series(HEAD, f"{ct}.1", Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    )
    series = {number: f"{mixed}.{number}" for number in range(1, 5)}
    [other_plane] = write_series(HEAD, series[4], directions=(1, 0, 0, 0, 0, -1))
    orthanc.add(
        *write_series(HEAD, series[1], BodyPartExamined="KNEE"),
        *write_series(np.zeros_like(HEAD), series[2]),
        *write_series(HEAD, series[3]),
        *write_series(HEAD, series[4]),
        other_plane.replace(f"{series[4]}.1".encode(), f"{series[4]}.2".encode()),
    )
    orthanc.wait_until_stable(ct, mixed)
    result = watch("--store", "--changes", orthanc.url)
    assert result.exit_code == 0, result.output
    told = {
        series: re.findall(f"series {hash_uid(series)}: (.*)", caplog.text)
        for series in (f"{ct}.1", *series.values())
    }
    codes = [line.rpartition(" ")[2] for lines in told.values() for line in lines]
    assert codes[:3] == ["not-mr", "not-a-head", "blank-image"]
    assert [len(lines) for lines in told.values()] == [1, 1, 1, 1, 2]  # two planes, two answers
    assert orthanc.count(ct) == {"CT": 1}
    assert orthanc.count(mixed) == {"MR": 5, "SR": 3, "SEG": 3, "OT": 3}
    assert watch("--store", "--changes", orthanc.url).exit_code == 0
    assert orthanc.count(mixed) == {"MR": 5, "SR": 3, "SEG": 3, "OT": 3}


@pytest.mark.parametrize("by_feed", [False, True])
def test_what_is_refused_is_kept_and_sent_again(
    orthanc: Orthanc, watch: Run, run: Run, by_feed: bool
) -> None:
    study = "1.2.826.5"
    orthanc.add(*write_series(HEAD, f"{study}.1"))
    orthanc.wait_until_stable(study)
    options = ("--store", *(("--changes", orthanc.url) if by_feed else ()))
    with orthanc.refuse():
        result = watch(*options)
    assert result.exit_code == 1
    assert "Studies that failed: 1" in result.output
    listed = run("failures").output
    assert listed.startswith(f"{hash_uid(study)}  mobilenet-v2/1  pacs-refused  attempts: 1")
    assert orthanc.count(study) == {"MR": 1}
    assert watch(*options).exit_code == 0
    assert orthanc.count(study) == ANSWERED
    assert run("failures").output == ""


@pytest.mark.skipif(not SAMPLES.exists(), reason="needs the samples")
def test_real_heads(orthanc: Orthanc, watch: Run, tmp_path: Path) -> None:
    healthy = [file.read_bytes() for file in SAMPLES.glob("dicom/healthy_head_*.dcm")]
    glioma = write_series_of(SAMPLES / "nifti" / "btp_02_t1post.nii.gz", "1.2.826.14.1")
    orthanc.add(*healthy, *glioma)
    result = watch("--store", app=create_app({"JOBS_DIR": tmp_path / "jobs"}))
    assert result.exit_code == 0, result.output
    assert orthanc.count("1.2.826.14") == {**ANSWERED, "MR": len(glioma)}
    study = dcmread(io.BytesIO(healthy[0])).StudyInstanceUID
    assert orthanc.count(study) == {"MR": len(healthy), "SR": 1}
    read = {one.Modality: one for one in orthanc.read("1.2.826.14") if one.Modality != "MR"}
    report = highdicom.sr.ComprehensiveSR.from_dataset(read["SR"])
    [whole] = report.content.get_volumetric_roi_measurement_groups()
    referred = whole.referenced_segment.referenced_sop_instance_uid
    assert referred == read["SEG"].SOPInstanceUID


def test_some_objects_are_refused(server: dicomweb.Server) -> None:
    files = [write_series(HEAD, f"{study}.1")[0] for study in ("1.2.826.11", "1.2.826.12")]
    objects = [dcmread(io.BytesIO(file)) for file in files]
    with pytest.raises(Problem) as raised:
        server.store(objects)  # of two studies, which no PACS accepts
    assert raised.value.code == "store-refused"
    assert raised.value.message.values == {"refused": 1, "objects": 2, "reason": "0x0110"}


class Faulty(http.server.BaseHTTPRequestHandler):
    """A proxy in front of Orthanc that answers badly when it is asked for a series, or to store."""

    orthanc = ""
    fault = ""

    def do_GET(self) -> None:
        wanted = {"Accept": self.headers["Accept"]}
        answer = requests.get(self.orthanc + self.path, headers=wanted, timeout=10)
        body = answer.content
        if self.path.endswith("/series/1.2.826.6.1"):
            if self.fault == "silent":
                time.sleep(1)
            elif self.fault == "cut":
                body = body[: len(body) // 2]
            elif self.fault == "fewer":
                first, _, rest = body.partition(b"\r\n--")
                body = first + b"\r\n--" + rest.partition(b"\r\n")[0] + b"--\r\n"
        self.answer(answer.status_code, answer.headers["Content-Type"], body)

    def do_POST(self) -> None:
        """Say what Azure does of what it has already."""
        self.rfile.read(int(self.headers["Content-Length"]))
        failed = {"00081197": {"vr": "US", "Value": [45070]}}
        body = {"00081198": {"vr": "SQ", "Value": [failed]}}
        self.answer(409, "application/dicom+json", json.dumps(body).encode())

    def answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):
            self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def faulty(orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of such a proxy."""
    monkeypatch.setattr(Faulty, "orthanc", orthanc.url)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Faulty) as proxy:
        threading.Thread(target=proxy.serve_forever).start()
        yield f"http://127.0.0.1:{proxy.server_port}/dicom-web"
        proxy.shutdown()


@pytest.mark.parametrize(
    ("fault", "code"),
    [("silent", "pacs-no-answer"), ("cut", "pacs-no-answer"), ("fewer", "incomplete-series")],
)
def test_a_server_that_times_out_or_answers_half(
    orthanc: Orthanc,
    faulty: str,
    watch: Run,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: str,
    code: str,
) -> None:
    study = "1.2.826.6"
    orthanc.add(*write_series(np.repeat(HEAD, 2, 0), f"{study}.1"))
    orthanc.add(*write_series(HEAD, f"{study}.2"))
    monkeypatch.setattr(dicomweb, "_TIMEOUT", (5, 0.5))
    monkeypatch.setattr(Faulty, "fault", fault)
    assert watch(url=faulty).exit_code == 1
    assert f"{hash_uid(f'{study}.1')}: failed, {code}" in caplog.text
    assert f"{hash_uid(f'{study}.2')}: tumor" in caplog.text


def test_what_is_there_already_is_not_refused(faulty: str) -> None:
    [file] = write_series(HEAD, "1.2.826.6.2")
    with contextlib.closing(dicomweb.Server(faulty)) as server:
        server.store([dcmread(io.BytesIO(file))])


def test_a_port_that_is_taken(orthanc: Orthanc, pacs_app: Flask, state: Path) -> None:
    arguments = ["dicom", "listen", "--port", str(orthanc.dicom_port), "--state", str(state)]
    result = pacs_app.test_cli_runner().invoke(args=arguments)
    assert result.exit_code == 1
    assert f"127.0.0.1:{orthanc.dicom_port} cannot be listened at: Address" in result.output


def test_no_server(watch: Run) -> None:
    result = watch(url=f"http://127.0.0.1:{find_port()}/dicom-web")
    assert result.exit_code == 1
    assert "The PACS gave no usable answer (ConnectionError)" in result.output
    result = watch(url=f"http://user:secret@127.0.0.1:{find_port()}/dicom-web")
    assert "secret" not in result.output


def test_a_study_is_taken_once_it_no_longer_grows(
    orthanc: Orthanc, server: dicomweb.Server
) -> None:
    study = "1.2.826.7"
    first, second = write_series(np.repeat(HEAD, 2, 0), f"{study}.1", StudyDate="21000101")
    search = dicomweb.Search(server, date(2100, 1, 1), at_once=False)
    orthanc.add(first)
    assert [*search.find("model/1")] == []
    orthanc.add(second)
    assert [*search.find("model/1")] == []
    [found] = search.find("model/1")
    assert found.key == hash_uid(study)
    found.settle()
    assert [*search.find("model/1")] == []
    assert len([*search.find("model/2")]) == 1


def test_what_fails_waits_twice_as_long_each_time(
    memory: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, now = memory, 1000.0
    monkeypatch.setattr(time, "time", lambda: now)
    waits = []
    for _ in range(14):
        state.fail("study", "model/1", "store-refused")
        [failure] = state.list_failures()
        waits.append(failure.due - now)
    assert waits[:4] == [60, 120, 240, 480]
    assert waits[-1] == 24 * 3600
    assert not state.is_due("study", "model/1")
    assert state.is_due("study", "model/2")
    now += 25 * 3600
    assert state.is_due("study", "model/1")


def test_a_pacs_that_does_not_answer_is_asked_less_often(
    pacs_app: Flask, memory: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nowhere:
        def find(self, _: str) -> list[Study]:
            raise Problem("pacs-no-answer", reason="ConnectionError")

    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    worker = Worker(pacs_app.extensions["catalog"].get, memory, None, 10**7)
    with pytest.raises(KeyboardInterrupt):
        worker.run(Nowhere(), every=10)
    assert pauses == [20, 40, 80, 160, 300, 300]


@contextlib.contextmanager
def start(app: Flask, log: Path, *arguments: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of `flask` until it is left."""
    environment = {**os.environ, "TUMORAPP_MODELS_DIR": str(app.config["MODELS_DIR"])}
    command = [sys.executable, "-m", "flask", "--app", "wsgi", *map(str, arguments)]
    with log.open("ab") as file:
        process = subprocess.Popen(command, cwd=PROJECT, env=environment, stderr=file)
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


def wait_for(true: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_it_is_killed_and_goes_on(
    orthanc: Orthanc, pacs_app: Flask, watch: Run, state: Path, tmp_path: Path
) -> None:
    study, log = "1.2.826.8", tmp_path / "log"
    for number in range(5):
        orthanc.add(*write_series(HEAD, f"{study}.{number}"))
    options = ("--url", orthanc.web, "--state", state, "--store")
    with start(pacs_app, log, "dicomweb", "watch", *options, "--every", 0.1) as process:
        wait_for(lambda: "stored: SEG" in log.read_text())
        process.send_signal(signal.SIGKILL)
    assert watch("--store").exit_code == 0
    assert orthanc.count(study) == dict.fromkeys(("MR", "SR", "SEG", "OT"), 5)


@pytest.mark.slow
def test_a_destination_of_a_pacs(orthanc: Orthanc, pacs_app: Flask, tmp_path: Path) -> None:
    study, log, port = "1.2.826.9", tmp_path / "log", find_port()
    state, back = tmp_path / "state", f"ORTHANC@127.0.0.1:{orthanc.dicom_port}"
    orthanc.add(*write_series(HEAD, f"{study}.1"), *write_series(HEAD, f"{study}.2"))
    modality = {"AET": "TUMORAPP", "Host": "127.0.0.1", "Port": port}
    requests.put(f"{orthanc.url}/modalities/tumorapp", json=modality, timeout=10)
    options = ("--port", port, "--send", back, "--quiet", 0.5, "--state", state)
    with start(pacs_app, log, "dicom", "listen", *options):
        wait_for(lambda: "listens at" in log.read_text())
        requests.post(
            f"{orthanc.url}/modalities/tumorapp/echo", "{}", timeout=10
        ).raise_for_status()
        [found] = orthanc.find("Study", study)
        sent = requests.post(f"{orthanc.url}/modalities/tumorapp/store", found, timeout=30)
        assert sent.json()["FailedInstancesCount"] == 0
        wait_for(lambda: log.read_text().count("stored: SEG, OT, SR") == 2)
        wait_for(lambda: not [*(state / "received").iterdir()])
    assert orthanc.count(study) == {"MR": 2, "SR": 2, "SEG": 2, "OT": 2}
    assert not [one for one in (*IDENTIFIERS, study) if one in log.read_text()]


def test_what_is_received_is_kept_until_it_is_answered(
    pacs_app: Flask, memory: State, tmp_path: Path
) -> None:
    study, port = "1.2.826.10", find_port()
    spool, state = Spool(tmp_path / "received", quiet=0), memory
    model = pacs_app.extensions["catalog"].get()
    half = spool.folder / hash_uid(study) / ".half.dcm-1"
    half.parent.mkdir(parents=True)
    half.touch()
    with listen(spool, "TUMORAPP", "127.0.0.1", port):
        for name, data in enumerate(write_series(np.repeat(HEAD, 2, 0), f"{study}.1")):
            (tmp_path / f"{name}.dcm").write_bytes(data)
            command = ["storescu", "-aec", "TUMORAPP", "127.0.0.1", str(port)]
            subprocess.run([*command, tmp_path / f"{name}.dcm"], check=True)
    [folder] = spool.folder.iterdir()
    assert (folder.name, len([*folder.iterdir()])) == (hash_uid(study), 2)
    answers = Folder(tmp_path / "out")
    answers.path.touch()  # where a folder should be
    worker = Worker(lambda: model, state, answers.store, 10**7)
    assert worker.run_once(spool) == 1
    assert state.list_failures()[0].code == "store-refused"
    assert len([*folder.iterdir()]) == 2
    answers.path.unlink()
    assert worker.run_once(spool) == 0
    assert (state.list_failures(), [*spool.folder.iterdir()]) == ([], [])
    written = [dcmread(file).Modality for file in answers.path.iterdir()]
    assert "SR" in written
    names = " ".join(str(file) for file in tmp_path.rglob("*"))
    assert not [one for one in (*IDENTIFIERS, study) if one in names]


def test_a_destination_that_does_not_answer(orthanc: Orthanc) -> None:
    [file] = write_series(HEAD, "1.2.826.13.1")
    http = Destination("NOBODY", "127.0.0.1", orthanc.port, "TUMORAPP")
    with pytest.raises(Problem) as raised:
        http.store([dcmread(io.BytesIO(file))])
    assert raised.value.code == "pacs-no-answer"


@pytest.mark.parametrize("text", ["nobody", "A@b", "a\\b@c:1", f"{'A' * 17}@b:1"])
def test_a_destination_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="Give AET@HOST:PORT"):
        Destination.read(text, "TUMORAPP")
