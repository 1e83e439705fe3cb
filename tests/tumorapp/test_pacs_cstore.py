"""Series that a PACS sends, answered by C-STORE."""

import gc
import io
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from flask import Flask
from pydicom import dcmread

from brainscan import Problem
from tests.tumorapp.pacs import HEAD, IDENTIFIERS, Orthanc, start, wait_for
from tests.tumorapp.servers import find_port
from tests.volumes import write_series
from tumorapp.pacs.cstore import Destination, Folder, Spool, listen
from tumorapp.pacs.worker import State, Worker, hash_uid

# pynetdicom does not close a socket whose other end was closed first.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture(scope="module", autouse=True)
def _clear() -> Iterator[None]:
    yield
    gc.collect()  # those sockets, while their warnings are ignored


def test_a_port_that_is_taken(orthanc: Orthanc, pacs_app: Flask, tmp_path: Path) -> None:
    arguments = ["dicom", "listen", "--port", str(orthanc.dicom_port), "--state", str(tmp_path)]
    result = pacs_app.test_cli_runner().invoke(args=arguments)
    assert result.exit_code == 1
    assert f"127.0.0.1:{orthanc.dicom_port} cannot be listened at: Address" in result.output


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
