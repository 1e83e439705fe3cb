"""A real Orthanc, and what the tests that answer its series share."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import requests
from flask import Flask
from pydicom import Dataset, dcmread

from tests.conftest import draw_head
from tests.tumorapp.servers import find_port

PROJECT = Path(__file__).parents[2]
PLUGINS = Path("/usr/share/orthanc/plugins")
ORTHANC = shutil.which("Orthanc", path=f"{os.environ['PATH']}:/usr/sbin")

# While there is a file next to it, it lets nobody store anything.
LUA = """
function IncomingHttpRequestFilter(method, uri)
  local file = method == "POST" and uri:find("studies") and io.open("%s/refuse")
  if file then file:close() end
  return not file
end
"""

HEAD = np.asarray(draw_head(), np.uint16)[None] * 16
IDENTIFIERS = ("Doe", "Jane", "MRN-4711")
ANSWERED = {"MR": 1, "SR": 1, "SEG": 1, "OT": 1}


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

    def empty(self) -> None:
        for study in self.ask("studies"):
            requests.delete(f"{self.url}/studies/{study}", timeout=10).raise_for_status()

    @contextlib.contextmanager
    def refuse(self) -> Iterator[None]:
        (self.folder / "refuse").touch()
        yield
        (self.folder / "refuse").unlink()


@contextlib.contextmanager
def run_orthanc(folder: Path) -> Iterator[Orthanc]:
    """Run Orthanc as `deploy/orthanc` sets it up; a folder holds what it keeps."""
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
        process.kill()  # to be told to stop, it would take three seconds
        process.wait(30)


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
