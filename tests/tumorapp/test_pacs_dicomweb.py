"""Series of a real Orthanc, answered by DICOMweb."""

import contextlib
import http.server
import io
import json
import logging
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
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
from tests.identifiers import FOUND_IN_BYTES, fill
from tests.tumorapp.pacs import ANSWERED, HEAD, Orthanc, start, wait_for
from tests.tumorapp.servers import find_port
from tests.volumes import write_series, write_series_of
from tumorapp import create_app
from tumorapp.pacs import dicomweb
from tumorapp.pacs.worker import hash_uid

Run = Callable[..., Result]

PROJECT = Path(__file__).parents[2]
SAMPLES = PROJECT.parent / "shared" / "samples"


@pytest.fixture
def server(orthanc: Orthanc) -> Iterator[dicomweb.Server]:
    with contextlib.closing(dicomweb.Server(orthanc.web)) as server:
        yield server


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


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
