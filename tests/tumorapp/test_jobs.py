"""Jobs: the API against an application of its own, and what they survive against gunicorn."""

import csv
import io
import json
import os
import re
import signal
import sqlite3
import struct
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from brainscan import ImageFile, Model, ScanError
from tests.volumes import pack, write_slices
from tumorapp import create_app
from tumorapp.client import Client, Failure, Prediction, ProblemError
from tumorapp.jobs import api, runner
from tumorapp.jobs.files import create_images, hold
from tumorapp.jobs.job import Scan
from tumorapp.jobs.material import Limits, MaterialReader
from tumorapp.jobs.runner import Jobs
from tumorapp.jobs.store import Store

Serve = Callable[..., AbstractContextManager[Any]]
Form = Callable[..., dict[str, Any]]

LIMITS = Limits(bytes=2**20, images=10, image_bytes=2**19)


def patch(archive: bytes, offset: int, value: bytes) -> bytes:
    """Change the first entry of an archive's directory at an offset."""
    start = archive.index(b"PK\x01\x02") + offset
    return archive[:start] + value + archive[start + len(value) :]


@pytest.fixture
def app(models_dir: Path, tmp_path: Path) -> Iterator[Flask]:
    settings = {"MAX_JOB_MB": 1, "MAX_JOB_IMAGES": 10, "MAX_JOBS": 2, "MAX_PIXELS": 100_000}
    app = create_app({"MODELS_DIR": models_dir, "JOBS_DIR": tmp_path / "jobs", **settings})
    yield app
    app.extensions["jobs"].close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def jobs(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """Give the jobs of the application, which wait for `jobs.run_next()`: no thread runs them."""
    jobs: Jobs = app.extensions["jobs"]
    monkeypatch.setattr(jobs, "start", lambda: None)
    return jobs


def send(client: FlaskClient, *entries: tuple[str, bytes]) -> dict[str, Any]:
    return accept(client.post("/api/jobs", data=pack(*entries), content_type="application/zip"))


def accept(response: TestResponse) -> dict[str, Any]:
    assert response.status_code == 202, response.get_data(as_text=True)
    job = response.get_json()
    assert response.headers["Location"] == job["links"]["self"]
    return job


def show(client: FlaskClient, job: dict[str, Any]) -> dict[str, Any]:
    return client.get(job["links"]["self"]).get_json()


def results(client: FlaskClient, job: dict[str, Any]) -> list[dict[str, Any]]:
    return client.get(job["links"]["results"]).get_json()["predictions"]


def list_uploads(jobs: Jobs) -> set[str]:
    return {path.stem for path in jobs.store.place.glob("*.upload")}


def test_a_zip_with_a_bad_file_between(client: FlaskClient, jobs: Jobs, scan: bytes) -> None:
    job = send(
        client,
        ("patient/1/a.jpg", scan),
        ("notes\u202e.txt", b"no image"),
        ("patient/", b""),
        ("../../b.jpg", scan),
        ("__MACOSX/patient/1/._a.jpg", b"hidden"),
        (".DS_Store", b"hidden"),
    )
    assert (job["state"], job["total"], job["finished"]) == ("waiting", 3, None)
    assert jobs.run_next()
    job = show(client, job)
    assert (job["state"], job["done"], job["failed"]) == ("done", 3, 1)
    first, bad, last = results(client, job)
    alone = client.post("/api/predict", data=scan, content_type="image/jpeg").get_json()
    assert first == alone["predictions"][0] | {"filename": "patient/1/a.jpg"}
    assert last == first | {"filename": "../../b.jpg"}
    assert bad["filename"] == "notes\ufffd.txt"
    assert bad["error"]["code"] == "not-an-image"
    assert list_uploads(jobs) == set()


def test_a_form_of_many_images_for_a_named_model(
    client: FlaskClient, jobs: Jobs, draw_scan: Callable[..., bytes], form: Form
) -> None:
    scans = [draw_scan("PNG", spot=0.3 + index * 0.05) for index in range(7)]
    sent = form(
        ("model", None, b"binary-cnn"),
        *(("image", f"{index}.png", data) for index, data in enumerate(scans[:5])),
        *((name, f"{n}.png", scans[n]) for n, name in ((5, "image[]"), (6, "file"))),
        ("file", "large.png", draw_scan("PNG", width=400, height=400)),
        ("image", "", b""),
    )
    job = accept(client.post("/api/jobs", **sent))
    assert (job["model"], job["version"], job["total"]) == ("binary-cnn", "1", 8)
    assert jobs.run_next()
    *found, last = results(client, job)
    for index, (data, one) in enumerate(zip(scans, found, strict=True)):
        alone = client.post("/api/predict?model=binary-cnn", data=data, content_type="image/png")
        [expected] = alone.get_json()["predictions"]
        assert one["filename"] == f"{index}.png"
        assert one["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
    assert last["error"]["code"] == "image-too-large"


def test_an_archive_as_a_part(client: FlaskClient, jobs: Jobs, scan: bytes, form: Form) -> None:
    sent = form(("archive", "scans.zip", pack(("a.jpg", scan))))
    job = accept(client.post("/api/jobs?model=binary-cnn", **sent))
    assert jobs.run_next()
    assert [one["filename"] for one in results(client, job)] == ["a.jpg"]


@pytest.mark.parametrize(
    ("query", "headers"), [("?format=csv", {}), ("", {"Accept": "text/csv"})], ids=["query", "type"]
)
def test_results_as_csv(
    client: FlaskClient, jobs: Jobs, scan: bytes, query: str, headers: dict[str, str]
) -> None:
    job = send(client, ('a,"b".jpg', scan), ("bad.txt", b"?"))
    assert jobs.run_next()
    response = client.get(job["links"]["results"] + query, headers=headers)
    assert response.mimetype == "text/csv"
    good, bad = csv.DictReader(io.StringIO(response.get_data(as_text=True)))
    [expected, _] = results(client, job)
    assert (good["file"], good["label"]) == ('a,"b".jpg', expected["label"])
    assert good["verdict"] == expected["verdict"]
    assert float(good["p_glioma"]) == expected["probabilities"]["glioma"]
    assert (bad["file"], bad["label"]) == ("bad.txt", "")
    assert bad["codes"] == "not-an-image"
    assert client.get(job["links"]["results"] + "?format=xml").status_code == 400


class TestSeries:
    """The files of a series have one result together, whenever they came."""

    def test_in_the_place_of_its_first_file(
        self, client: FlaskClient, jobs: Jobs, scan: bytes
    ) -> None:
        slices, other = write_slices([3, 1, 2]), write_slices([1, 2], "1.9")
        names = ["a/0", "b/0", "a/1", "s.jpg", "a/2", "b/1", "bad"]
        data = [slices[0], other[0], slices[1], scan, slices[2], other[1], b"?"]
        job = send(client, *zip(names, data, strict=True))
        assert jobs.run_next()
        job = show(client, job)
        assert (job["total"], job["done"], job["failed"]) == (7, 7, 1)
        found = results(client, job)
        assert [one["filename"] for one in found] == ["a", "b", "s.jpg", "bad"]
        assert [one["position_mm"] for one in found[0]["slices"]] == [1, 2, 3]
        lines = client.get(job["links"]["results"] + "?format=ndjson").text.splitlines()
        assert [json.loads(line)["filename"] for line in lines] == ["a", "b", "s.jpg", "bad"]
        table = client.get(job["links"]["results"] + "?format=csv").text
        rows = list(csv.DictReader(io.StringIO(table)))
        assert [row["slice"] for row in rows] == ["", "0", "1", "2", "", "0", "1", "", ""]
        assert [row["slices"] for row in rows if not row["slice"]] == ["3", "2", "", ""]
        assert rows[1]["position_mm"] == "1.0"
        assert {row["file"] for row in rows[:4]} == {"a"}

    def test_it_is_neither_lost_nor_doubled_by_a_restart(
        self, client: FlaskClient, jobs: Jobs, scan: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slices = write_slices([1, 2, 3])
        job = send(client, ("s.jpg", scan), *((f"a/{n}", one) for n, one in enumerate(slices)))

        def stop_at_second(reader: MaterialReader, wanted: Scan) -> Any:
            names.append(wanted.name)
            if names.count("a/1") == 2:  # the first time, its header was looked into
                jobs._stopping.set()
            return read(reader, wanted)

        names: list[str] = []
        read = MaterialReader.read
        monkeypatch.setattr(MaterialReader, "read", stop_at_second)
        assert jobs.run_next()
        assert show(client, job)["done"] == 0  # they are one batch
        monkeypatch.undo()
        jobs._stopping.clear()
        assert jobs.run_next()
        picture, series = results(client, job)
        assert (picture["filename"], len(series["slices"])) == ("s.jpg", 3)

    def test_a_series_that_kills_every_worker_is_given_up_at_once(
        self, client: FlaskClient, jobs: Jobs
    ) -> None:
        slices = write_slices([1, 2, 3])
        job = send(client, *((f"a/{n}", one) for n, one in enumerate(slices)))
        jobs.store.group(job["id"], {0: 0, 1: 0, 2: 0})
        for _ in range(runner.MOST_STARTS):
            jobs.store.start(job["id"], job["version"], again=False)
        assert jobs.run_next()
        [given_up] = results(client, job)
        assert given_up["error"]["code"] == "given-up"


class TestStream:
    """Results as NDJSON, which come while the job runs."""

    @pytest.fixture
    def pass_time(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        """Let these happen, one after another, where the stream waits for more."""

        def prepare(*steps: Callable[[], object]) -> None:
            turns = iter(steps)
            clock = {**vars(time), "sleep": lambda _: next(turns)()}
            monkeypatch.setattr(api, "time", SimpleNamespace(**clock))

        return prepare

    @staticmethod
    def read(client: FlaskClient, job: dict[str, Any]) -> list[Any]:
        response = client.get(job["links"]["results"] + "?format=ndjson")
        assert response.mimetype == "application/x-ndjson"
        assert response.headers["X-Accel-Buffering"] == "no"
        return [line and json.loads(line) for line in response.text.splitlines()]

    def test_a_line_for_each_result(self, client: FlaskClient, jobs: Jobs, scan: bytes) -> None:
        job = send(client, ("a.jpg", scan), ("notes.txt", b"?"), ("b.jpg", scan))
        assert jobs.run_next()
        found = self.read(client, job)
        model = {"model": "mobilenet-v2", "version": "1"}
        assert found == [{**model, **one} for one in results(client, job)]
        accepted = {"Accept": "application/x-ndjson"}
        assert len(client.get(job["links"]["results"], headers=accepted).text.splitlines()) == 3

    def test_they_come_while_it_runs(
        self,
        client: FlaskClient,
        jobs: Jobs,
        scan: bytes,
        pass_time: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(api, "SECONDS_OF_SILENCE", 0)
        job = send(client, ("a.jpg", scan), ("b.jpg", scan))
        other = {"filename": "a.jpg", "label": "made up"}
        pass_time(
            lambda: jobs.store.save(job["id"], {0: [other]}),
            lambda: None,
            lambda: change(jobs, "update job set version = '0'"),
            jobs.run_next,  # by version 1, and from the first file on
        )
        lines = self.read(client, job)
        assert lines[0] == ""  # nothing yet
        found = [line for line in lines if line]
        assert found[0] == {"model": "mobilenet-v2", "version": "1", **other}
        seen = [(one["version"], one["filename"]) for one in found]
        assert seen == [("1", "a.jpg"), ("0", "a.jpg"), ("1", "a.jpg"), ("1", "b.jpg")]

    def test_why_there_are_no_more(
        self, client: FlaskClient, jobs: Jobs, scan: bytes, pass_time: Callable[..., None]
    ) -> None:
        job = send(client, ("a.jpg", scan))
        next(jobs.store.place.glob("*.upload")).unlink()
        pass_time(jobs.run_next)
        [failed] = self.read(client, job)
        assert failed["error"]["code"] == "job-images-missing"
        erased = send(client, ("a.jpg", scan))
        pass_time(lambda: client.delete(erased["links"]["self"]))
        [gone] = self.read(client, erased)
        assert gone["error"]["code"] == "unknown-job"
        broken = send(client, ("a.jpg", scan))
        pass_time(lambda: (jobs.store.file.unlink(), jobs.store.file.mkdir()))
        [unavailable] = self.read(client, broken)
        assert unavailable["error"]["code"] == "jobs-unavailable"

    @pytest.mark.slow
    def test_the_client_reads_it(self, service: Any, archive: Path) -> None:
        with Client(service.url) as client:
            job = client.submit_archive(archive)
            found = client.stream(job)
            first = next(found)
            assert not client.job(job.id).ended
            names = [first.filename, *(one.filename for one in found)]
            assert names == [f"{number:02}.png" for number in range(SCANS)]
            assert client.job(job.id).ended
            client.erase(job)
            with pytest.raises(ProblemError, match="no such job"):
                next(client.stream(job))


def test_erased_when_its_owner_says_so(client: FlaskClient, jobs: Jobs, scan: bytes) -> None:
    job = send(client, ("a.jpg", scan))
    [upload] = jobs.store.place.glob("*.upload")
    assert upload.stat().st_mode & 0o777 == 0o600
    assert upload.parent.stat().st_mode & 0o777 == 0o700
    early = client.get(job["links"]["results"])
    assert (early.status_code, early.headers["Retry-After"]) == (409, "1")
    assert client.delete(job["links"]["self"]).status_code == 204
    assert not upload.exists()
    for path in job["links"].values():
        assert client.get(path).status_code == 404
    assert client.delete(job["links"]["self"]).status_code == 404


def test_erased_while_it_runs(
    client: FlaskClient, jobs: Jobs, scan: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = send(client, *((f"{n}.jpg", scan) for n in range(5)))
    predicted = []

    def erase_and_conclude(*arguments: Any, **options: Any) -> Any:
        client.delete(job["links"]["self"])
        found = conclude(*arguments, **options)
        predicted.extend(found)
        return found

    conclude = Model.conclude
    monkeypatch.setattr(Model, "conclude", erase_and_conclude)
    assert jobs.run_next()
    assert len(predicted) == runner.BATCH
    assert jobs.store.find(job["id"]) is None
    assert list_uploads(jobs) == set()


def test_only_so_many_at_once(client: FlaskClient, jobs: Jobs, scan: bytes) -> None:
    first, second = (send(client, ("a.jpg", scan)) for _ in range(2))
    refused = client.post("/api/jobs", data=pack(("a", b"x")), content_type="application/zip")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "10")
    assert refused.mimetype == "application/problem+json"
    assert list_uploads(jobs) == {first["id"], second["id"]}
    client.delete(first["links"]["self"])
    send(client, ("a.jpg", scan))


ONE = pack(("a.jpg", b"x"))


@pytest.mark.parametrize(
    ("archive", "status", "code"),
    [
        (b"", 422, "unreadable-archive"),
        (pack(("folder/", b""), (".hidden", b"x")), 422, "empty-archive"),
        (patch(ONE, 8, b"\x01"), 422, "encrypted-archive"),
        (pack(("a.jpg", b"x"), method=zipfile.ZIP_LZMA), 422, "unsupported-archive"),
        (pack(*((f"{n}.jpg", b"x") for n in range(11))), 413, "job-too-large"),
        (patch(ONE, 24, struct.pack("<I", 2**31)), 413, "job-too-large"),
        (pack(*((f"{n}/", b"") for n in range(2000))), 413, "job-too-large"),
        (bytes(2**20 + 1), 413, "job-too-large"),
    ],
    ids=range(8),
)
def test_archives_that_are_refused(
    client: FlaskClient, jobs: Jobs, archive: bytes, status: int, code: str
) -> None:
    response = client.post("/api/jobs", data=archive, content_type="application/zip")
    assert response.status_code == status
    assert response.mimetype == "application/problem+json"
    assert response.get_json()["code"] == code
    assert list_uploads(jobs) == set()


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([], 400),
        ([("archive", "a.zip", ONE), ("image", "b.jpg", b"x")], 400),
        ([("image", "a.jpg", b"x"), ("heatmap", None, b"1")], 400),
        ([("image", "a.jpg", b"x"), ("colour", None, b"red")], 400),
        ([("image", "a.jpg", b"x"), ("model", None, b"vgg")], 404),
        ([("image", "a.jpg", b"x")] * 11, 413),
        ([("image", "a.jpg", bytes(2**20))], 413),
    ],
)
def test_forms_that_are_refused(
    client: FlaskClient, jobs: Jobs, form: Form, parts: Any, status: int
) -> None:
    response = client.post("/api/jobs", **form(*parts))
    assert response.status_code == status, response.get_data(as_text=True)
    assert list_uploads(jobs) == set()


def test_bodies_of_another_type_are_refused(client: FlaskClient) -> None:
    response = client.post("/api/jobs", data=b"x", content_type="image/jpeg")
    assert (response.status_code, response.get_json()["code"]) == (415, "unsupported-body")


def test_an_entry_larger_than_an_image_may_be_is_never_unpacked() -> None:
    file = io.BytesIO(pack(("a.bmp", bytes(2**19 + 1)), ("b.bmp", bytes(100))))
    reader = MaterialReader(file, archive=True, limits=LIMITS)
    large = reader.read(Scan("a.bmp", 0, 2**19 + 1))
    assert isinstance(large, ScanError)
    assert "is 0.5 MB" in str(large)
    small = reader.read(Scan("b.bmp", 1, 100))
    assert isinstance(small, ImageFile)
    assert small.data == bytes(100)


def change(jobs: Jobs, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(jobs.store.file)) as database, database:
        database.execute(statement, values)


def test_what_is_old_goes(
    client: FlaskClient, jobs: Jobs, scan: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, kept = (send(client, ("a.jpg", scan)) for _ in range(2))
    change(jobs, "update job set created = created - 25 * 3600 where id = ?", old["id"])
    (jobs.store.place / "stray.upload").write_bytes(b"left by a worker that died")
    (jobs.store.place / "stray.lock").touch()
    with create_images(jobs.store.place) as (arriving, _):
        jobs.store.sweep(runner.MOST_KEPT)
        assert list_uploads(jobs) == {kept["id"], arriving}
    jobs.store.sweep(runner.MOST_KEPT)  # what arrived was not accepted
    assert list_uploads(jobs) == {kept["id"]}
    assert list(jobs.store.place.glob("*.lock")) == []
    assert client.get(old["links"]["self"]).status_code == 404
    # Of those that ended, the newest stay.
    newest = send(client, ("a.jpg", scan))
    assert jobs.run_next()
    assert jobs.run_next()
    monkeypatch.setattr(runner, "MOST_KEPT", 1)
    jobs.store.sweep(runner.MOST_KEPT)
    assert client.get(kept["links"]["self"]).status_code == 404
    assert show(client, newest)["state"] == "done"


def test_a_worker_leaves_the_job_that_another_runs(
    client: FlaskClient, jobs: Jobs, scan: bytes
) -> None:
    first, second = (send(client, ("a.jpg", scan)) for _ in range(2))
    with hold(jobs.store.place, first["id"]):
        assert jobs.run_next()
        assert not jobs.run_next()
        assert [show(client, job)["state"] for job in (first, second)] == ["waiting", "done"]
    assert jobs.run_next()
    assert show(client, first)["state"] == "done"


def test_a_scan_that_kills_every_worker_is_given_up(
    client: FlaskClient, jobs: Jobs, scan: bytes
) -> None:
    job = send(client, ("deadly.jpg", scan), ("a.jpg", scan))
    for _ in range(runner.MOST_STARTS):
        jobs.store.start(job["id"], job["version"], again=False)
    assert jobs.run_next()
    deadly, good = results(client, job)
    assert deadly["error"]["code"] == "given-up"
    assert good["label"]


def test_a_job_is_of_one_version(client: FlaskClient, jobs: Jobs, scan: bytes) -> None:
    job = send(client, ("a.jpg", scan))
    error = {"code": "given-up", "detail": "By version 0."}
    jobs.store.save(job["id"], {0: [{"filename": "a.jpg", "error": error}]})
    change(jobs, "update job set version = '0'")
    assert jobs.run_next()
    job = show(client, job)
    assert (job["version"], job["failed"]) == ("1", 0)


def test_a_full_disk_is_logged_once_and_jobs_go_on_after_it(
    app: Flask,
    client: FlaskClient,
    scan: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures: list[str] = []
    full = threading.Event()
    full.set()

    def fail_first(method: Callable[..., Any]) -> Callable[..., Any]:
        def fail(*values: Any) -> Any:
            if full.is_set():
                failures.append(method.__name__)
                raise sqlite3.OperationalError("database or disk is full")
            return method(*values)

        return fail

    for name in ("save", "finish"):
        monkeypatch.setattr(Store, name, fail_first(getattr(Store, name)))
    monkeypatch.setattr(runner, "_SECONDS_AFTER_A_FAULT", 0.01)
    monkeypatch.setattr(runner, "_SECONDS_BETWEEN_LOOKS", 0.01)
    job = send(client, ("a.jpg", scan))
    deadline = time.monotonic() + 30
    while len(failures) < 2 * runner.MOST_STARTS:
        with hold(app.config["JOBS_DIR"], job["id"], wait=True):  # another worker tries as well
            time.sleep(0.05)
        assert time.monotonic() < deadline
        time.sleep(0.1)
    full.clear()
    while (found := show(client, job))["finished"] is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (found["state"], found["failed"]) == ("done", 0)
    assert [record.levelname for record in caplog.records if "full" in record.message] == ["ERROR"]


@pytest.mark.parametrize("gone", ["model", "images"])
def test_a_job_fails_whose_model_or_images_are_gone(
    client: FlaskClient, jobs: Jobs, scan: bytes, gone: str
) -> None:
    job = send(client, ("a.jpg", scan))
    if gone == "model":
        change(jobs, "update job set model = 'gone'")
    else:
        next(jobs.store.place.glob("*.upload")).unlink()
    assert jobs.run_next()
    job = show(client, job)
    assert job["state"] == "failed"
    assert job["error"]["code"] in ("unknown-model", "job-images-missing")
    assert results(client, job) == []


def test_a_folder_that_cannot_be_used(models_dir: Path, tmp_path: Path, scan: bytes) -> None:
    occupied = tmp_path / "file"
    occupied.write_bytes(b"")
    client = create_app({"MODELS_DIR": models_dir, "JOBS_DIR": occupied / "jobs"}).test_client()
    response = client.post("/api/jobs", data=ONE, content_type="application/zip")
    assert response.status_code == 503
    assert str(occupied) not in response.get_data(as_text=True)
    assert client.post("/api/predict", data=scan, content_type="image/jpeg").status_code == 200


def test_they_can_be_switched_off(models_dir: Path, tmp_path: Path) -> None:
    app = create_app({"MODELS_DIR": models_dir, "JOBS_DIR": tmp_path / "jobs", "JOBS": "off"})
    assert app.test_client().post("/api/jobs").status_code == 404


# Against gunicorn.

SCANS = 50


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, draw_scan: Callable[..., bytes]) -> Path:
    """A ZIP that takes a second or two, with a bad file in the middle."""
    scans = [draw_scan("PNG", width=700, height=800, spot=0.3 + n * 0.05) for n in range(5)]
    entries = [(f"{number:02}.png", scans[number % 5]) for number in range(SCANS)]
    entries[25] = ("25.png", b"no image")
    path = tmp_path_factory.mktemp("archive") / "scans.zip"
    path.write_bytes(pack(*entries))
    return path


def ask(service: Any, path: str) -> dict[str, Any]:
    """Ask on a new connection, again where a worker has just died."""
    for _ in range(100):
        try:
            answer = service.ask(path)
        except requests.ConnectionError:
            time.sleep(0.05)
        else:
            assert answer.status_code == 200, answer.text
            return answer.json()
    return pytest.fail("There was no answer.")


def wait_until(service: Any, job: str, done: int) -> None:
    while (found := ask(service, f"/api/jobs/{job}"))["done"] < done:
        time.sleep(0.01)
    assert found["done"] < SCANS


def check_results(service: Any, job: str) -> None:
    deadline = time.monotonic() + 60
    while (found := ask(service, f"/api/jobs/{job}"))["state"] != "done":
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    outcomes = ask(service, f"/api/jobs/{job}/results")["predictions"]
    assert [one["filename"] for one in outcomes] == [f"{number:02}.png" for number in range(SCANS)]
    assert [number for number, one in enumerate(outcomes) if "error" in one] == [25]
    for number, one in enumerate(outcomes):  # the same five scans again and again
        if number != 25:
            expected = outcomes[number % 5]["probabilities"]
            assert one["probabilities"] == pytest.approx(expected, abs=1e-5)


def count_predictions(service: Any) -> int:
    pattern = re.compile(r"^tumorapp_predictions_total\{.*\} (\S+)$", re.MULTILINE)
    return sum(int(float(number)) for number in pattern.findall(service.ask("/metrics").text))


@pytest.mark.slow
def test_it_survives_its_workers_and_others_are_answered_meanwhile(
    models_dir: Path, tmp_path: Path, serve: Serve, archive: Path, scan: bytes
) -> None:
    with (
        serve(models_dir, tmp_path, WEB_CONCURRENCY="2") as service,
        Client(service.url) as client,
    ):
        job = client.submit_archive(archive)
        other = client.submit([scan, b"no image"], model="binary-cnn")
        for done in (8, 20):
            wait_until(service, job.id, done)
            assert client.predict(scan).predictions[0].label
            for process in service.workers():
                os.kill(process, signal.SIGKILL)
        check_results(service, job.id)
        other = client.wait(other)
        good, bad = client.results(other).predictions
        assert isinstance(good, Prediction)
        assert isinstance(bad, Failure)
        assert bad.filename == "image 2"
        # What was stored is not predicted again; a batch that was under way may be.
        assert count_predictions(service) <= SCANS + 2 + 2 * 2 * runner.BATCH
        assert list((tmp_path / "jobs").glob("*.upload")) == []
        client.erase(job)
        assert service.ask(f"/api/jobs/{job.id}").status_code == 404


@pytest.mark.slow
def test_another_replica_takes_it_over(
    models_dir: Path, tmp_path: Path, serve: Serve, redis: Any, archive: Path
) -> None:
    config = tmp_path / "hasty.conf.py"
    config.write_text(
        "from pathlib import Path\n"
        "from tumorapp.jobs import redis_store\n"
        "redis_store.SECONDS_OF_LOCK = 1.0\n"
        'exec(Path("gunicorn.conf.py").read_text())\n'
    )

    def start(name: str) -> AbstractContextManager[Any]:
        (folder := tmp_path / name).mkdir()
        return serve(models_dir, folder, str(config), TUMORAPP_REDIS=redis.url)

    with start("a") as first, start("b") as second:
        with Client(first.url) as client:
            job = client.submit_archive(archive).id
        wait_until(second, job, 8)
        survivor, runs = sorted((first, second), key=count_predictions)
        for process in (runs.process.pid, *runs.workers()):
            os.kill(process, signal.SIGKILL)
        before = ask(survivor, f"/api/jobs/{job}")["done"]
        check_results(survivor, job)
        assert count_predictions(survivor) <= SCANS - before


@pytest.mark.slow
def test_it_goes_on_after_a_restart(
    models_dir: Path, tmp_path: Path, serve: Serve, archive: Path
) -> None:
    with serve(models_dir, tmp_path) as service:
        with Client(service.url) as client:
            job = client.submit_archive(archive).id
        wait_until(service, job, 8)
    assert service.process.returncode == 0
    log = service.errors.read_text() + service.output.read_text()
    assert "Traceback" not in log
    assert job not in log
    with serve(models_dir, tmp_path) as service, Client(service.url) as client:
        seen = [client.job(job)]
        client.wait(seen[0], seen.append)
        assert [one.done for one in seen] == sorted(one.done for one in seen)
        assert seen[0].done >= 8
        check_results(service, job)
        assert count_predictions(service) < SCANS - 8
